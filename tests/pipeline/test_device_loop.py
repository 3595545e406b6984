"""The pipeline on a device, on host-built kernels and NumPy's memory: the CPU pipeline's output, and its books."""

from __future__ import annotations

import dataclasses
import importlib.util
import threading
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trt_anon.api import make_config
from trt_anon.config import TrackConfig
from trt_anon.cuda.memory import HostMemory
from trt_anon.errors import InputError, ModelError, OutOfDeviceMemory, PipelineError
from trt_anon.media import MediaInfo
from trt_anon.models.registry import Registry
from trt_anon.pipeline import detection, device_loop, tracking
from trt_anon.pipeline.detection import FrameDetector, choose_recipes, merge_rule, with_growth
from trt_anon.pipeline.device_detector import DeviceDetector, load_device_detectors
from trt_anon.pipeline.device_loop import BATCHES_UNDER_WAY, DeviceLoop
from trt_anon.pipeline.loop import anonymize_frames
from trt_anon.pipeline.redaction import Redaction
from trt_anon.preprocess import thumbnail
from trt_anon.preprocess.letterbox import letterbox
from trt_anon.source.device import UploadSource
from trt_anon.source.pyav import PyAVSource
from trt_anon.track.sight import Sight
from trt_anon.types import PIXEL_FORMATS, Frame, Tracks

pytest.importorskip("av")
pytest.importorskip("onnxruntime")


