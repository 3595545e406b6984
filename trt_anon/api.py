"""The library's front door: an `Anonymizer` owns loaded detectors and anonymizes files or arrays with them."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from trt_anon.config import AnonymizeConfig, validated
from trt_anon.cuda.foreign import is_foreign
from trt_anon.errors import TrtAnonError, UsageError
from trt_anon.files import hash_of
from trt_anon.job.cutting import Cutting
from trt_anon.job.detections import write_coco
from trt_anon.job.device_detection import DeviceDetection, load_detection
from trt_anon.job.files import Event, OnEvent, anonymize_file, anonymize_files, open_source
from trt_anon.job.given import GivenDetections
from trt_anon.job.impersonal import impersonal
from trt_anon.job.inputs import Plan, Task, check_apart, is_folder, plan
from trt_anon.job.journal import Journal
from trt_anon.job.pool import anonymize_side_by_side
from trt_anon.job.receipt import Receipt, ReceiptMaker
from trt_anon.job.report import VERSION, FileReport, JobReport
from trt_anon.job.resume import Recorder, Resume, identity_of
from trt_anon.job.space import check_room
from trt_anon.job.worker import Setup
from trt_anon.models.registry import Registry
from trt_anon.pipeline.detecting import DetectsFiles
from trt_anon.pipeline.detection import FrameDetector, PendingDetections, choose_recipes, with_growth
from trt_anon.pipeline.device_arrays import DeviceArrays
from trt_anon.pipeline.loop import detect_frames, track_frames
from trt_anon.pipeline.redaction import Redaction, redactions_of
from trt_anon.redact.strength import weakness
from trt_anon.types import PIXEL_FORMATS, Detections, Frame, Tracks

__all__ = ["Anonymizer", "Event", "FileReport", "JobReport", "OnEvent", "ReceiptMaker", "Resume"]

_log = logging.getLogger(__name__)

Frames = NDArray[np.uint8]

_SECTION_OF = {
    name: section
    for section, stage in AnonymizeConfig().__dict__.items()
    for name in type(stage).model_fields  # no name occurs in two sections
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
        self,
        config: AnonymizeConfig | None = None,
        *,
        registry: Registry | None = None,
        detections: str | Path | None = None,
        verify: bool = False,
        **options: Any,
    ) -> None:
        """detections: a file that `write_detections` wrote or another tool; no detector is loaded then.

        Arrays cannot be detected in then, and what is redacted in a file is what the detections say. verify: files get
        a second look with another detector before they are published (see `Verifier`); raises ModelMissing without one.
        """
        self.config = make_config(config, **options)
        self._detector: DetectsFiles
        if detections is not None:
            self._detector = GivenDetections(detections)
            self._setup = Setup(self.config, detections=Path(detections), verify=verify)
            self._identity = identity_of(self.config, [], VERSION, detections=hash_of(Path(detections)))
        else:
            registry = registry or Registry()
            recipes = choose_recipes(self.config, registry)
            self.config = with_growth(self.config, recipes)
            self._identity = identity_of(self.config, recipes, VERSION)
            self._setup = Setup(self.config, registry, tuple(recipes), verify=verify)
            self._detector = load_detection(self.config, registry, recipes)
        self._redaction = Redaction(self.config)
        for message in filter(None, map(weakness, redactions_of(self.config))):
            _log.warning(message)
        self._closed = False
        self._verifier = self._setup.verifier()

    def __enter__(self) -> Anonymizer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Free the detectors; later calls raise UsageError, those under way in other threads ModelError."""
        self._closed = True
        self._detector.close()
        if self._verifier is not None:
            self._verifier.close()

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes that are looked for; `Detections.class_ids` index it."""
        return self._detector.class_names

    def file(
        self, source: str | Path, destination: str | Path, *, overwrite: bool = False, on_event: OnEvent | None = None
    ) -> FileReport:
        """Anonymize one image or video file.

        The destination appears complete, by rename, or not at all. Raises InputError for an unreadable source,
        OutputError for an unusable destination, UsageError for a folder, PipelineError or ModelError if a stage fails;
        their words hold neither path, so that they may be logged.
        """
        self._check_open()
        try:
            task = _only_task(source, Path(destination), overwrite=overwrite, single_file=True)
            books = Recorder(None, self._identity, self._verifier) if self._verifier is not None else None
            return anonymize_file(
                task, self.config, self._detector, overwrite=overwrite, on_event=on_event, books=books
            )
        except TrtAnonError as error:
            raise impersonal(error, Path(source), Path(destination)) from error.__cause__

    def files(
        self,
        sources: Sequence[str | Path],
        destination: str | Path,
        *,
        overwrite: bool = False,
        on_event: OnEvent | None = None,
        resume: Resume | None = None,
    ) -> JobReport:
        """Anonymize files and folders (recursive, mirrored below `destination`); failures are in the report.

        resume: go on with an earlier run of the same job, and be one that a later run can go on with.
        """
        job = self.plan(sources, destination, overwrite=overwrite or resume is not None)
        resume = resume and resume.of(Path(destination))
        return self.run(job, overwrite=overwrite, on_event=on_event, resume=resume)

    @staticmethod
    def plan(sources: Sequence[str | Path], destination: str | Path, *, overwrite: bool = False) -> Plan:
        """What `files` would do: one task per media file found."""
        return plan([Path(s) for s in sources], str(destination), overwrite=overwrite)

    def receipt(self, maker: ReceiptMaker, report: JobReport) -> Receipt:
        """The receipt of a job that this Anonymizer did; `maker` was made before it. Raises InputError, OutputError."""
        return maker.make(report, self.config, self._identity, self._setup.recipes, self._setup.registry)

    def run(
        self, job: Plan, *, overwrite: bool = False, on_event: OnEvent | None = None, resume: Resume | None = None
    ) -> JobReport:
        """Carry out a plan. With `resume`, plan it with `overwrite=True`: what is done already shows here.

        Raises UsageError where the journal of `resume` cannot be used, OutputError where the disk has no room.
        """
        self._check_open()
        if resume is None:
            recorder = Recorder(None, self._identity, self._verifier) if self._verifier is not None else None
            return self._run(job, overwrite=overwrite, on_event=on_event, recorder=recorder)
        with Journal(resume.path) as journal:
            recorder = Recorder(journal, self._identity, self._verifier)
            settled = recorder.settle(job, overwrite=overwrite, retry=resume.retry)
            if on_event is not None:
                for task, ended in settled.ended:
                    on_event(Event("end", task, ended.frames, report=ended))
            if resume.keep_free_bytes > 0:
                check_room(settled.plan.tasks, resume.keep_free_bytes)
            report = self._run(
                settled.plan,
                workers=resume.workers,
                overwrite=overwrite,
                on_event=on_event,
                recorder=recorder,
                keep_free_bytes=resume.keep_free_bytes,
                cutting=Cutting(resume.segment_seconds, resume.workers),
            )
        return report.with_files(settled.unchanged)

    def _run(self, job: Plan, *, workers: int = 1, **options: Any) -> JobReport:
        if workers > 1:
            return anonymize_side_by_side(job, self._setup, self._detector.class_names, workers=workers, **options)
        return anonymize_files(job, self.config, self._detector, **options)

    def detect(self, frames: Any, *, stream: Any = None) -> list[Detections]:
        """Find objects in RGB pictures.

        frames: uint8 (N, H, W, 3), or a list of (H, W, 3) arrays of any sizes. Gives one Detections per picture, in
        its pixels. The arrays are not changed. With a GPU, also (N, H, W, 3) arrays that lie there, of CuPy, PyTorch,
        PyCUDA, DALI and others (`cuda.foreign`): nothing is copied; stream: on which they are ready, CuPy's, PyTorch's,
        PyCUDA's or a handle, by default CuPy's current one.
        """
        self._check_open()
        detector = self._detector
        if not isinstance(detector, FrameDetector):
            raise UsageError("this Anonymizer takes detections from a file, which are of files; it detects nothing")
        if is_foreign(frames):
            return self._arrays().detect(frames, stream)
        found: list[Detections] = []
        pending: deque[PendingDetections] = deque()
        for frame in _as_frames(frames):
            pending.append(detector.submit(frame))
            if len(pending) > self.config.pipeline.queue_frames:  # raw outputs are large: only so many wait
                found.append(pending.popleft().result())
        return found + [p.result() for p in pending]

    def detect_file(self, source: str | Path) -> Iterator[tuple[Frame, Detections]]:
        """Frames of an image or video file with what was found in each, in upright pixels.

        Raises UsageError for a folder, InputError for an unreadable file.
        """
        self._check_open()
        return self._detect_task(_only_task(source, Path(source), detect_only=True))

    def _detect_task(self, task: Task) -> Iterator[tuple[Frame, Detections]]:
        opened = open_source(task, self.config)
        try:
            yield from detect_frames(opened, self._detector.for_source(task.source), self.config.pipeline)
        finally:
            opened.close()

    def _track_task(self, task: Task) -> Iterator[tuple[Frame, Detections | Tracks]]:
        if task.kind == "image":
            yield from self._detect_task(task)
            return
        opened = open_source(task, self.config)
        try:
            detector = self._detector.for_source(task.source)
            yield from track_frames(opened, detector, self.config.pipeline, self.config.track)
        finally:
            opened.close()

    def write_detections(
        self, sources: Sequence[str | Path], output: str | Path, *, tracks: bool = False, overwrite: bool = False
    ) -> tuple[int, int]:
        """Write what is found in files and folders as COCO JSON; gives (frames, boxes). See `job.detections`.

        tracks: in videos the objects as they are followed, with their numbers, instead of what was found in each frame.
        The first unreadable input raises and nothing is written: a file of boxes with a gap would mislead.
        """
        self._check_open()
        tasks = plan([Path(s) for s in sources], Path(output), detect_only=True).tasks
        check_apart(Path(output), tasks, overwrite=overwrite)
        way = self._track_task if tracks else self._detect_task
        found = ((task.source, *item) for task in tasks for item in way(task))
        return write_coco(Path(output), self.class_names, found, overwrite=overwrite)

    @overload
    def redact(self, frames: Frames, detections: Sequence[Detections], out: Frames | None = None) -> Frames: ...
    @overload
    def redact(
        self, frames: Sequence[Frames], detections: Sequence[Detections], out: Sequence[Frames] | None = None
    ) -> Sequence[Frames]: ...
    @overload
    def redact(self, frames: Any, detections: Sequence[Detections], out: Any = None, *, stream: Any = None) -> Any: ...
    def redact(self, frames: Any, detections: Sequence[Detections], out: Any = None, *, stream: Any = None) -> Any:
        """Destroy detected objects in RGB pictures.

        frames: as for `detect`. out: where the result goes, shaped like `frames`; the same object redacts in place,
        None makes a copy. Returns the result. Arrays on a GPU are redacted in place only, in the order of the stream,
        without waiting. Raises UsageError, before anything is changed, where `out` cannot be written or does not fit.
        """
        self._check_open()
        if is_foreign(frames):
            if out is not frames:
                raise UsageError("arrays on a GPU are redacted in place: pass out=frames, or a copy of yours as both")
            self._arrays().redact(frames, detections, self._redaction, stream)
            return out
        if len(frames) != len(detections):
            raise UsageError(f"{len(frames)} frames but detections for {len(detections)}")
        _as_frames(frames)
        if out is None:
            out = frames.copy() if isinstance(frames, np.ndarray) else [f.copy() for f in frames]
        targets = _as_frames(out, "out", writable=True)
        if out is not frames:
            _copy_into(frames, out)
        for frame, found in zip(targets, detections, strict=True):
            self._redaction.apply(frame, found)
        return out

    def _arrays(self) -> DeviceArrays:
        if not isinstance(self._detector, DeviceDetection):
            raise UsageError("arrays of other libraries need the device cuda; give NumPy arrays to a CPU")
        return self._detector.engines[0].arrays

    def _check_open(self) -> None:
        if self._closed:
            raise UsageError("this Anonymizer is closed; make a new one")


def _only_task(source: str | Path, destination: Path, **options: bool) -> Task:
    if is_folder(Path(source)):
        raise UsageError(f"{source} is a folder; name a file, or use `files` (`write_detections`)")
    return plan([Path(source)], destination, **options).tasks[0]


def _copy_into(frames: Frames | Sequence[Frames], out: Frames | Sequence[Frames]) -> None:
    if len(out) != len(frames) or any(o.shape != f.shape for o, f in zip(out, frames, strict=True)):
        raise UsageError("out must have as many frames as frames, of the same shapes")
    if isinstance(frames, np.ndarray) and isinstance(out, np.ndarray):
        out[...] = frames  # right even where the two overlap
        return
    for o, f in zip(out, frames, strict=True):
        o[...] = f


def _as_frames(frames: Frames | Sequence[Frames], name: str = "frame", *, writable: bool = False) -> list[Frame]:
    if isinstance(frames, np.ndarray) and frames.ndim != 4:
        raise UsageError(f"{name}: expected uint8 (N, H, W, 3) RGB or a list of (H, W, 3), got {frames.shape}")
    result = []
    for index, array in enumerate(frames):
        if not isinstance(array, np.ndarray) or array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3:
            found = f"{array.dtype} {array.shape}" if isinstance(array, np.ndarray) else type(array).__name__
            raise UsageError(f"{name} {index}: expected uint8 (H, W, 3) RGB, got {found}")
        if 0 in array.shape:
            raise UsageError(f"{name} {index} is empty: {array.shape}")
        if array.strides[2] != 1 or array.strides[1] != 3 or array.strides[0] < 0:
            raise UsageError(f"{name} {index}: pixels of a row must be contiguous; pass numpy.ascontiguousarray(frame)")
        if writable and not array.flags.writeable:
            raise UsageError(f"{name} {index} is read-only; pass out=None to get a copy")
        height, width, _ = array.shape
        result.append(Frame((array,), PIXEL_FORMATS["rgb24"], width, height, index))
    return result


def summary(report: JobReport) -> Mapping[str, Any]:
    """The job's figures as plain values, for JSON: no boxes."""
    return report.to_dict()
