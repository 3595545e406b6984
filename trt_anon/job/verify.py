"""A second look at what was written: another detector, more sensitive, at a larger scale, and the original beside."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from trt_anon.config import AnonymizeConfig, Scale
from trt_anon.errors import InputError, ModelMissing, VerificationFailed
from trt_anon.job.compare import TOLERANCE_SECONDS, compare_sound
from trt_anon.job.device_detection import for_a_cpu
from trt_anon.media import MediaInfo
from trt_anon.metrics.readable import Luma, is_readable, is_untouched, upright_luma
from trt_anon.models.recipe import Recipe
from trt_anon.models.registry import Registry
from trt_anon.pipeline.detection import FrameDetector
from trt_anon.pipeline.loop import detect_frames
from trt_anon.source.base import Source
from trt_anon.source.images import ImageSource
from trt_anon.source.probe import sniff
from trt_anon.source.pyav import PyAVSource
from trt_anon.types import Detections, Frame

LARGER = 1.5
"""How much larger each pass is than the detector's own, up to `_MAX_SIDE_PX`."""

LOWER = 0.6
"""The threshold, as a share of the detector's own."""

_SURE = 0.35
_MAX_SIDE_PX = 2560
_MAX_FACTOR = 2.0  # beyond, detectors find faces in nothing

_JOIN_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Finding:
    """A stretch of a file in which an object of a class can be read. Seconds are None in a picture; no coordinates."""

    class_name: str
    start_seconds: float | None
    end_seconds: float | None
    first_frame: int
    last_frame: int
    frames: int

    def __str__(self) -> str:
        what = self.class_name.replace("_", " ")
        if self.start_seconds is None or self.end_seconds is None:
            return f"{what} in picture {self.first_frame}"
        return f"{what} from {self.start_seconds:.3f} to {self.end_seconds:.3f} s ({self.frames} frames)"

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "class": self.class_name,
            "start_seconds": None if self.start_seconds is None else round(self.start_seconds, 3),
            "end_seconds": None if self.end_seconds is None else round(self.end_seconds, 3),
            "first_frame": self.first_frame,
            "last_frame": self.last_frame,
            "frames": self.frames,
        }


@dataclass(frozen=True, slots=True)
class Verification:
    """What a second look found.

    seen: residual detections per class. unreadable: those of them that are redacted already. leaks: what can be read
    and is surely an object; suspects: what may be one and is often nothing. faults: what is no longer as in the
    original. notes: what differs by choice. detectors: names of those that looked.
    """

    frames: int
    compared: bool
    seen: Mapping[str, int]
    unreadable: Mapping[str, int]
    leaks: tuple[Finding, ...] = ()
    suspects: tuple[Finding, ...] = ()
    faults: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    detectors: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether nothing leaks and nothing is at fault."""
        return not self.leaks and not self.faults

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON: times and counts, no coordinates."""
        return {
            "passed": self.passed,
            "frames": self.frames,
            "compared_with_original": self.compared,
            "detectors": list(self.detectors),
            "residual_detections": dict(self.seen),
            "of_them_unreadable": dict(self.unreadable),
            "leaks": [finding.to_dict() for finding in self.leaks],
            "suspects": [finding.to_dict() for finding in self.suspects],
            "faults": list(self.faults),
            "notes": list(self.notes),
        }

    def check(self, path: Path) -> None:
        """Raise VerificationFailed, naming times, where it did not pass."""
        if not self.passed:
            words = [f"leak: {finding}" for finding in self.leaks] + list(self.faults)
            more = f"; and {len(words) - 8} more" if len(words) > 8 else ""
            raise VerificationFailed(f"{path} failed verification: " + "; ".join(words[:8]) + more)


@dataclass
class _Tally:
    """Counts, and stretches of time under way, by class."""

    seen: Counter[str] = field(default_factory=Counter)
    unreadable: Counter[str] = field(default_factory=Counter)
    leaks: list[Finding] = field(default_factory=list)
    suspects: list[Finding] = field(default_factory=list)

    def add(self, findings: list[Finding], class_name: str, frame: Frame) -> None:
        """Lengthen the class's last stretch, or begin a new one."""
        at = frame.pts_seconds
        for place in range(len(findings) - 1, -1, -1):
            last = findings[place]
            if last.class_name != class_name:
                continue
            near = last.last_frame == frame.index or (
                at is not None and last.end_seconds is not None and at - last.end_seconds <= _JOIN_SECONDS
            )
            if near:
                new = int(last.last_frame != frame.index)
                findings[place] = Finding(
                    class_name, last.start_seconds, at, last.first_frame, frame.index, last.frames + new
                )
                return
            break
        findings.append(Finding(class_name, at, at, frame.index, frame.index, 1))


