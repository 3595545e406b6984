"""Train the plate detector: one command, seeds fixed, resumed where it stopped.

    python engines/plates/train.py --data ../shared --fonts /usr/share/fonts/truetype --out build/plates --seconds 3600

trains the networks of all folds and the final one, one after the other; `--network fold0` one of them. `--network base` trains
on rendered plates alone, without any picture of a car, so that the networks of all folds may start from it (`--start`).
`--seconds` is the schedule of one network: the learning rate follows it, so a faster machine sees more pictures. On a GPU if
there is one. Then `judge.py` measures each real picture with the network that has not seen it, and `export.py` writes the ONNX
file.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import torch
from data import FOLDS, fold_of, load_cars, load_others, with_mistaken, with_unlabelled
from losses import losses
from network import PlateNet
from render import Fonts
from scenes import MOST_PLATES, SceneMaker, Settings
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

FINAL, BASE = -1, -2
NAMES = {FINAL: "final", BASE: "base"} | {fold: f"fold{fold}" for fold in range(FOLDS)}
"""Folders of networks: of the folds; the final one, which sees every picture; the base, which sees no car."""

SHARES = ("rendered", "painted_over", "elsewhere", "free", "plated", "signs", "mosaic")
"""Of `scenes.Settings`, what can be chosen here."""


class Scenes(IterableDataset):  # type: ignore[type-arg]
    """Samples without end; each worker has a stream of its own."""

    def __init__(self, data: Path, fonts: list[Path], fold: int, settings: Settings, seed: int, mistaken: Path | None):
        self.data, self.fonts, self.fold, self.settings, self.seed = data, fonts, fold, settings, seed
        self.mistaken: dict[str, list[list[float]]] = json.loads(mistaken.read_text()) if mistaken else {}

    def __iter__(self) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]:
        cv2.setNumThreads(0)
        worker = get_worker_info()
        rng = np.random.default_rng((self.seed, 0 if worker is None else worker.id))
        cars = [] if self.fold == BASE else with_unlabelled(load_cars(self.data))
        cars = [photo for photo in cars if fold_of(photo.name) != self.fold]
        others = with_mistaken(load_others(self.data, judged=False), self.mistaken)
        maker = SceneMaker(cars, others, Fonts(self.fonts), self.settings)
        while True:
            yield maker.sample(rng).arrays()


class Pool:
    """Samples on the device, the oldest replaced as new ones come; batches are drawn from all of them."""

    def __init__(self, loader: Iterator[list[Tensor]], size: int, side: int, device: torch.device) -> None:
        self.loader, self.size, self.count, self.next, self.device = loader, size, 0, 0, device
        self.pixels = torch.zeros((size, side, side, 3), dtype=torch.uint8, device=device)
        self.quads = torch.zeros((size, MOST_PLATES, 4, 2), device=device)
        self.there = torch.zeros((size, MOST_PLATES), dtype=torch.bool, device=device)
        self.exact = torch.zeros((size, MOST_PLATES), dtype=torch.bool, device=device)
        self.seen = 0

    def refill(self, batches: int = 1) -> None:
        for _ in range(batches):
            parts = next(self.loader)
            places = (torch.arange(len(parts[0])) + self.next) % self.size
            for target, values in zip((self.pixels, self.quads, self.there, self.exact), parts, strict=True):
                target[places.to(self.device)] = values.to(self.device, non_blocking=True)
            self.next = (self.next + len(places)) % self.size
            self.count = min(self.count + len(places), self.size)
            self.seen += len(places)

    def draw(self, batch: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """A batch, mirrored by halves and shifted in brightness, so that a sample drawn again is another one."""
        index = torch.randint(self.count, (batch,), device=self.device)
        return varied(self.pixels[index], self.quads[index].clone(), self.there[index], self.exact[index])


def varied(pixels: Tensor, quads: Tensor, there: Tensor, exact: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Pictures (N, S, S, 3) uint8 as (N, 3, S, S) float, half of them mirrored, each somewhat brighter or darker."""
    batch, device = len(pixels), pixels.device
    values = pixels.permute(0, 3, 1, 2).float()
    mirrored = torch.rand(batch, device=device) < 0.5
    values = torch.where(mirrored[:, None, None, None], values.flip(3), values)
    turned = quads[:, :, [1, 0, 3, 2]].clone()
    turned[..., 0] = values.shape[3] - turned[..., 0]
    quads = torch.where(mirrored[:, None, None, None], turned, quads)
    gain = torch.empty((batch, 3, 1, 1), device=device).uniform_(0.85, 1.15)
    shift = torch.empty((batch, 1, 1, 1), device=device).uniform_(-20, 20)
    return (values * gain + shift).clamp(0, 255), quads, there, exact


