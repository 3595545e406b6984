"""All detectors of a configuration for batches of frames on a device: from planes to detections in pinned memory.

One batch is one piece of work on one stream: frames are scaled into the networks' inputs, inferred, decoded, merged,
suppressed, and only what was found is copied to the host. Nothing in it depends on what is in the pictures, so on a GPU
it is recorded once for each batch buffer, as a CUDA graph, and replayed. A batch that is not full is computed as if it
were: what the places left over hold is nobody's.

Families that no kernel decodes, parts and mirror images of frames, and boxes that are averaged, are decoded on the host
from the networks' outputs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

import numpy as np
from numpy.typing import DTypeLike, NDArray

from trt_anon.cuda.memory import DeviceMemory, Graph, fields_of, packed_offsets
from trt_anon.cuda.traffic import Purpose
from trt_anon.detect.decode_cuda import DecodeCuda
from trt_anon.detect.segmentation import Segmentation
from trt_anon.errors import ModelError, UsageError
from trt_anon.media import MediaInfo
from trt_anon.pipeline.detection import least_thresholds
from trt_anon.pipeline.device_detector import DeviceDetector, Ready
from trt_anon.pipeline.device_found import MAX_FOUND, Found, Seen, found_or_why, seen_in_batch, thresholds_of
from trt_anon.pipeline.device_pictures import DevicePictures
from trt_anon.postprocess.merge_cuda import CandidateList, MergeCuda
from trt_anon.postprocess.nms_cuda import MAX_CANDIDATES, NmsCuda
from trt_anon.postprocess.weak import combine_with_weak
from trt_anon.postprocess.weighted import MergeRule, combine
from trt_anon.preprocess.letterbox_cuda import LetterboxCuda
from trt_anon.preprocess.views import View
from trt_anon.types import Frame


class Batch(Protocol):
    """What detection needs of a batch: the planes of `capacity` frames, of which it holds so many as `frames`."""

    capacity: int
    planes: list[tuple[Any, ...]]
    frames: list[Frame]
    filled: Any


@dataclass(eq=False)
class _Look:
    """One detector's view of the frames: its arrays for a batch."""

    detector: DeviceDetector
    view: View
    pictures: Any
    outputs: list[dict[str, Any]]
    all_outputs: dict[str, Any]
    decode: DecodeCuda | None = None
    candidates: CandidateList | None = None
    status: Any = None
    workspace: Any = None
    factors: Any = None
    class_map: Any = None


@dataclass(eq=False)
class _Slot:
    """What belongs to one batch buffer: its frames for the kernels, results on the host, and its graph."""

    frames: list[Frame]
    results: NDArray[np.uint8]
    outputs: list[dict[str, NDArray[Any]]] = field(default_factory=list)
    small: NDArray[np.uint8] | None = None
    graph: Graph | None = None
    warm: bool = False
    done: Any = None


