"""Train the networks of all folds, the final one and ablations at once on a GPU, from the pictures of `pool.py`.

    python engines/plates/together.py --pool /dev/shm/plates --out build/plates --run main,base:100 --run ablations:70

Every network of a run takes as many steps as the others, for the same seconds: they are trained in turn, step by step, in
several processes beside each other. Networks of the folds see no picture made from a car of their fold.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from data import FOLDS
from pool import WITH_CARS, beside_each_other, stream_names
from torch import Tensor
from train import BASE, FINAL, NAMES, Learner, varied

FOLDS_AND_FINAL = (*range(FOLDS), FINAL)


@dataclass(frozen=True)
class Network:
    """What one network sees: shares of the kinds of pictures, the side of the square that it is given; `start` of a network."""

    name: str
    fold: int
    kinds: dict[str, float]
    side: int | None = None
    start: str | None = None

    def chances(self, streams: list[str]) -> list[float]:
        """How likely a picture is of each stream."""
        folds = [fold for fold in range(FOLDS) if fold != self.fold]
        chances = dict.fromkeys(streams, 0.0)
        for kind, share in self.kinds.items():
            names = [f"{kind}{fold}" for fold in folds] if kind in WITH_CARS else [kind]
            for name in names:
                chances[name] += share / len(names)
        return list(chances.values())


MIXTURE = {"rendered": 0.26, "labelled": 0.39, "none": 0.35}
SMALL = 320
"""Of ablations, so that they see more pictures in their time."""

ABLATIONS: dict[str, tuple[dict[str, float], int | None, str | None]] = {
    "as-it-is": (MIXTURE, SMALL, None),
    "side-416": (MIXTURE, None, None),
    "no-rendered": ({"labelled": 0.65, "none": 0.35}, SMALL, None),
    "only-rendered": ({"rendered": 0.65, "none": 0.35}, SMALL, None),
    "on-anything": ({"rendered": 0.26, "labelled": 0.39, "none": 0.15, "anything": 0.2}, SMALL, None),
    "no-others": ({"rendered": 0.4, "labelled": 0.6}, SMALL, None),
    "from-base": (MIXTURE, SMALL, "base"),
}
"""What `Network` says of each."""


def networks_of(run: str) -> list[Network]:
    """`main`: the folds' and the final one. `base`: which sees no car. `ablations`: the folds' of each."""
    if run == "base":
        return [Network("base", BASE, {"none": 0.5, "anything": 0.5})]
    if run == "main":
        return [Network(NAMES[fold], fold, MIXTURE) for fold in FOLDS_AND_FINAL]
    if run != "ablations":
        raise SystemExit(f"no networks are called {run}: main, base or ablations")
    return [Network(f"{name}/{NAMES[fold]}", fold, *what) for name, what in ABLATIONS.items() for fold in range(FOLDS)]


@dataclass
class Streams:
    """All pictures of a pool on the GPU, stream by stream."""

    pixels: Tensor  # (N, S, S, 3) uint8
    quads: Tensor
    there: Tensor
    exact: Tensor
    first: Tensor  # (streams + 1,)

    @classmethod
    def load(cls, pool: Path, device: torch.device) -> Streams:
        chunks = {name: sorted(pool.glob(f"{name}-*.npz")) for name in stream_names()}
        empty = [name for name, files in chunks.items() if not files]
        if empty:
            raise SystemExit(f"{pool} has no pictures of {', '.join(empty)}: let pool.py render for longer")
        parts: dict[str, list[Tensor]] = {name: [] for name in ("pixels", "quads", "there", "exact")}
        counts = [0]
        for files in chunks.values():
            count = 0
            for file in files:
                with np.load(file) as arrays:
                    for name, tensors in parts.items():
                        tensors.append(torch.from_numpy(arrays[name]).to(device))
                    count += len(parts["there"][-1])
            counts.append(counts[-1] + count)
        return cls(**{n: torch.cat(t) for n, t in parts.items()}, first=torch.tensor(counts, device=device))

    def draw(self, chances: Tensor, batch: int, side: int | None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """A batch, varied; of a part of each picture where a smaller side is wanted."""
        stream = torch.multinomial(chances, batch, replacement=True)
        count = self.first[stream + 1] - self.first[stream]
        index = self.first[stream] + (torch.rand(batch, device=count.device) * count).long()
        pixels, quads, there = self.pixels[index], self.quads[index].clone(), self.there[index]
        if side is not None and side < pixels.shape[1]:
            room = pixels.shape[1] - side
            top, left = (int(n) for n in torch.randint(room + 1, (2,)))
            pixels = pixels[:, top : top + side, left : left + side]
            quads -= torch.tensor((left, top), device=quads.device)
            middle = quads.mean(2)
            there = there & (middle > 0).all(-1) & (middle < side).all(-1)
        return varied(pixels, quads, there, self.exact[index])


def work(number: int, arguments: argparse.Namespace, networks: list[Network], streams: Streams, seconds: float) -> None:
    """A process: its networks in turn, a step each."""
    device = streams.pixels.device
    torch.manual_seed(arguments.seed + number)
    torch.set_num_threads(1)
    names, learners, chances = stream_names(), [], []
    for network in networks:
        learner = Learner(device, arguments.rate)
        if network.start is not None:
            weights = arguments.out / network.start / "weights.pt"
            learner.start(torch.load(weights, map_location=device, weights_only=True))
        learners.append(learner)
        chances.append(torch.tensor(network.chances(names), device=device))
    histories: list[list[dict[str, float]]] = [[] for _ in networks]
    began = time.monotonic()
    while (share := (time.monotonic() - began) / seconds) < 1:
        for network, learner, chance in zip(networks, learners, chances, strict=True):
            learner.learn(*streams.draw(chance, arguments.batch, network.side), share)
        if learners[0].step % 20 == 0 and device.type == "cuda":
            torch.cuda.synchronize()  # else the host runs ahead, and the schedule with it
        if share * 12 > len(histories[0]) + 1:
            for learner, history in zip(learners, histories, strict=True):
                history.append({"seconds": share * seconds, **learner.figures()})
    for network, learner, history in zip(networks, learners, histories, strict=True):
        folder = arguments.out / network.name
        folder.mkdir(parents=True, exist_ok=True)
        torch.save(learner.mean, folder / "weights.pt")
        (folder / "history.json").write_text(json.dumps(history, indent=1) + "\n")
        print(f"{network.name}: {learner.step} steps, {history[-1] if history else ''}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pool", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("build/plates"))
    parser.add_argument(
        "--run", action="append", required=True, metavar="main,base,ablations:SECONDS", help="repeatable, in turn"
    )
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--processes", type=int, default=7)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    streams = Streams.load(arguments.pool, torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    print(f"{len(streams.pixels)} pictures", flush=True)
    for run in arguments.run:
        names, _, seconds = run.partition(":")
        networks = [network for name in names.split(",") for network in networks_of(name)]
        count = min(arguments.processes, len(networks))
        if count == 1:
            work(0, arguments, networks, streams, float(seconds))
            continue
        calls = [(n, arguments, networks[n::count], streams, float(seconds)) for n in range(count)]
        beside_each_other(torch.multiprocessing, work, calls)


if __name__ == "__main__":
    main()