class Learner:
    """A network, its optimizer, and the running mean of its weights, which is what is kept. rate: at its highest."""

    def __init__(self, device: torch.device, rate: float) -> None:
        self.device, self.rate = device, rate
        self.fast = device.type == "cuda" or bool(torch.cpu.get_capabilities().get("avx512_bf16"))
        self.net = PlateNet().to(device, memory_format=torch.channels_last)
        decayed = [p for p in self.net.parameters() if p.ndim > 1]
        others = [p for p in self.net.parameters() if p.ndim <= 1]
        groups = [{"params": decayed, "weight_decay": 0.02}, {"params": others, "weight_decay": 0.0}]
        self.optimizer = torch.optim.AdamW(groups, lr=rate, fused=device.type == "cuda")
        self.mean = {name: value.detach().clone() for name, value in self.net.state_dict().items()}
        self.step = 0
        self._totals: dict[str, Tensor] = {}
        self._counted = 0

    def start(self, weights: dict[str, Tensor]) -> None:
        """Go on from these weights."""
        self.net.load_state_dict(weights)
        self.mean = {name: value.detach().clone() for name, value in self.net.state_dict().items()}

    def rate_at(self, share: float) -> float:
        """The rate of the next step, where this share of the schedule is over: a warm-up, then half a cosine."""
        return self.rate * min((self.step + 1) / 200, 0.5 * (1 + math.cos(math.pi * share)) + 0.01)

    def learn(self, pixels: Tensor, quads: Tensor, there: Tensor, exact: Tensor, share: float) -> None:
        """One step, where this share of the schedule is over."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate_at(share)
        self.net.train()
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.fast):
            made = self.net(pixels.contiguous(memory_format=torch.channels_last))
        parts = losses(made, quads, there, exact, (pixels.shape[2], pixels.shape[3]))
        self.optimizer.zero_grad(set_to_none=True)
        torch.stack(list(parts.values())).sum().backward()
        torch.nn.utils.clip_grad_norm_(self.net.parameters(), 10.0)
        self.optimizer.step()
        self.step += 1
        decay = min(0.998, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            current = self.net.state_dict()
            floats = [name for name, value in self.mean.items() if value.dtype.is_floating_point]
            torch._foreach_lerp_([self.mean[n] for n in floats], [current[n] for n in floats], 1 - decay)
        for name, value in parts.items():
            self._totals[name] = self._totals.get(name, torch.zeros((), device=self.device)) + value.detach()
        self._counted += 1

    def figures(self) -> dict[str, float]:
        """The parts of the loss, their means since this was asked last; and the step and its rate."""
        means = {name: float(value) / self._counted for name, value in self._totals.items()}
        self._totals, self._counted = {}, 0
        return {"step": self.step, "rate": self.optimizer.param_groups[0]["lr"], **means}


def train(arguments: argparse.Namespace, fold: int) -> None:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(arguments.seed)
    shares = {name: getattr(arguments, name) for name in SHARES}
    settings = Settings(side_px=arguments.side, **shares)
    seed = arguments.seed + 1000 * (fold + 1) if fold >= FINAL else arguments.seed + 1000 * (FOLDS + 1)
    scenes = Scenes(arguments.data, arguments.fonts, fold, settings, seed, arguments.mistaken)
    loader = DataLoader(scenes, batch_size=16, num_workers=arguments.workers, pin_memory=device.type == "cuda")
    learner = Learner(device, arguments.rate)
    if arguments.start is not None:
        own = arguments.start / NAMES[fold] / "weights.pt"
        start = own if own.exists() else arguments.start / NAMES[BASE] / "weights.pt"
        learner.start(torch.load(start, map_location=device, weights_only=True))
    folder = arguments.out / NAMES[fold]
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint, spent = folder / "checkpoint.pt", 0.0
    history: list[dict[str, float]] = []
    if checkpoint.exists():
        state = torch.load(checkpoint, map_location=device, weights_only=True)
        learner.net.load_state_dict(state["net"])
        learner.optimizer.load_state_dict(state["optimizer"])
        learner.mean, learner.step, spent, history = state["mean"], state["step"], state["spent"], state["history"]
    pool = Pool(iter(loader), arguments.pool, arguments.side, device)
    pool.refill(max(arguments.batch // 16, 1) * 2)
    began = last = saved = time.monotonic()
    while (share := (spent + time.monotonic() - began) / arguments.seconds) < 1:
        if learner.step % arguments.fresh == 0 and share < 0.97:
            pool.refill()
        learner.learn(*pool.draw(arguments.batch), share)
        now = time.monotonic()
        if now - last > arguments.report:
            history.append({"seconds": spent + now - began, "seen": pool.seen, **learner.figures()})
            shown = ", ".join(f"{name} {value:.3g}" for name, value in history[-1].items())
            print(f"{folder.name}: {share:5.1%}, {shown}", flush=True)
            last = now
        if now - saved > arguments.save:
            _save(checkpoint, learner, spent + now - began, history)
            saved = now
    _save(checkpoint, learner, float(arguments.seconds), history)
    torch.save(learner.mean, folder / "weights.pt")
    (folder / "history.json").write_text(json.dumps(history, indent=1) + "\n")


def _save(path: Path, learner: Learner, spent: float, history: list[dict[str, float]]) -> None:
    state = {"net": learner.net.state_dict(), "optimizer": learner.optimizer.state_dict(), "mean": learner.mean}
    partial = path.with_suffix(".partial")
    torch.save({**state, "step": learner.step, "spent": spent, "history": history}, partial)
    partial.replace(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared"))
    parser.add_argument("--fonts", type=Path, action="append", required=True)
    parser.add_argument("--out", type=Path, default=Path("build/plates"))
    parser.add_argument("--network", choices=sorted(NAMES.values()))
    parser.add_argument("--seconds", type=float, default=3600)
    parser.add_argument("--side", type=int, default=416)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--pool", type=int, default=20000)
    parser.add_argument("--fresh", type=int, default=4, help="steps between two refills of 16 new pictures")
    parser.add_argument(
        "--start",
        type=Path,
        help="an earlier --out: each network goes on from its own weights there, else from the base's",
    )
    parser.add_argument("--mistaken", type=Path, help="what an earlier network took for plates, from mistaken.py")
    for name in SHARES:
        parser.add_argument(f"--{name.replace('_', '-')}", type=float, default=getattr(Settings, name), metavar="SHARE")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--report", type=float, default=15, help="seconds between two lines")
    parser.add_argument("--save", type=float, default=120, help="seconds between two checkpoints")
    arguments = parser.parse_args()
    for fold, name in NAMES.items():
        if arguments.network == name or (arguments.network is None and fold != BASE):
            train(arguments, fold)


if __name__ == "__main__":
    main()
