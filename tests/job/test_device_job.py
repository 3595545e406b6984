"""Jobs whose videos go through devices: the host's memory in the place of several GPUs, one of which may fail."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import av
import numpy as np
import pytest

from trt_anon.api import Anonymizer, make_config
from trt_anon.cuda.memory import HostMemory
from trt_anon.errors import DeviceFailed, DeviceMissing, InputError, UsageError
from trt_anon.job import device_detection
from trt_anon.job.device_detection import DeviceDetection, load_detection
from trt_anon.job.device_workers import DeviceWorkers
from trt_anon.job.files import anonymize_files
from trt_anon.job.resume import Resume
from trt_anon.models.registry import Registry
from trt_anon.pipeline.detection import FrameDetector, choose_recipes, with_growth
from trt_anon.pipeline.device_engine import DeviceEngine
from trt_anon.sink.pyav import PyAVSink
from trt_anon.source.device import surface_info
from trt_anon.source.pyav import PyAVSource

pytest.importorskip("onnxruntime")


class Fails(HostMemory):
    """A device that gives up when the first finished frames are copied from it."""

    def download(self, *args: Any) -> None:
        if str(args[3]) == "redacted frames":
            raise DeviceFailed("the device fell off the bus")
        super().download(*args)


def surface_info_of(path: Path) -> Any:
    source = PyAVSource(path)
    source.close()
    return surface_info(source.info)


class Job:
    def __init__(self, *memories: HostMemory, **options: Any) -> None:
        config = make_config(
            device="cpu", runtime="onnxruntime", precision="f32", threads=2, threshold=0.3, batch=5, **options
        )
        registry = Registry()
        recipes = choose_recipes(config, registry)
        self.config = with_growth(config, recipes)
        self.memories = memories
        engines = [DeviceEngine(self.config, recipes, registry, memory) for memory in memories]
        self.detection = DeviceDetection(
            engines, lambda: FrameDetector.load(self.config, registry, recipes), videos_at_once=1
        )

    def run(self, sources: list[Path], output: Path, **options: Any) -> Any:
        job = Anonymizer.plan(sources, output)
        return anonymize_files(job, self.config, self.detection, **options)


@pytest.fixture
def job(request: pytest.FixtureRequest) -> Any:
    made: list[Job] = []

    def make(*memories: HostMemory, **options: Any) -> Job:
        made.append(Job(*memories, **options))
        return made[-1]

    yield make
    for one in made:
        one.detection.close()


@pytest.fixture(scope="module")
def folder(clips: ModuleType, faces: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three clips with sound, and a picture."""
    from PIL import Image

    made = tmp_path_factory.mktemp("in")
    for name in ("a.mp4", "b.mkv", "c.mp4"):
        faces.face_clip(clips, made / name, frames=5, audio=["aac"], options={"preset": "ultrafast"})
    Image.fromarray(faces.picture()).save(made / "face.png")
    return made


def test_videos_go_through_the_device_and_pictures_do_not(job, folder, tmp_path, faces):
    memory = HostMemory()
    one = job(memory)
    report = one.run([folder], tmp_path / "out")
    assert (report.failed, report.frames) == (0, 16)
    assert one.detection.for_source(folder / "a.mp4") is one.detection.on_cpu
    assert memory.traffic.totals.frames == 15
    assert memory.used_bytes == 0
    by_cpu = tmp_path / "cpu"
    with Anonymizer(one.config) as anonymizer:
        anonymizer.files([folder], by_cpu)
    for name in ("a.mp4", "b.mkv", "c.mp4"):
        assert faces.times(tmp_path / "out" / name) == faces.times(by_cpu / name)
        for found, wanted in zip(faces.luma(tmp_path / "out" / name), faces.luma(by_cpu / name), strict=True):
            assert np.abs(found.astype(int) - wanted).mean() < 1
        with av.open(str(tmp_path / "out" / name)) as container, av.open(str(by_cpu / name)) as other:
            streams = [[(s.type, s.codec_context.name, s.duration) for s in c.streams] for c in (container, other)]
            assert streams[0] == streams[1]
    assert (tmp_path / "out" / "face.png").read_bytes() == (by_cpu / "face.png").read_bytes()


def test_what_a_failing_device_leaves_goes_to_the_others(job, folder, tmp_path, caplog):
    broken, sound = Fails(), HostMemory()
    one = job(broken, sound)
    report = one.run([folder], tmp_path / "out")
    assert report.failed == 0
    assert sound.traffic.totals.frames == 15
    assert broken.traffic.totals.frames == 0
    assert "gets no more work (DeviceFailed)" in caplog.text
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.mp4", "b.mkv", "c.mp4", "face.png"]


def test_a_device_that_is_the_only_one(job, folder, tmp_path):
    report = job(Fails()).run([folder], tmp_path / "out")
    failed = {file.source.name: file.error for file in report.files if file.status == "failed"}
    assert failed.keys() == {"a.mp4", "b.mkv", "c.mp4"}
    assert "bus" in failed["a.mp4"]
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["face.png"]


def test_an_interrupt_ends_the_videos_under_way(job, folder, tmp_path):
    one = job(HostMemory(), HostMemory())

    def on_event(event: Any) -> None:
        if event.kind == "frames":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        one.run([folder / "a.mp4", folder / "b.mkv", folder / "c.mp4"], tmp_path / "out", on_event=on_event)
    assert not [path for path in (tmp_path / "out").rglob("*") if path.is_file()]


