"""The library's front door: an `Anonymizer` owns loaded detectors and anonymizes files or arrays with them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from trt_anon.config import AnonymizeConfig, validated
from trt_anon.errors import UsageError
from trt_anon.job.detections import write_coco
from trt_anon.job.files import Event, OnEvent, anonymize_file, anonymize_files, open_source
from trt_anon.job.inputs import Plan, plan
from trt_anon.job.report import FileReport, JobReport
from trt_anon.models.registry import Registry
from trt_anon.pipeline.detection import FrameDetector
from trt_anon.pipeline.loop import detect_frames, stored_regions
from trt_anon.redact.frame import Redactor
from trt_anon.types import PIXEL_FORMATS, Detections, Frame

__all__ = ["Anonymizer", "Event", "FileReport", "JobReport", "OnEvent"]

Frames = NDArray[np.uint8]

_SECTION_OF = {
    "classes": "detect",
    "detectors": "detect",
    "threshold": "detect",
    "method": "redact",
    "strength": "redact",
    "shape": "redact",
    "grow": "redact",
    "codec": "sink",
    "quality": "sink",
    "encoder_preset": "sink",
    "audio": "sink",
    "subtitles": "sink",
    "metadata": "sink",
    "device": "runtime",
    "runtime": "runtime",
    "threads": "runtime",
    "queue_frames": "pipeline",
}


def make_config(base: AnonymizeConfig | None = None, **options: Any) -> AnonymizeConfig:
    """`base` with single options replaced; an option is named as in its section (`method`, `threshold`, `device`...).

    None leaves an option as it is. Raises ConfigError for a wrong value, UsageError for an unknown option.
    """
    values: dict[str, Any] = (base or AnonymizeConfig()).model_dump()
    for name, value in options.items():
        if name not in _SECTION_OF:
            raise UsageError(f"unknown option {name!r}; known are {', '.join(sorted(_SECTION_OF))}")
        if value is not None:
            values[_SECTION_OF[name]][name] = value
    return validated(AnonymizeConfig, values, "configuration")


class Anonymizer:
    """Finds and destroys faces and licence plates in files and arrays.

    Loading detectors takes a moment: make one and keep it. Instances are independent, and each may be used from several
    threads. Options are those of `AnonymizeConfig`'s sections, by name:

        with Anonymizer(classes=("face",), method="solid") as anonymizer:
            anonymizer.file("street.mp4", "out/street.mp4")

    Raises ModelMissing (with the command that fetches it) when a detector's file is not on this machine, DeviceMissing
    for an explicit device that is not there, ConfigError for wrong options.
    """

    def __init__(
        self, config: AnonymizeConfig | None = None, *, registry: Registry | None = None, **options: Any
    ) -> None:
        self.config = make_config(config, **options)
        self._detector = FrameDetector.load(self.config, registry or Registry())
        self._redactor = Redactor(self.config.redact)

    def __enter__(self) -> Anonymizer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Free the detectors; later calls raise."""
        self._detector.close()

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes that are looked for; `Detections.class_ids` index it."""
        return self._detector.class_names

    def file(
        self, source: str | Path, destination: str | Path, *, overwrite: bool = False, on_event: OnEvent | None = None
    ) -> FileReport:
        """Anonymize one image or video file.

        The destination appears complete, by rename, or not at all. Raises InputError for an unreadable source,
        OutputError for an unusable destination, PipelineError or ModelError if a stage fails.
        """
        tasks = plan([Path(source)], Path(destination), overwrite=overwrite, single_file=True).tasks
        return anonymize_file(
            tasks[0], self.config, self._detector, self._redactor, overwrite=overwrite, on_event=on_event
        )

    def files(
        self,
        sources: Sequence[str | Path],
        destination: str | Path,
        *,
        overwrite: bool = False,
        on_event: OnEvent | None = None,
    ) -> JobReport:
        """Anonymize files and folders (recursive, mirrored below `destination`); failures are in the report."""
        return self.run(self.plan(sources, destination, overwrite=overwrite), overwrite=overwrite, on_event=on_event)

    @staticmethod
    def plan(sources: Sequence[str | Path], destination: str | Path, *, overwrite: bool = False) -> Plan:
        """What `files` would do: one task per media file found."""
        return plan([Path(s) for s in sources], str(destination), overwrite=overwrite)

    def run(self, job: Plan, *, overwrite: bool = False, on_event: OnEvent | None = None) -> JobReport:
        """Carry out a plan."""
        return anonymize_files(job, self.config, self._detector, self._redactor, overwrite=overwrite, on_event=on_event)

    def detect(self, frames: Frames | Sequence[Frames]) -> list[Detections]:
        """Find objects in RGB pictures.

        frames: uint8 (N, H, W, 3), or a list of (H, W, 3) arrays of any sizes. Gives one Detections per picture, in
        its pixels. The arrays are not changed.
        """
        pending = [self._detector.submit(frame) for frame in _as_frames(frames)]
        return [p.result() for p in pending]

    def detect_file(self, source: str | Path) -> Iterator[tuple[Frame, Detections]]:
        """Frames of an image or video file with what was found in each, in upright pixels."""
        task = plan([Path(source)], Path(source), detect_only=True).tasks[0]
        opened = open_source(task, self.config)
        try:
            yield from detect_frames(opened, self._detector, self.config.pipeline)
        finally:
            opened.close()

    def write_detections(
        self, sources: Sequence[str | Path], output: str | Path, *, overwrite: bool = False
    ) -> tuple[int, int]:
        """Write what is found in files and folders as COCO JSON; gives (frames, boxes). See `job.detections`.

        The first unreadable input raises and nothing is written: a file of boxes with a gap would mislead.
        """
        tasks = plan([Path(s) for s in sources], Path(output), detect_only=True).tasks
        found = ((task.source, *item) for task in tasks for item in self.detect_file(task.source))
        return write_coco(Path(output), self.class_names, found, overwrite=overwrite)

    @overload
    def redact(self, frames: Frames, detections: Sequence[Detections], out: Frames | None = None) -> Frames: ...
    @overload
    def redact(
        self, frames: Sequence[Frames], detections: Sequence[Detections], out: Sequence[Frames] | None = None
    ) -> Sequence[Frames]: ...
    def redact(
        self,
        frames: Frames | Sequence[Frames],
        detections: Sequence[Detections],
        out: Frames | Sequence[Frames] | None = None,
    ) -> Frames | Sequence[Frames]:
        """Destroy detected objects in RGB pictures.

        frames: as for `detect`. out: where the result goes, shaped like `frames`; the same object redacts in place,
        None makes a copy. Returns the result.
        """
        if len(frames) != len(detections):
            raise UsageError(f"{len(frames)} frames but detections for {len(detections)}")
        if out is None:
            out = frames.copy() if isinstance(frames, np.ndarray) else [f.copy() for f in frames]
        elif out is not frames:
            _copy_into(frames, out)
        for frame, found in zip(_as_frames(out), detections, strict=True):
            self._redactor.redact(frame, stored_regions(frame, found, self.config.redact))
        return out


def _copy_into(frames: Frames | Sequence[Frames], out: Frames | Sequence[Frames]) -> None:
    if len(out) != len(frames) or any(
        o.shape != f.shape or o.dtype != f.dtype for o, f in zip(out, frames, strict=True)
    ):
        raise UsageError("out must have the shapes and dtypes of frames")
    for o, f in zip(out, frames, strict=True):
        o[...] = f


def _as_frames(frames: Frames | Sequence[Frames]) -> list[Frame]:
    result = []
    for index, array in enumerate(frames):
        if not isinstance(array, np.ndarray) or array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3:
            found = f"{array.dtype} {array.shape}" if isinstance(array, np.ndarray) else type(array).__name__
            raise UsageError(f"frame {index}: expected uint8 (H, W, 3) RGB, got {found}")
        if 0 in array.shape:
            raise UsageError(f"frame {index} is empty: {array.shape}")
        if array.strides[2] != 1 or array.strides[1] != 3 or array.strides[0] < 0:
            raise UsageError(f"frame {index}: pixels of a row must be contiguous; pass numpy.ascontiguousarray(frame)")
        if not array.flags.writeable:
            array = array.view()
        height, width, _ = array.shape
        result.append(Frame((array,), PIXEL_FORMATS["rgb24"], width, height, index))
    return result


def summary(report: JobReport) -> Mapping[str, Any]:
    """The job's figures as plain values, for JSON: no boxes."""
    return report.to_dict()