def _parts() -> Any:
    spec = importlib.util.spec_from_file_location("device_parts", Path(__file__).with_name("device_parts.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


parts = _parts()
FRAMES = 7


class Setting:
    """A configuration with its detectors, on a CPU and on a device."""

    def __init__(self, **options: Any) -> None:
        config = make_config(device="cpu", runtime="onnxruntime", precision="f32", threads=2, **options)
        registry = Registry()
        self.recipes = choose_recipes(config, registry)
        self.config = with_growth(config, self.recipes)
        self.detectors = load_device_detectors(self.recipes, self.config, registry, None)
        self.on_cpu = FrameDetector.load(self.config, registry, self.recipes)

    def loop(self, memory: HostMemory, batch: int = 3, detectors: Sequence[DeviceDetector] | None = None) -> DeviceLoop:
        classes = self.config.detect.classes
        rules = [merge_rule(name, self.recipes) for name in classes]
        return DeviceLoop(detectors or self.detectors, classes, rules, memory, batch=batch)

    def close(self) -> None:
        self.on_cpu.close()
        for detector in self.detectors:
            detector.close()


@pytest.fixture(scope="module")
def setting() -> Iterator[Setting]:
    made = Setting(threshold=0.3)
    yield made
    made.close()


@pytest.fixture(scope="module")
def clip(clips: Any, faces: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return faces.face_clip(clips, tmp_path_factory.mktemp("clip") / "face.mkv", frames=FRAMES)


def by_cpu(setting: Setting, path: Path, *, exact: bool = True) -> tuple[Any, Any]:
    """What the CPU pipeline makes of a clip; exact: with pictures scaled as the specification says, not by swscale."""
    sink, source = parts.KeepingSink(), PyAVSource(path)
    with pytest.MonkeyPatch.context() as patch:
        if exact:
            patch.setattr(detection, "letterbox_cpu", lambda frame, plan, spec, scalers: letterbox(frame, plan, spec))
        report = anonymize_frames(
            source, sink, setting.on_cpu, Redaction(setting.config, path), setting.config.pipeline
        )
    source.close()
    return sink, report


def by_device(
    setting: Setting,
    path: Path,
    memory: HostMemory,
    *,
    batch: int = 3,
    surface: Any = "nvdec",
    loop: DeviceLoop | None = None,
    sink: Any = None,
    **options: Any,
) -> tuple[Any, Any]:
    sink = sink or parts.KeepingSink()
    source = UploadSource(PyAVSource(path), memory, surface=surface)
    loop = loop or setting.loop(memory, batch)
    try:
        report = loop.anonymize(source, sink, Redaction(setting.config, path), setting.config.pipeline, **options)
    finally:
        source.close()
    return sink, report


def assert_alike(found: Any, wanted: Any, share: float = 2e-3) -> None:
    """Redacted alike: all but a share of the samples are equal within a code.

    The rest lies in and around regions whose boxes differ by fractions of a pixel.
    """
    assert len(found.planes) == len(wanted.planes)
    for planes, expected, frame in zip(found.planes, wanted.planes, found.frames, strict=True):
        for plane, other in zip(parts.as_planar(planes, frame.pixel_format.sample_shift), expected, strict=True):
            difference = np.abs(plane.astype(np.int64) - other)
            assert (difference > 1).mean() < share


def test_the_output_is_the_cpu_pipelines(setting, clip):
    wanted, report = by_cpu(setting, clip)
    assert report.objects == {"face": FRAMES}
    for surface in ("nvdec", "native"):
        found, device_report = by_device(setting, clip, HostMemory(), surface=surface)
        assert_alike(found, wanted)
        assert device_report.objects == report.objects
        assert device_report.frames == FRAMES
        assert set(device_report.busy_seconds) == {"decode", "detect", "redact", "encode"}
        facts = "index", "pts", "time_base", "color", "orientation"
        for frame, expected in zip(found.frames, wanted.frames, strict=True):
            assert [getattr(frame, name) for name in facts] == [getattr(expected, name) for name in facts]
            assert frame.duration == expected.native.duration
    assert_alike(found, by_cpu(setting, clip, exact=False)[0], share=0.03)  # swscale rounds otherwise
    untouched = PyAVSource(clip)
    first = next(iter(untouched))
    assert (first.planes[0] != found.planes[0][0]).any()
    untouched.close()


@pytest.mark.dataset
@pytest.mark.parametrize("name", ["pyfeat_single_face.mp4", "tc_h264_10.mp4"])
def test_real_clips(setting, data_dir, name):
    path = data_dir / "data" / "videos" / name
    reader = PyAVSource(path)
    frames, info = [frame for frame, _ in zip(reader, range(4), strict=False)], reader.info
    found, wanted = parts.KeepingSink(), parts.KeepingSink()
    memory, config = HostMemory(), setting.config
    copies = [dataclasses.replace(f, planes=tuple(p.copy() for p in f.planes), duration=1) for f in frames]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(detection, "letterbox_cpu", lambda frame, plan, spec, scalers: letterbox(frame, plan, spec))
        source = parts.ListSource(info, copies)
        report = anonymize_frames(source, wanted, setting.on_cpu, Redaction(config, path), config.pipeline)
    device_source = UploadSource(parts.ListSource(info, frames), memory, surface="nvdec")
    device_report = setting.loop(memory, 2).anonymize(device_source, found, Redaction(config, path), config.pipeline)
    assert device_report.objects == report.objects
    assert_alike(found, wanted)
    reader.close()


@pytest.mark.parametrize("pix_fmt", ["yuv420p10le", "yuv444p"])
@pytest.mark.parametrize("degrees", [90])
def test_formats_and_rotations(setting, clips, faces, tmp_path, pix_fmt, degrees):
    path = faces.face_clip(clips, tmp_path / "clip.mp4", degrees=degrees, pix_fmt=pix_fmt, frames=3)
    wanted, report = by_cpu(setting, path)
    found, device_report = by_device(setting, path, HostMemory(), batch=2)
    assert device_report.objects == report.objects == {"face": 3}
    assert_alike(found, wanted)


def test_the_books(setting, clip):
    """No pixel leaves the device before it is redacted; nothing is allocated once it runs; few launches."""
    memory = HostMemory()
    loop = setting.loop(memory)
    by_device(setting, clip, memory, loop=loop)
    before, seen = memory.traffic.totals, []

    class Sink(parts.KeepingSink):
        def write(self, frame: Frame) -> None:
            super().write(frame)
            seen.append(memory.traffic.totals)

    sink, _ = by_device(setting, clip, memory, loop=loop, sink=Sink())
    spent = memory.traffic.totals - before
    layout_bytes = sum(plane.nbytes for plane in sink.planes[0])
    assert (spent.batches, spent.frames) == (3, FRAMES)
    assert spent.to_device.keys() == {"decoded frames", "regions", "settings"}
    assert spent.to_host.keys() == {"detections", "redacted frames"}
    assert spent.to_host["redacted frames"] == spent.to_device["decoded frames"] >= FRAMES * layout_bytes
    assert spent.to_host["detections"] / 9 < 32_768  # a full batch is computed, so nine frames
    assert spent.to_device["regions"] / FRAMES < 4096
    assert sum(spent.launches.values()) / spent.batches <= 12
    assert spent.waits == {"detections": 3, "finished frames": 3, "setting up": 2, "the end": 2}
    assert seen[-1].allocations == seen[0].allocations == memory.traffic.totals.allocations
    assert memory.used_bytes == 0


def test_frames_that_stay_on_the_device(setting, clip):
    """With NVDEC and NVENC not one pixel crosses."""
    memory = HostMemory()
    wanted, _ = by_cpu(setting, clip)
    found, _ = by_device(setting, clip, memory, sink=parts.KeepingSink(on_device=True))
    assert_alike(found, wanted)
    assert memory.traffic.totals.to_host.keys() == {"detections"}


def test_recorded_work_is_replayed(setting, clip, monkeypatch):
    monkeypatch.setattr(type(setting.detectors[0].device_runner), "capturable", True)
    memory = parts.RecordingMemory()
    wanted, _ = by_cpu(setting, clip)
    found, report = by_device(setting, clip, memory, batch=1)
    assert_alike(found, wanted)
    totals = memory.traffic.totals
    assert totals.graphs == FRAMES - BATCHES_UNDER_WAY  # the first run of each batch's memory is no replay
    assert totals.launches["letterbox"] == totals.launches["nms"] == report.frames == FRAMES


def test_too_little_memory_makes_batches_smaller(setting, clip, caplog):
    free = HostMemory()
    loop = setting.loop(free, batch=1)
    by_device(setting, clip, free, loop=loop)
    needed = free.traffic.totals.allocated_bytes
    memory = HostMemory(limit_bytes=int(needed * 1.02))
    wanted, _ = by_cpu(setting, clip)
    with caplog.at_level("INFO", logger="trt_anon"):
        found, _ = by_device(setting, clip, memory, batch=4)
    assert "batches of 1 frames" in caplog.text
    assert_alike(found, wanted)
    assert memory.used_bytes == 0
    with pytest.raises(OutOfDeviceMemory, match="gpu-memory"):
        by_device(setting, clip, HostMemory(limit_bytes=1 << 20), batch=4)


def own_threads() -> list[str]:
    stages = {f"trt-anon-{stage}" for stage in ("decode", "detect", "redact")}
    return [thread.name for thread in threading.enumerate() if thread.name in stages]


@pytest.mark.parametrize("track", [TrackConfig(look_ahead_seconds=0.08), TrackConfig(), TrackConfig(track="off")])
def test_tracks(setting, clip, track):
    """Frames wait on the device for those after them; what is hidden in them is what the CPU's tracks say."""
    reader = PyAVSource(clip)
    frames, info = list(reader), reader.info
    frames[3] = dataclasses.replace(frames[3], planes=tuple(plane.copy() for plane in frames[3].planes))
    frames[3].planes[0][40:200, 30:170] = 128  # the face is not found, but the shot goes on
    config = setting.config.pipeline
    found, wanted = parts.KeepingSink(), parts.KeepingSink()
    memory = HostMemory()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(detection, "letterbox_cpu", lambda frame, plan, spec, scalers: letterbox(frame, plan, spec))
        copies = [dataclasses.replace(f, planes=tuple(p.copy() for p in f.planes), duration=1) for f in frames]
        report = anonymize_frames(
            parts.ListSource(info, copies), wanted, setting.on_cpu, Redaction(setting.config, clip), config, track=track
        )
    device_report = setting.loop(memory, 2).anonymize(
        UploadSource(parts.ListSource(info, frames), memory),
        found,
        Redaction(setting.config, clip),
        config,
        track=track,
    )
    assert device_report.objects == report.objects == {"face": FRAMES - (track.track == "off")}
    assert_alike(found, wanted)
    pictures = set() if track.track == "off" else {"thumbnails"}
    assert memory.traffic.totals.to_host.keys() == {"detections", "redacted frames"} | pictures
    reader.close()


MOVING, CUT, LOST = 16, 11, (4, 8)
"""Frames of a clip in all; the first of its second shot; those in which the face is not found."""


def moving_frames(faces: Any) -> list[Frame]:
    """The camera moves 4 pixels a frame over a face that is out of focus for a while; then something else is shown."""
    form, rng = PIXEL_FORMATS["yuv420p"], np.random.default_rng(0)
    whole = faces.astronaut()
    other = np.kron(rng.integers(16, 235, (16, 24)), np.ones((16, 16))).astype(np.uint8)
    frames = []
    for index in range(MOVING):
        luma = np.ascontiguousarray(whole[:256, 60 + 4 * index :][:, :384].mean(axis=2).astype(np.uint8))
        if LOST[0] <= index < LOST[1]:
            face = luma[50:190, 100:240]
            face[...] = np.array([np.convolve(row, np.ones(25) / 25, "same") for row in face])
        planes = (luma if index < CUT else other.copy(), *(np.full((128, 192), 128, np.uint8) for _ in range(2)))
        frames.append(Frame(planes, form, 384, 256, index, index, Fraction(1, 25), duration=1))
    return frames


def test_tracks_see_cuts_and_the_camera(setting, faces, monkeypatch):
    """The tracker is shown the same small pictures on a device, and so tracks are the same; at one launch more."""
    monkeypatch.setattr(thumbnail, "LONG_SIDE_PX", 200)  # so that pictures are made smaller at all
    monkeypatch.setattr(detection, "letterbox_cpu", lambda frame, plan, spec, scalers: letterbox(frame, plan, spec))
    shown: list[tuple[Sight, Tracks]] = []
    sights: list[Sight] = []

    class Watched(tracking.TrackedFrames):  # type: ignore[type-arg]
        def push(self, frame: Any, sight: Sight) -> Any:
            sights.append(sight)
            return self.note(super().push(frame, sight))

        def finish(self) -> Any:
            return self.note(super().finish())

        def note(self, given: Any) -> Any:
            shown.extend(zip(sights[len(shown) :], [tracks for _, tracks in given], strict=False))
            return given

    monkeypatch.setattr(tracking, "TrackedFrames", Watched)
    monkeypatch.setattr(device_loop, "TrackedFrames", Watched)
    info = MediaInfo("video", 384, 256, PIXEL_FORMATS["yuv420p"], "raw", "raw", average_rate=Fraction(25))
    config, track = setting.config.pipeline, TrackConfig()
    redaction = Redaction(setting.config, Path("moving.mkv"))
    source = parts.ListSource(info, moving_frames(faces))
    anonymize_frames(source, parts.KeepingSink(), setting.on_cpu, redaction, config, track=track)
    wanted = shown.copy()
    shown.clear()
    sights.clear()
    memory = HostMemory()
    source = UploadSource(parts.ListSource(info, moving_frames(faces)), memory)
    setting.loop(memory, 4).anonymize(source, parts.KeepingSink(), redaction, config, track=track)
    assert len(shown) == len(wanted) == MOVING
    for (sight, tracks), (expected, others) in zip(shown, wanted, strict=True):
        np.testing.assert_array_equal(sight.picture, expected.picture)
        assert sight.picture.shape == (128, 192)
        np.testing.assert_array_equal(tracks.track_ids, others.track_ids)
        np.testing.assert_allclose(tracks.boxes_xyxy_px, others.boxes_xyxy_px, atol=0.5)
    faces_by_frame = [len(tracks.track_ids) for _, tracks in shown]
    assert faces_by_frame == [1] * CUT + [0] * (MOVING - CUT)  # followed while it is lost, and not over the cut
    totals = memory.traffic.totals
    assert totals.launches["thumbnail"] == totals.batches == 4
    assert totals.to_host["thumbnails"] == MOVING * 128 * 192
    assert sum(totals.launches.values()) / totals.batches <= 12


def test_a_fault_of_the_tracker(setting, clip, monkeypatch):
    def fails(self: Any, item: Any, sight: Any) -> Any:
        self._frames.append(item)
        if len(self._frames) == 3:
            raise PipelineError("numbers that are not finite")
        return []

    monkeypatch.setattr(tracking.TrackedFrames, "push", fails)
    memory, sink = HostMemory(), parts.KeepingSink()
    with pytest.raises(PipelineError, match="not finite"):
        by_device(setting, clip, memory, track=TrackConfig())
    config = setting.config.pipeline.model_copy(update={"on_error": "redact-frame"})
    monkeypatch.setattr(tracking.TrackedFrames, "finish", lambda self: [])
    source = UploadSource(PyAVSource(clip), memory)
    with pytest.raises(PipelineError, match="kept frames back"):
        setting.loop(memory).anonymize(source, sink, Redaction(setting.config, clip), config, track=TrackConfig())
    source.close()


class Breaking:
    """A network's runner that fails, or gives NaN, at an inference."""

    def __init__(self, runner: Any, at: int, nan: bool = False) -> None:
        self._runner, self._at, self._nan, self._count = runner, at, nan, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._runner, name)

    def enqueue(self, feeds: Any, outputs: Any, stream: Any = None) -> None:
        self._runner.enqueue(feeds, outputs, stream)
        self._count += 1
        if self._count == self._at + 1:
            if not self._nan:
                raise ModelError("the engine is gone")
            for array in outputs.values():
                array[1] = np.nan


def broken(setting: Setting, at: int, nan: bool = False) -> list[DeviceDetector]:
    (detector,) = setting.detectors
    runner: Any = Breaking(detector.device_runner, at, nan)
    return [DeviceDetector(detector.family, runner, detector._scales, [0], detector.threshold)]


@pytest.mark.parametrize("nan", [False, True])
@pytest.mark.parametrize("at", [0, 1])
def test_a_fault_in_detection(setting, clip, at, nan):
    memory = HostMemory()
    loop = setting.loop(memory, 3, broken(setting, at, nan))
    sink = parts.KeepingSink()
    with pytest.raises(ModelError):
        by_device(setting, clip, memory, loop=loop, sink=sink)
    assert sink.ended == ["abort"]
    assert memory.used_bytes == 0
    assert not own_threads()


@pytest.mark.parametrize("nan", [False, True])
def test_a_fault_redacts_its_frames_whole(setting, clip, nan):
    memory = HostMemory()
    loop = setting.loop(memory, 3, broken(setting, 1, nan))
    sink = parts.KeepingSink()
    source = UploadSource(PyAVSource(clip), memory)
    config = setting.config.pipeline.model_copy(update={"on_error": "redact-frame"})
    report = loop.anonymize(source, sink, Redaction(setting.config, clip), config)
    source.close()
    black = [index for index, planes in enumerate(sink.planes) if (planes[0] == 16).all()]
    assert black == ([4] if nan else [3, 4, 5])  # the second of the second batch, or all of it
    assert report.frames_redacted_whole == {"detect": len(black)}
    assert report.frames == FRAMES


@pytest.mark.parametrize("fail_at", [0, 4])
def test_failures_elsewhere(setting, clip, fail_at):
    reader = PyAVSource(clip)
    frames, info = list(reader), reader.info
    memory = HostMemory()
    for source, sink, error in (
        (parts.ListSource(info, frames, fail_at, InputError("damaged")), parts.KeepingSink(), InputError),
        (parts.ListSource(info, frames), parts.KeepingSink(fail_at), OSError),
    ):
        with pytest.raises(error):
            setting.loop(memory).anonymize(
                UploadSource(source, memory), sink, Redaction(setting.config, clip), setting.config.pipeline
            )
        assert sink.ended == ["abort"]
        assert memory.used_bytes == 0
    reader.close()
    assert not own_threads()


def test_a_concealed_frame_is_redacted_whole(setting, clip):
    reader = PyAVSource(clip)
    frames, info = list(reader), reader.info
    frames[2] = dataclasses.replace(frames[2], concealed=True)
    memory, sink = HostMemory(), parts.KeepingSink()
    config = setting.config.pipeline.model_copy(update={"on_error": "redact-frame"})
    source = UploadSource(parts.ListSource(info, frames), memory)
    report = setting.loop(memory).anonymize(source, sink, Redaction(setting.config, clip), config)
    assert report.frames_redacted_whole == {"decode": 1}
    assert [index for index, planes in enumerate(sink.planes) if (planes[0] == 16).all()] == [2]
    with pytest.raises(InputError):
        setting.loop(memory).anonymize(
            UploadSource(parts.ListSource(info, frames), memory),
            parts.KeepingSink(),
            Redaction(setting.config, clip),
            setting.config.pipeline,
        )
    reader.close()


def test_a_crowd_beyond_what_is_kept_is_a_fault(setting, clip, monkeypatch):
    for module in ("device_model", "device_found"):
        monkeypatch.setattr(f"trt_anon.pipeline.{module}.MAX_FOUND", 1)
    (detector,) = setting.detectors
    eager = DeviceDetector(detector.family, detector.device_runner, detector._scales, [0], 0.001)
    memory = HostMemory()
    with pytest.raises((ModelError, PipelineError), match="more objects than the device keeps"):
        by_device(setting, clip, memory, loop=setting.loop(memory, 3, [eager]))