def test_encoders(job, folder, tmp_path, monkeypatch, caplog):
    """A GPU's encoder is an error where it is named and not there, and a line of the log where it is not named."""
    monkeypatch.setitem(sys.modules, "PyNvVideoCodec", None)
    report = job(HostMemory(), encoder="nvenc").run([folder / "a.mp4"], tmp_path / "a.mp4")
    (file,) = report.files
    assert "PyNvVideoCodec" in (file.error or "")
    on_gpu = HostMemory()
    on_gpu.side = "cupy"
    info = surface_info_of(folder / "a.mp4")
    engine = job(HostMemory()).detection.engines[0]
    engine.memory = on_gpu
    with caplog.at_level("INFO", logger="trt_anon"):
        sink = engine.open_sink(tmp_path / "b.mp4", folder / "a.mp4", info)
    sink.abort()
    assert isinstance(sink, PyAVSink)
    assert "encoding on the CPU" in caplog.text
    with Anonymizer(device="cpu", encoder="nvenc") as anonymizer, pytest.raises(UsageError, match="device cuda"):
        anonymizer.file(folder / "a.mp4", tmp_path / "c.mp4")


def test_segments_of_a_long_video(job, clips, faces, tmp_path):
    """Each goes through the device, and the joined video is what it is in one piece."""
    path = faces.face_clip(
        clips, tmp_path / "long.mp4", frames=15, audio=["aac"], options={"g": "5", "sc_threshold": "0", "bf": "2"}
    )
    whole, memory = job(HostMemory()), HostMemory()
    assert whole.run([path], tmp_path / "whole.mp4").failed == 0
    cut = job(memory)
    with Anonymizer(cut.config) as anonymizer:
        anonymizer._detector.close()
        anonymizer._detector = cut.detection
        resume = Resume(journal=tmp_path / "journal", segment_seconds=0.15)
        report = anonymizer.files([path], tmp_path / "cut.mp4", resume=resume)
    assert (report.failed, report.frames) == (0, 15)
    assert memory.traffic.totals.batches >= 3  # a batch holds five frames, and no segment shares one
    assert faces.times(tmp_path / "cut.mp4") == faces.times(tmp_path / "whole.mp4")
    for found, wanted in zip(faces.luma(tmp_path / "cut.mp4"), faces.luma(tmp_path / "whole.mp4"), strict=True):
        assert np.abs(found.astype(int) - wanted).mean() < 2  # an encoder begins anew


class Engine:
    """Stands for an engine; remembers how many videos were on it at once."""

    def __init__(self, fails: bool = False) -> None:
        self.memory = HostMemory()
        self.fails, self.now, self.most = fails, 0, 0


def test_workers_share_the_load():
    engines: list[Any] = [Engine(), Engine(), Engine(fails=True)]
    workers = DeviceWorkers(engines, at_once=2)
    assert workers.count == 6
    gate, lock, done = threading.Barrier(4), threading.Lock(), []

    def work(engine: Any) -> None:
        if engine.fails:
            raise DeviceFailed("gone")
        with lock:
            engine.now += 1
            engine.most = max(engine.most, engine.now)
        gate.wait(30)
        with lock:
            engine.now -= 1
            done.append(1)

    threads = [threading.Thread(target=workers.run, args=(work,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(done) == 8
    assert [engine.most for engine in engines] == [2, 2, 0]


def test_an_error_of_the_video_is_no_device_fault():
    workers = DeviceWorkers([Engine(), Engine()])
    tries: list[int] = []

    def work(engine: Any) -> None:
        tries.append(1)
        raise InputError("damaged")

    with pytest.raises(InputError):
        workers.run(work)
    assert len(tries) == 1


def test_all_devices_fail():
    def work(engine: Any) -> None:
        raise DeviceFailed("gone")

    workers = DeviceWorkers([Engine(), Engine()])
    for _ in range(2):
        with pytest.raises(DeviceFailed):
            workers.run(work)


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> Callable[..., FrameDetector]:
    """`load_detection` with one GPU that the driver names and that nothing works on."""

    def load(**options: Any) -> FrameDetector:
        config = make_config(**options)
        registry = Registry()
        return load_detection(config, registry, choose_recipes(config, registry))

    monkeypatch.setattr(device_detection, "find_gpus", lambda: ("a GPU",))
    return load


def test_auto_falls_back_and_cuda_does_not(loaded, caplog, monkeypatch):
    def none(*args: Any) -> Any:
        raise DeviceMissing("CUDA does not start")

    monkeypatch.setattr(device_detection, "_memories", none)
    with caplog.at_level("INFO", logger="trt_anon"):
        detection = loaded()
    assert not isinstance(detection, DeviceDetection)
    assert "running on the CPU, for the GPU cannot be used: CUDA does not start" in caplog.text
    detection.close()
    for options in ({"device": "cuda"}, {"runtime": "tensorrt"}, {"precision": "int8"}):
        with pytest.raises(DeviceMissing, match="does not start"):
            loaded(**options)
    loaded(device="cpu").close()
    loaded(runtime="openvino").close()
    assert not isinstance(loaded(runtime="null", precision="auto"), DeviceDetection)


def test_what_the_command_refuses():
    from trt_anon.cli.gpu_options import devices

    assert devices("0, 2") == (0, 2)
    assert devices(None) is None
    for text in ("", "a", "0,0", "-1"):
        with pytest.raises(UsageError, match="--devices"):
            devices(text)
