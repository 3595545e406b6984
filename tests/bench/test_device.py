"""The bench of the device pipeline, on the host in a GPU's place: it runs, and its books add up."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

pytest.importorskip("av")
pytest.importorskip("cv2")
pytest.importorskip("onnxruntime")

from trt_anon.api import make_config
from trt_anon.bench.clip import ClipSpec, generate_clip
from trt_anon.bench.device import DeviceSetting, DeviceSubject
from trt_anon.bench.run import measure
from trt_anon.cuda.memory import HostMemory
from trt_anon.errors import DeviceMissing
from trt_anon.models.registry import Registry
from trt_anon.pipeline.detection import choose_recipes, with_growth
from trt_anon.pipeline.device_detector import load_device_detectors
from trt_anon.source.device import UploadSource
from trt_anon.source.pyav import PyAVSource

BATCH, FRAMES = 1, 42


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    folder = tmp_path_factory.mktemp("device")
    own = (Path(__file__).parents[2] / "engines/yunet.toml").read_text()
    small = re.sub(r"^\[presets\..*", "", own, flags=re.MULTILINE | re.DOTALL)
    small, changed = re.subn(r"min_long_side_px = \d+\nmax_long_side_px = \d+", "max_long_side_px = 96", small)
    assert changed
    recipe = folder / "small.toml"
    recipe.write_text(small)
    options = {"runtime": "onnxruntime", "precision": "f32", "threads": 1, "look_ahead_seconds": 0.1}
    config = make_config(device="cpu", detectors=(str(recipe),), **options)
    registry = Registry()
    recipes = choose_recipes(config, registry)
    config = with_growth(config, recipes)
    clip = generate_clip(ClipSpec(96, 72, 1, 6, FRAMES // 6), folder)
    memory = HostMemory()
    setting = DeviceSetting(
        clip=clip,
        batch=BATCH,
        config=config,
        recipes=recipes,
        detectors=load_device_detectors(recipes, config, registry, None),
        memory=memory,
        open_source=lambda: UploadSource(PyAVSource(clip), memory, surface="nvdec"),
        scratch=folder,
        stages=True,
        encode=True,
        copy_bytes=1 << 20,
        videos=2,
    )
    made = measure(DeviceSubject(setting, {"a": "reason"}), clip, 1, BATCH, 1e-9, None, lambda _line: None)
    assert memory.used_bytes == 0, "everything is freed"
    return made


def test_every_part_is_measured(case):
    assert list(case.parts) == [
        *("decode", "preprocess", "engine", "around the engine", "detect", "redact", "encode"),
        *("pipeline", "pipeline + encode", "decode x2", "pipeline x2"),
    ]
    assert all(part.fps.runs == 3 and part.fps.low > 0 for part in case.parts.values())
    assert case.frames == FRAMES
    assert case.found_per_frame > 0
    assert set(case.hours_per_10000) == {"pipeline", "pipeline + encode", "pipeline x2"}


def test_shares_are_those_of_a_device(case):
    assert set(case.shares) == {
        "detect of bare engine",
        "pipeline of decoder",
        "pipeline of bare engine",
        "pipeline of the slower of both",
        "pipeline x2 of the slower of decode x2 and bare engine",
        "pipeline + encode of pipeline",
        "preprocess of copy bandwidth",
        "redact of copy bandwidth",
    }
    assert all(share.median > 0 for share in case.shares.values())


def test_the_books_are_those_of_the_steady_pipeline(case):
    traffic = case.traffic
    assert traffic.allocations_per_batch == 0
    # Letterbox, two of decoding, suppression and taking; redaction where something was found.
    assert 4 <= traffic.launches_per_batch <= 12
    # NV12 of 96x72 in rows of 256 bytes: 72 of luma, 36 of chroma; nothing comes back but what was found.
    assert traffic.pcie_bytes_per_frame["decoded frames to the device"] == pytest.approx(256 * 108, rel=0.15)
    assert not [purpose for purpose in traffic.pcie_bytes_per_frame if purpose.startswith("redacted frames")]
    assert "detections to the host" in traffic.pcie_bytes_per_frame
    assert traffic.synchronisations_per_batch > 0


def test_what_is_missing_is_said(case):
    assert case.missing == {"a": "reason"}
    assert case.power is None


def test_without_a_gpu_there_is_a_reason(monkeypatch):
    from trt_anon.bench import gpu

    monkeypatch.setattr(gpu, "find_gpus", tuple)
    with pytest.raises(DeviceMissing, match="use --device cpu"):
        gpu.gpu_bus_id()


def test_what_a_gpu_cannot_encode_is_said_and_done_by_the_cpu(tmp_path, monkeypatch):
    from trt_anon.bench import device_alone
    from trt_anon.sink.pyav import PyAVSink

    clip = generate_clip(ClipSpec(96, 72, 0, 2), tmp_path)
    source = PyAVSource(clip)
    source.close()
    memory = HostMemory()
    memory.side = "cupy"

    def no_nvenc(path, **_options):
        raise DeviceMissing(f"{path}: this GPU has no NVENC")

    monkeypatch.setattr(device_alone, "NvencSink", no_nvenc)
    for encoder, works in (("auto", True), ("nvenc", False)):
        setting = DeviceSetting(
            clip=clip,
            batch=1,
            config=make_config(device="cpu", encoder=encoder),
            recipes=(),
            detectors=(),
            memory=memory,
            open_source=lambda: None,
            scratch=tmp_path,
            stages=False,
            encode=True,
        )
        missing = {}
        if works:
            sink = setting.pipeline_encoder(source.info, missing)
            assert type(sink) is PyAVSink
            sink.abort()
            assert missing == {"encoding on the GPU": "it: this GPU has no NVENC"}
        else:
            with pytest.raises(DeviceMissing):
                setting.pipeline_encoder(source.info, missing)