class DeviceModel:
    """The detectors for frames of one size and format, in batches of one size; for one stream.

    info: of the frames, in the device's pixel format. landmarks: whether detections carry them. weak: for tracks, so
    detections that only continue one are given, too, and small pictures. Raises OutOfDeviceMemory, and what the
    runners' `prepare` does.
    """

    def __init__(
        self,
        detectors: Sequence[DeviceDetector],
        class_names: Sequence[str],
        rules: Sequence[MergeRule],
        info: MediaInfo,
        buffers: Sequence[Batch],
        memory: DeviceMemory,
        *,
        landmarks: bool = False,
        weak: bool = False,
        graphs: bool = True,
    ) -> None:
        self.class_names = tuple(class_names)
        self._memory, self._info, self._rules = memory, info, tuple(rules)
        self._batch = buffers[0].capacity
        self._weak = weak
        self.thresholds = least_thresholds(detectors, len(self.class_names))
        self._thresholds = thresholds_of(detectors, len(self.class_names))
        self._group = memory.group()
        self._letterbox = LetterboxCuda(accounting=memory.traffic)
        self._merge = MergeCuda(accounting=memory.traffic)
        self._nms = NmsCuda(accounting=memory.traffic)
        try:
            self._looks = [look for detector in detectors for look in self._looks_of(detector)]
            simple = len(set(self._rules)) == 1 and self._rules[0].fusion == "nms" and self._thresholds is not None
            self.decoded_on_host = not (simple and all(self._prepare_decoding(look, landmarks) for look in self._looks))
            if not self.decoded_on_host:
                self._prepare_merging(landmarks)
            self._pictures = DevicePictures(info, self._batch, memory, self._group) if weak else None
            self._slots = {id(buffer): self._slot(buffer) for buffer in buffers}
        except BaseException:
            self._group.free()
            raise
        self._graphs = graphs and all(d.device_runner.capturable for d in detectors)

    @property
    def size_bytes(self) -> int:
        """Device memory of its arrays, without the runners' own."""
        return self._group.size_bytes

    def close(self) -> None:
        """Free its arrays."""
        self._slots.clear()
        self._group.free()

    def rebind(self, batch: Batch) -> None:
        """Take note that a batch's planes lie elsewhere now; for models without graphs."""
        self._slots[id(batch)].frames = self._frames_of(batch)

    def enqueue(self, batch: Batch, stream: Any) -> None:
        """Put the detection of a filled batch on the stream, and the copy of what it finds to the host."""
        slot, memory = self._slots[id(batch)], self._memory
        memory.after(stream, batch.filled)
        if slot.graph is None and slot.warm and self._graphs:
            slot.graph = memory.capture(lambda: self._launch(slot, stream), stream)
        if slot.graph is not None:
            slot.graph.replay(stream)
        else:
            self._launch(slot, stream)
        slot.warm = True  # kernels are loaded, so the next run can be recorded
        slot.done = memory.record(stream)

    def collect(self, batch: Batch) -> list[Found]:
        """Wait for what was found in each frame of a batch; an error stands for a frame of which nothing is known."""
        slot = self._slots[id(batch)]
        self._memory.wait(slot.done, "detections")
        count = len(batch.frames)
        if self.decoded_on_host:
            return [found_or_why(partial(self._from_outputs, slot, place)) for place in range(count)]
        assert self._thresholds is not None
        results = fields_of(slot.results, self._wanted, self._offsets)
        families = [look.detector.family.name for look in self._looks]
        return seen_in_batch(results, count, families, self.class_names, self._thresholds, weak=self._weak)

    def picture(self, batch: Batch, place: int) -> NDArray[np.uint8] | None:
        """The small grey picture of a frame whose batch was collected, as `grey_thumbnail`'s; None where not `weak`."""
        small = self._slots[id(batch)].small
        return None if self._pictures is None or small is None else self._pictures.upright(small, place)

    def _looks_of(self, detector: DeviceDetector) -> list[_Look]:
        info, batch, group = self._info, self._batch, self._group
        at_once = detector.pictures_at_once(batch)
        if batch % at_once:
            raise ModelError(f"{detector.family.name}: takes {at_once} pictures at a time, not {batch}")
        views = detector.views_for(info.width_px, info.height_px, info.orientation, info.sample_aspect_ratio)
        looks = []
        for view in views:
            size = view.plan.target_hw_px
            shape = (at_once, *size, 3)
            shapes = detector.device_runner.prepare({detector.input_name: shape})
            dtypes = {spec.name: spec.dtype for spec in detector.device_runner.outputs}
            parts = batch // at_once
            whole = {name: group.empty((parts, *shape), dtypes[name]) for name, shape in shapes.items()}
            outputs = [{name: array[part] for name, array in whole.items()} for part in range(parts)]
            looks.append(_Look(detector, view, group.empty((batch, *size, 3)), outputs, whole))
        return looks

    def _prepare_decoding(self, look: _Look, landmarks: bool) -> bool:
        """Set up the kernels that decode a look; False where none does."""
        family, memory, group = look.detector.family, self._memory, self._group
        outputs, size, view = look.outputs[0], look.view.plan.target_hw_px, look.view
        per_part = len(look.outputs) > 1
        # Outlines, which segmentation gives, are found on the host.
        whole = view.part_xywh_px is None and not view.mirrored
        if isinstance(family, Segmentation) or per_part or not whole:
            return False
        decode = DecodeCuda(family, accounting=memory.traffic)
        try:
            scheme = decode.scheme(outputs, size)
        except UsageError:
            return False
        capacity = max(MAX_FOUND // 4, MAX_CANDIDATES // len(self._looks))
        marks = scheme.marks if landmarks else 0
        batch = self._batch
        look.decode = decode
        look.candidates = CandidateList(
            group.empty((batch, capacity, 4), np.float32),
            group.empty((batch, capacity), np.float32),
            group.empty((batch, capacity), np.int32),
            group.empty((batch,), np.int32),
            group.empty((batch, capacity, marks, 2), np.float32) if marks else None,
            distinct=scheme.distinct,
        )
        look.workspace = group.empty((decode.workspace_words(outputs, size),), np.uint64)
        look.factors = self._constant(np.tile(np.array(look.view.plan.factors_xy, np.float64), (batch, 1)))
        look.class_map = self._constant(look.detector.class_map[: scheme.classes])
        return True

    def _prepare_merging(self, landmarks: bool) -> None:
        batch, group, lists = self._batch, self._group, [look.candidates for look in self._looks]
        wanted: dict[str, tuple[tuple[int, ...], DTypeLike]] = {
            "boxes": ((batch, MAX_FOUND, 4), np.float32),
            "scores": ((batch, MAX_FOUND), np.float32),
            "class_ids": ((batch, MAX_FOUND), np.int32),
            "counts": ((batch,), np.int32),
            "nms": ((batch,), np.int32),
            "merge": ((batch,), np.int32),
        }
        points = [c.landmarks.shape[2] for c in lists if c is not None and c.landmarks is not None]
        if points:
            wanted["landmarks"] = ((batch, MAX_FOUND, max(points), 2), np.float32)
        wanted |= {f"decode {number}": ((batch,), np.int32) for number in range(len(lists))}
        self._wanted = wanted
        self._offsets, self._result_bytes = packed_offsets(wanted)
        self._block, found = group.packed(wanted)
        self._found_arrays = found
        for number, look in enumerate(self._looks):
            look.status = found[f"decode {number}"]
        self._out = CandidateList(
            found["boxes"], found["scores"], found["class_ids"], found["counts"], found.get("landmarks")
        )
        self._kept = group.empty((batch, MAX_FOUND), np.int32)
        if len(lists) == 1 and lists[0] is not None:
            self._merged = lists[0]
            self._groups = group.empty((batch, lists[0].scores.shape[1]), np.int32) if lists[0].distinct else None
            return
        total = sum(one.scores.shape[1] for one in lists if one is not None)
        self._merged = CandidateList(
            group.empty((batch, total, 4), np.float32),
            group.empty((batch, total), np.float32),
            group.empty((batch, total), np.int32),
            group.empty((batch,), np.int32),
            group.empty((batch, total, max(points), 2), np.float32) if points else None,
        )
        self._groups = group.empty((batch, total), np.int32)

    def _frames_of(self, batch: Batch) -> list[Frame]:
        info = self._info
        return [
            Frame(
                planes=planes,
                pixel_format=info.pixel_format,
                width_px=info.width_px,
                height_px=info.height_px,
                color=info.color,
                orientation=info.orientation,
                pixel_aspect=info.sample_aspect_ratio,
            )
            for planes in batch.planes
        ]

    def _slot(self, batch: Batch) -> _Slot:
        frames = self._frames_of(batch)
        small = None if self._pictures is None else self._pictures.room()
        if not self.decoded_on_host:
            return _Slot(frames, self._memory.pinned((self._result_bytes,)), small=small)
        pinned = self._memory.pinned
        outputs = [{n: pinned(a.shape, a.dtype) for n, a in look.all_outputs.items()} for look in self._looks]
        return _Slot(frames, pinned((0,)), outputs, small)

    def _constant(self, values: NDArray[Any]) -> Any:
        """An array of the device that holds these values."""
        memory = self._memory
        target, source = self._group.empty(values.shape, values.dtype), memory.pinned(values.shape, values.dtype)
        source[...] = values
        stream = memory.new_stream()
        memory.upload(target, source, stream, Purpose.SETTINGS)
        memory.wait(memory.record(stream), "setting up")
        return target

    def _launch(self, slot: _Slot, stream: Any) -> None:
        """Everything that is done to a batch, in order."""
        if self._pictures is not None and slot.small is not None:
            self._pictures.enqueue(slot.frames, slot.small, stream)
        for detector, looks in self._by_detector():
            self._letterbox.batch(
                [look.view.of(frame) for look in looks for frame in slot.frames],
                [look.view.plan for look in looks for _ in slot.frames],
                detector.family.input_spec,
                [picture for look in looks for picture in look.pictures],
                layout="nhwc",
                stream=stream,
            )
            for look in looks:
                step = self._batch // len(look.outputs)
                for part, outputs in enumerate(look.outputs):
                    pictures = look.pictures[part * step : (part + 1) * step]
                    detector.device_runner.enqueue({detector.input_name: pictures}, outputs, stream)
        if self.decoded_on_host:
            for look, host in zip(self._looks, slot.outputs, strict=True):
                for name, array in look.all_outputs.items():
                    self._memory.download(host[name], array, stream, Purpose.OUTPUTS)
            return
        for look in self._looks:
            self._decode(look, stream)
        self._suppress(stream)
        self._memory.download(slot.results, self._block, stream, Purpose.DETECTIONS)

    def _by_detector(self) -> list[tuple[DeviceDetector, list[_Look]]]:
        groups: dict[int, list[_Look]] = {}
        for look in self._looks:
            groups.setdefault(id(look.detector), []).append(look)
        return [(looks[0].detector, looks) for looks in groups.values()]

    def _decode(self, look: _Look, stream: Any) -> None:
        assert look.decode is not None
        assert look.candidates is not None
        found = look.candidates
        look.decode.batch(
            look.outputs[0],
            look.view.plan.target_hw_px,
            look.detector.weak_threshold if self._weak else look.detector.threshold,
            boxes_xyxy=found.boxes_xyxy,
            scores=found.scores,
            class_ids=found.class_ids,
            counts=found.counts,
            status=look.status,
            workspace=look.workspace,
            landmarks=found.landmarks,
            factors_xy=look.factors,
            class_map=look.class_map,
            stream=stream,
        )

    def _suppress(self, stream: Any) -> None:
        merged, found = self._merged, self._found_arrays
        lists = [look.candidates for look in self._looks if look.candidates is not None]
        if len(lists) > 1:
            self._merge.concatenate(
                lists,
                boxes_xyxy=merged.boxes_xyxy,
                scores=merged.scores,
                class_ids=merged.class_ids,
                groups=self._groups,
                counts=merged.counts,
                status=found["merge"],
                landmarks=merged.landmarks,
                stream=stream,
            )
        self._nms.batch(
            merged.boxes_xyxy,
            merged.scores,
            merged.class_ids,
            merged.counts,
            self._rules[0].iou_threshold,
            True,
            self._groups,
            kept=self._kept,
            kept_counts=found["counts"],
            status=found["nms"],
            stream=stream,
        )
        self._merge.take(merged, self._kept, self._out, stream=stream)

    def _from_outputs(self, slot: _Slot, place: int) -> Seen:
        passes = []
        for look, host in zip(self._looks, slot.outputs, strict=True):
            part, row = divmod(place, self._batch // len(look.outputs))
            own = {name: np.array(array[part][row : row + 1]) for name, array in host.items()}
            passes.append((look.detector.collect(look.view, Ready(own), weak=self._weak), look.detector.threshold))
        if self._weak:
            return Seen(*combine_with_weak(passes, self.class_names, self._rules))
        return Seen(combine([one for one, _ in passes], self.class_names, self._rules))
