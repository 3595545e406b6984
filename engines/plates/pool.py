"""Training pictures made once for many networks, on all cores: on a GPU rendering is what takes time, not training.

    python engines/plates/pool.py pack --data ../shared --mistaken mistaken.json --photos photos.npz
    python engines/plates/pool.py render --photos photos.npz --fonts /usr/share/fonts/truetype --pool /dev/shm/plates \
        --workers 14 --seconds 120

`pack` writes the photographs as JPEGs, for a machine that has no `../shared`. `render` makes pictures of several kinds
(`KINDS`), apart for the cars of each fold, so that `together.py` can give each network those that it may see, in any mixture.
"""

from __future__ import annotations

import argparse
import io
import json
import multiprocessing
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from data import FOLDS, fold_of, load_cars, load_others, with_mistaken, with_unlabelled
from PIL import Image
from render import Fonts
from scenes import Photo, SceneMaker, Settings

CHUNK = 64
"""Pictures of a file."""

KINDS: dict[str, tuple[float, dict[str, float]]] = {
    "rendered": (0.36, {"rendered": 0.9, "free": 0.0}),
    "labelled": (0.28, {"rendered": 0.0, "free": 0.0}),
    "none": (0.26, {"free": 1.0}),
    "anything": (0.10, {"free": 1.0, "plated": 0.8}),
}
"""Their share of what is made, and their settings: of cars with rendered plates; with their own; pictures without cars, and such
with rendered plates on anything. A tenth of the cars have their plates painted over in both."""

WITH_CARS = ("rendered", "labelled")


def stream_names() -> list[str]:
    """Of all kinds; those with cars by fold."""
    return [f"{kind}{fold}" for kind in WITH_CARS for fold in range(FOLDS)] + [k for k in KINDS if k not in WITH_CARS]


def pack(arguments: argparse.Namespace) -> None:
    known = json.loads(arguments.mistaken.read_text()) if arguments.mistaken else {}
    cars = with_unlabelled(load_cars(arguments.data))
    others = with_mistaken(load_others(arguments.data, judged=False), known)
    arrays: dict[str, np.ndarray] = {}
    for n, photo in enumerate([*cars, *others]):
        jpeg = io.BytesIO()
        Image.fromarray(photo.pixels).save(jpeg, "JPEG", quality=82)
        arrays[f"jpeg{n}"] = np.frombuffer(jpeg.getvalue(), np.uint8)
        arrays[f"boxes{n}"], arrays[f"mistaken{n}"] = photo.boxes, photo.mistaken
    arrays["names"] = np.array([photo.name for photo in (*cars, *others)])
    arrays["cars"] = np.array(len(cars))
    np.savez(arguments.photos, **arrays)
    print(f"{len(cars)} pictures of cars, {len(others)} others, {arguments.photos.stat().st_size >> 20} MiB")


def load_pack(file: Path) -> tuple[list[Photo], list[Photo]]:
    """The photographs with cars, and the others."""
    with np.load(file) as arrays:
        photos = [
            Photo(
                np.asarray(Image.open(io.BytesIO(arrays[f"jpeg{n}"].tobytes())).convert("RGB")),
                arrays[f"boxes{n}"],
                str(name),
                arrays[f"mistaken{n}"],
            )
            for n, name in enumerate(arrays["names"])
        ]
        return photos[: int(arrays["cars"])], photos[int(arrays["cars"]) :]


def beside_each_other(processes: Any, work: Callable[..., None], calls: Sequence[tuple[Any, ...]]) -> None:
    """Let a new process of its own do each call, and wait for all. processes: `multiprocessing`, or PyTorch's."""
    started = [processes.get_context("spawn").Process(target=work, args=call) for call in calls]
    for process in started:
        process.start()
    for process in started:
        process.join()
        if process.exitcode:
            raise SystemExit(f"a process ended with {process.exitcode}")


def _render(number: int, arguments: argparse.Namespace) -> None:
    """A worker: chunks of all kinds in turn, as often as their shares say."""
    cv2.setNumThreads(0)
    began = time.monotonic()
    cars, others = load_pack(arguments.photos)
    fonts, rng = Fonts(arguments.fonts), np.random.default_rng((arguments.seed, number))
    makers: dict[str, SceneMaker] = {}
    shares: dict[str, float] = {}
    for kind, (share, settings) in KINDS.items():
        folds = range(FOLDS) if kind in WITH_CARS else [None]
        for fold in folds:
            name = kind if fold is None else f"{kind}{fold}"
            own = [photo for photo in cars if fold_of(photo.name) == fold]
            makers[name] = SceneMaker(own, others, fonts, Settings(side_px=arguments.side, **settings))
            shares[name] = share / len(folds)
    names, made = list(makers), 0
    while time.monotonic() - began < arguments.seconds:
        name = names[rng.choice(len(names), p=np.array([shares[n] for n in names]) / sum(shares.values()))]
        samples = zip(*(makers[name].sample(rng).arrays() for _ in range(CHUNK)), strict=True)
        pixels, quads, there, exact = (np.stack(arrays) for arrays in samples)
        partial = arguments.pool / f"{name}-{number}-{made}.partial"
        with partial.open("wb") as file:
            np.savez(file, pixels=pixels, quads=quads, there=there, exact=exact)
        partial.replace(partial.with_suffix(".npz"))
        made += 1


def render(arguments: argparse.Namespace) -> None:
    arguments.pool.mkdir(parents=True, exist_ok=True)
    beside_each_other(multiprocessing, _render, [(n, arguments) for n in range(arguments.workers)])
    print(f"{CHUNK * len(list(arguments.pool.glob('*.npz')))} pictures")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    packing = commands.add_parser("pack")
    packing.add_argument("--data", type=Path, default=Path("../shared"))
    packing.add_argument("--mistaken", type=Path, help="what an earlier network took for plates, from mistaken.py")
    packing.add_argument("--photos", type=Path, required=True)
    packing.set_defaults(run=pack)
    rendering = commands.add_parser("render")
    rendering.add_argument("--photos", type=Path, required=True)
    rendering.add_argument("--fonts", type=Path, action="append", required=True)
    rendering.add_argument("--pool", type=Path, required=True)
    rendering.add_argument("--side", type=int, default=416)
    rendering.add_argument("--seconds", type=float, default=120)
    rendering.add_argument("--workers", type=int, default=multiprocessing.cpu_count())
    rendering.add_argument("--seed", type=int, default=1)
    rendering.set_defaults(run=render)
    arguments = parser.parse_args()
    arguments.run(arguments)


if __name__ == "__main__":
    main()
