"""What a calibration is given: pictures to take ranges from, and others, labelled, to measure recall on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from trt_anon.calibrate.pictures import content_hashes, sample
from trt_anon.calibrate.settings import CalibrateConfig
from trt_anon.errors import UsageError
from trt_anon.evaluate.dataset import LabelledImage, LabelSet
from trt_anon.evaluate.folder import pictures_in
from trt_anon.evaluate.read import read_labels

FEWEST_JUDGED = 16
"""Recall of fewer pictures says nothing."""


@dataclass(frozen=True, slots=True)
class Data:
    """ranges: pictures to calibrate on, with the hash of each. judged: pictures with labels, none of them among those;
    without any (`labelled` False) the labels are still to be made. shared: how many were left out of `judged` because
    they are among `ranges`, too.
    """

    ranges: tuple[Path, ...]
    hashes: tuple[str, ...]
    judged: LabelSet
    labelled: bool
    shared: int = 0


def read_data(
    source: Path | LabelSet, config: CalibrateConfig, classes: Sequence[str], labels: LabelSet | None = None
) -> Data:
    """Divide pictures into those for ranges and those for recall; a seed always divides alike.

    source: a folder of images, or labels in any form that `read_labels` knows. labels: measure recall on these, and
    take ranges from `source` alone. Raises InputError for files that cannot be read, UsageError for too few pictures.
    """
    own = source if isinstance(source, LabelSet) else None
    if isinstance(source, Path) and labels is None and is_labelled(source):
        own = read_labels(source, classes=tuple(classes))
    paths = [image.path for image in own.images] if own is not None else _pictures(source, tuple(classes))
    if labels is not None:
        ranges, _ = sample(paths, config.images, config.seed)
        hashes = content_hashes(ranges)
        known = set(hashes)
        theirs = content_hashes([image.path for image in labels.images])
        kept = [image for image, one in zip(labels.images, theirs, strict=True) if one not in known]
        judged, labelled = replace(labels, images=tuple(kept)), True
        return _checked(Data(tuple(ranges), tuple(hashes), judged, labelled, len(theirs) - len(kept)))
    ranges, rest = sample(paths, min(config.images, len(paths) // 2), config.seed)
    hashes = content_hashes(ranges)
    if own is None:
        judged = LabelSet(tuple(map(_unlabelled, rest)), tuple(classes), tuple(classes))
    else:
        others = set(rest)
        judged = replace(own, images=tuple(image for image in own.images if image.path in others))
    return _checked(Data(tuple(ranges), tuple(hashes), judged, own is not None))


def is_labelled(path: Path) -> bool:
    """Whether there are labels at a path, and not just pictures."""
    return path.is_file() or any(
        found is not None
        for found in (
            next(path.glob("annotations.json"), None),
            next(path.glob("labels/*.txt"), None),
            next(path.rglob("*.xml"), None),
        )
    )


def _checked(data: Data) -> Data:
    if len(data.judged.images) < FEWEST_JUDGED:
        raise UsageError(
            f"only {len(data.judged.images)} pictures are left to measure recall on, at least {FEWEST_JUDGED} are "
            "needed; give more, or labelled ones of their own with --labels"
        )
    return data


def _pictures(source: Path | LabelSet, classes: tuple[str, ...]) -> list[Path]:
    if isinstance(source, LabelSet) or source.is_file():
        labels = source if isinstance(source, LabelSet) else read_labels(source, classes=classes)
        return [image.path for image in labels.images]
    return pictures_in(source)


def _unlabelled(path: Path) -> LabelledImage:
    nothing = np.zeros(0, np.int64)
    none = np.zeros(0, np.bool_)
    return LabelledImage(path.name, path, None, np.zeros((0, 4)), nothing, nothing, none, none, nothing)