class Verifier:
    """Second detectors, loaded; each file is verified apart.

    config: what the first look was made with. recipes: those it used; where another detector for a class is on this
    machine, that one looks now. every: looks at each frame of so many.
    """

    def __init__(
        self, config: AnonymizeConfig, registry: Registry, first: Sequence[str] = (), *, every: int = 1
    ) -> None:
        recipes = second_recipes(config, registry, first)
        self._config = config
        self._every = every
        self.names = tuple(recipe.name for recipe in recipes)
        lowered = [recipe.model_copy(update={"threshold": LOWER * recipe.threshold}) for recipe in recipes]
        detect = config.detect.model_copy(update={"threshold": None, "detectors": ()})
        own = {name: min(r.threshold for r in recipes if name in r.classes) for name in config.detect.classes}
        self._sure = {name: threshold + _SURE * (1 - threshold) for name, threshold in own.items()}
        self._detector = FrameDetector.load(for_a_cpu(config).model_copy(update={"detect": detect}), registry, lowered)

    def __enter__(self) -> Verifier:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Free the detectors."""
        self._detector.close()

    def verify(
        self, redacted: Path, original: Path | None = None, on_frame: Callable[[int], None] | None = None
    ) -> Verification:
        """Look at every frame of a redacted file, and at the original's if there is one.

        A residual detection leaks if it can be read: with the original, if its fine detail is still there; without, by
        the detail that it has. With the original, each object that the second detector finds there must be destroyed as
        well. Raises InputError where a file cannot be read.
        """
        tally = _Tally()
        faults: list[str] = []
        notes: list[str] = []
        frames = 0
        kinds = sniff(redacted), None if original is None else sniff(original)
        if kinds[0] is None or (original is not None and kinds[1] != kinds[0]):
            raise InputError(f"{redacted} is no image or video, or another kind of file than its original")
        opened = [_open(redacted, kinds[0], self._config)]
        try:
            if original is not None:
                opened.append(_open(original, kinds[0], self._config))
                if _sizes(opened[0].info) != _sizes(opened[1].info):
                    raise InputError(f"{redacted} and {original} show pictures of different sizes")
            looks = [
                detect_frames(_EachNth(source, self._every), self._detector, self._config.pipeline) for source in opened
            ]
            apart = 0.0
            for pair in itertools.zip_longest(*looks):
                if pair[0] is None or pair[-1] is None:
                    faults.append("the number of frames is not the original's")
                    break
                frames += 1
                frame, found = pair[0]
                before = pair[1] if original is not None else None
                if before is not None and frame.pts_seconds is not None and before[0].pts_seconds is not None:
                    apart = max(apart, abs(frame.pts_seconds - before[0].pts_seconds))
                self._look(tally, frame, found, before)
                if on_frame is not None:
                    on_frame(frames)
            if apart > TOLERANCE_SECONDS:
                faults.append(f"frames are shown up to {apart:.3f} s apart from the original's times")
        finally:
            for source in opened:
                source.close()
        if original is not None and kinds[0] == "video":
            heard = compare_sound(original, redacted)
            faults += heard[0]
            notes += heard[1]
        return Verification(
            frames,
            original is not None,
            dict(tally.seen),
            dict(tally.unreadable),
            tuple(tally.leaks),
            tuple(tally.suspects),
            tuple(faults),
            tuple(notes),
            self.names,
        )

    def _look(self, tally: _Tally, frame: Frame, found: Detections, before: tuple[Frame, Detections] | None) -> None:
        if not len(found) and (before is None or not len(before[1])):
            return
        luma = upright_luma(frame)
        clear = None if before is None else upright_luma(before[0])
        for box, score, class_id in zip(found.boxes_xyxy_px, found.scores, found.class_ids, strict=True):
            name = found.class_names[class_id]
            tally.seen[name] += 1
            if is_untouched(clear, luma, box) if clear is not None else is_readable(luma, box):
                sure = float(score) >= self._sure[name]
                tally.add(tally.leaks if sure else tally.suspects, name, frame)
            else:
                tally.unreadable[name] += 1
        if before is not None and clear is not None:
            self._check_destroyed(tally, frame, before[1], clear, luma)

    def _check_destroyed(self, tally: _Tally, frame: Frame, objects: Detections, clear: Luma, luma: Luma) -> None:
        """Each object that is surely in the original must be destroyed."""
        for box, score, class_id in zip(objects.boxes_xyxy_px, objects.scores, objects.class_ids, strict=True):
            name = objects.class_names[class_id]
            if float(score) >= self._sure[name] and is_untouched(clear, luma, box):
                tally.add(tally.leaks, name, frame)


def second_recipes(config: AnonymizeConfig, registry: Registry, first: Sequence[str] = ()) -> list[Recipe]:
    """For each class a detector that is on this machine, another than those in `first` where there is one.

    Of detectors that the configuration names, one of those. Each is used as under the preset `thorough`, at a larger
    scale. Raises ModelMissing where no detector is here.
    """
    chosen: list[Recipe] = []
    named = [registry.get(name) for name in config.detect.detectors]
    for class_name in config.detect.classes:
        finds = [recipe for recipe in named or registry.recipes() if class_name in recipe.classes]
        here = [recipe for recipe in finds if registry.state(recipe) == "ready"]
        if not here:
            raise ModelMissing(f"no detector for {class_name!r} is on this machine; see: trt-anon models list")
        here.sort(key=lambda recipe: (recipe.name in first, class_name not in recipe.default_for))
        if here[0] not in chosen:
            chosen.append(here[0])
    used = [recipe.under("thorough") for recipe in chosen]
    return [recipe.model_copy(update={"scales": tuple(map(_larger, recipe.scales))}) for recipe in used]


def _larger(scale: Scale) -> Scale:
    bounds = scale.min_long_side_px, scale.max_long_side_px
    low, high = (None if side is None else min(_MAX_SIDE_PX, round(LARGER * side)) for side in bounds)
    return scale.model_copy(update={"min_long_side_px": low, "max_long_side_px": high, "max_factor": _MAX_FACTOR})


class _EachNth:
    """A source of each n-th frame of another."""

    def __init__(self, source: Source, every: int) -> None:
        self._source, self._step = source, every

    @property
    def info(self) -> MediaInfo:
        return self._source.info

    def __iter__(self) -> Iterator[Frame]:
        return (frame for frame in self._source if frame.index % self._step == 0)

    def close(self) -> None:
        self._source.close()


def _open(path: Path, kind: str, config: AnonymizeConfig) -> Source:
    return ImageSource(path) if kind == "image" else PyAVSource(path, threads=config.runtime.threads)


def _sizes(info: MediaInfo) -> tuple[int, int]:
    size = info.width_px, info.height_px
    return size[::-1] if info.orientation.swaps_axes else size
