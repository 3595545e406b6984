"""The pictures of a calibration: a sample that a seed decides, in the form that the detector takes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from trt_anon.config import Scale
from trt_anon.detect.base import Family
from trt_anon.errors import InputError
from trt_anon.evaluate.pictures import load_frame
from trt_anon.preprocess.letterbox_cpu import letterbox_cpu
from trt_anon.preprocess.views import plan_views
from trt_anon.runtime.base import Tensor


@dataclass(frozen=True, slots=True)
class Prepared:
    """A detector's own preprocessing: its family's input, and the passes over each picture."""

    family: Family
    scales: tuple[Scale, ...]
    input_name: str
    flip: bool = False

    def feeds(self, paths: Sequence[Path]) -> Iterator[dict[str, Tensor]]:
        """Every pass over every picture, as the folded network takes it. Raises InputError for an unreadable one."""
        for path in paths:
            frame = load_frame(path)
            key = (frame.width_px, frame.height_px, frame.orientation, frame.pixel_aspect)
            spec = self.family.input_spec
            for view in plan_views(*key, self.scales, spec, flip=self.flip):
                yield {self.input_name: letterbox_cpu(view.of(frame), view.plan, spec)[np.newaxis]}

    def few(self, paths: Sequence[Path], count: int) -> list[dict[str, Tensor]]:
        """Feeds of as few different sizes as there can be, for what is run again and again."""
        by_size: dict[tuple[int, ...], list[dict[str, Tensor]]] = {}
        for feed in self.feeds(paths):
            by_size.setdefault(feed[self.input_name].shape, []).append(feed)
        ordered = sorted(by_size.items(), key=lambda item: (-len(item[1]), item[0]))
        return [feed for _, feeds in ordered for feed in feeds][:count]


def sample(paths: Sequence[Path], count: int, seed: int) -> tuple[list[Path], list[Path]]:
    """`count` of the paths, and the rest, both in the order given; a seed always chooses the same."""
    order = np.random.default_rng(seed).permutation(len(paths))
    chosen = {int(place) for place in order[:count]}
    return (
        [path for place, path in enumerate(paths) if place in chosen],
        [path for place, path in enumerate(paths) if place not in chosen],
    )


def content_hashes(paths: Sequence[Path]) -> list[str]:
    """The SHA-256 of each file. Raises InputError for one that cannot be read."""
    hashes = []
    for path in paths:
        try:
            with path.open("rb") as file:
                hashes.append(hashlib.file_digest(file, "sha256").hexdigest())
        except OSError as error:
            raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    return hashes


def set_hash(hashes: Sequence[str]) -> str:
    """One hash of a set of files, whatever their names and order."""
    return hashlib.sha256("\n".join(sorted(hashes)).encode()).hexdigest()
