"""`trt-anon anonymize`: every option reaches the output, and the process behaves like a good one."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import av
import numpy as np
import pytest
from click.testing import Result

from trt_anon.cli import progress
from trt_anon.config import AnonymizeConfig, RuntimeConfig
from trt_anon.errors import UsageError

Invoke = Callable[..., Result]
Command = Callable[..., "subprocess.Popen[str]"]


def left_behind(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def picture_of(path: Path) -> np.ndarray:
    from PIL import Image

    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def changed(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    return (before != after).any(axis=2)


# --- the job


def test_a_picture_and_a_clip_are_anonymized(invoke: Invoke, samples: Path, tmp_path: Path, faces: ModuleType) -> None:
    words = ("anonymize", samples / "face.png", samples / "face.mp4", "--output", tmp_path / "out", "--threshold", 0.3)
    result = invoke(*words)
    assert result.exit_code == 0, result.output
    assert re.search(r"2 of 2 files done, 9 frames, 9 face boxes, [\d.]+ s, [\d.]+ frames/s", result.stdout)
    assert left_behind(tmp_path) == ["out/face.mp4", "out/face.png"]
    before = faces.picture()
    after = picture_of(tmp_path / "out" / "face.png")
    assert faces.detail(faces.crop(after, faces.FACE)) < 0.35 * faces.detail(faces.crop(before, faces.FACE))
    assert not changed(before, after)[:, 170:].any()
    for old, new in zip(faces.luma(samples / "face.mp4"), faces.luma(tmp_path / "out" / "face.mp4"), strict=True):
        assert faces.detail(faces.crop(new, faces.FACE)) < 0.5 * faces.detail(faces.crop(old, faces.FACE))


def test_one_file_into_a_folder_that_does_not_exist_yet(invoke: Invoke, samples: Path, tmp_path: Path) -> None:
    assert invoke("anonymize", samples / "face.png", "-o", f"{tmp_path}/new/").exit_code == 0
    assert left_behind(tmp_path) == ["new/face.png"]


def test_options_reach_the_configuration(
    invoke: Invoke, samples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []

    class Spy:
        def __init__(self, config: Any, **_: Any) -> None:
            seen.append(config)
            raise UsageError("far enough")

        @staticmethod
        def plan(*_: Any, **__: Any) -> Any:
            from trt_anon.job.inputs import Plan

            return Plan(())

    monkeypatch.setattr("trt_anon.api.Anonymizer", Spy)
    config = tmp_path / "c.toml"
    config.write_text('[redact]\nmethod = "solid"\ngrow = 3.0\n[pipeline]\nqueue_frames = 3\n')
    given = {
        "--detect": "faces,plates", "--preset": "fast", "--threshold": 0.25, "--redact": "pixelate", "--strength": 0.5,
        "--shape": "rounded", "--audio": "drop", "--subtitles": "drop", "--metadata": "keep", "--file-times": "keep",
        "--quality": 33, "--codec": "av1", "--encoder-preset": "9", "--device": "cpu", "--runtime": "onnxruntime",
        "--threads": 3, "--config": config, "--on-error": "redact-frame", "--tile": 960, "--tile-overlap": 0.3,
        "--fusion": "weighted", "--track": "off", "--look-ahead": 2.5, "--max-gap": 0.5, "--detect-every": 3,
        "--devices": "0,2", "--decoder": "pyav", "--encoder": "cpu", "--batch": 4, "--gpu-memory": 512,
        "--videos-at-once": 2,
        "--feather": 0.1,
    }  # fmt: skip
    words = [word for pair in given.items() for word in pair]
    result = invoke(
        "anonymize",
        "a.mp4",
        "-o",
        "b.mp4",
        *words,
        "--flip",
        "--two-pass",
        "--detector",
        "yunet",
        "--detector",
        "x.toml",
    )
    assert result.exit_code == 2
    (made,) = seen
    assert made.model_dump() == {
        "detect": {
            "classes": ("face", "license_plate"), "detectors": ("yunet", "x.toml"), "preset": "fast", "threshold": 0.25,
            "tile_px": 960, "tile_overlap": 0.3, "flip": True, "fusion": "weighted",
        },
        "track": {
            **AnonymizeConfig().track.model_dump(), "track": "off", "look_ahead_seconds": 2.5, "max_gap_seconds": 0.5,
            "detect_every": 3, "two_pass": True,
        },
        "redact": {
            "method": "pixelate", "strength": 0.5, "shape": "rounded", "grow": 3.0, "feather": 0.1,
            "learned_growth": (),
        },
        "sink": {
            "codec": "av1", "encoder": "cpu", "quality": 33, "encoder_preset": "9", "audio": "drop",
            "subtitles": "drop", "metadata": "keep", "file_times": "keep",
        },
        "runtime": {
            "device": "cpu", "runtime": "onnxruntime", "devices": (0, 2), "threads": 3,
            "precision": RuntimeConfig().precision,
        },
        "pipeline": {
            "queue_frames": 3, "decoder": "pyav", "batch": 4, "gpu_memory_mib": 512, "videos_at_once": 2,
            "on_error": "redact-frame",
        },
        "regions": AnonymizeConfig().regions.model_dump(),
    }  # fmt: skip
    invoke("anonymize", "a.mp4", "-o", "b.mp4", "--detect", "PLATES, plate", "--grow", "1.7")
    assert seen[1].detect.classes == ("license_plate",)
    assert seen[1].redact.grow == 1.7
    alone = invoke("anonymize", "a.mp4", "-o", "b.mp4", "--tile-overlap", 0.3)
    assert "--tile PIXELS" in str(alone.exception)


def test_redaction_options_have_their_effect(invoke: Invoke, samples: Path, tmp_path: Path, faces: ModuleType) -> None:
    before = faces.picture()

    def made(*options: object) -> np.ndarray:
        target = tmp_path / f"{len(list(tmp_path.iterdir()))}.png"
        result = invoke("anonymize", samples / "face.png", "-o", target, "-q", *options)
        assert (result.exit_code, result.output) == (0, "")
        return picture_of(target)

    default = made()
    solid = made("--redact", "solid")
    assert (solid[changed(before, default)] == 0).mean() > 0.99
    middle = (slice(100, 140), slice(80, 112))
    pixelated = made("--redact", "pixelate", "--strength", "0.25")
    assert len(np.unique(pixelated[middle].reshape(-1, 3), axis=0)) <= 9
    assert faces.detail(made("--strength", "0.9")[middle]) < 0.7 * faces.detail(default[middle])
    areas = [changed(before, made("--redact", "solid", "--shape", s)).sum() for s in ("ellipse", "rounded", "box")]
    assert areas == sorted(set(areas))
    grown = [changed(before, made("--redact", "solid", "--shape", "box", "--grow", g)).sum() for g in ("1.0", "2.0")]
    assert grown[1] == pytest.approx(min(4 * grown[0], grown[1] * 1.3), rel=0.3)
    assert grown[1] > 2.5 * grown[0]
    assert not changed(before, made("--threshold", "0.99")).any()
    assert not changed(before, made("--runtime", "null")).any()
    assert changed(before, made("--runtime", "onnxruntime", "--threads", 1)).sum() > 5000


def streams(path: Path) -> dict[str, list[str]]:
    with av.open(str(path)) as container:
        found: dict[str, list[str]] = {}
        for stream in container.streams:
            codec = stream.codec_context.name if stream.codec_context is not None else "?"
            found.setdefault(stream.type, []).append(codec)
        return found


def test_output_options_have_their_effect(
    invoke: Invoke, samples: Path, tmp_path: Path, clips: ModuleType, faces: ModuleType
) -> None:
    source = samples / "face.mp4"

    def made(*options: object) -> Path:
        target = tmp_path / f"{len(list(tmp_path.iterdir()))}.mp4"
        result = invoke("anonymize", source, "-o", target, "-q", *options)
        assert (result.exit_code, result.output) == (0, "")
        assert faces.times(target) == faces.times(source)
        return target

    default = made()
    assert streams(default) == streams(source)
    for kind in ("audio", "subtitle"):
        assert clips.stream_packets(default, kind) == clips.stream_packets(source, kind)
    assert b"secret name" not in default.read_bytes()
    kept = made("--metadata", "keep")
    assert b"secret name" not in kept.read_bytes()
    with av.open(str(kept)) as container, av.open(str(default)) as other:
        assert container.metadata["creation_time"].startswith("2024-05-06")
        assert "creation_time" not in other.metadata
    assert set(streams(made("--audio", "drop"))) == {"video", "subtitle"}
    assert set(streams(made("--subtitles", "drop"))) == {"video", "audio"}
    for codec, name in (("hevc", "hevc"), ("av1", "libdav1d"), ("vp9", "vp9")):
        assert streams(made("--codec", codec))["video"] == [name]
    small, large = made("--quality", "5"), made("--quality", "95")
    assert small.stat().st_size < default.stat().st_size < large.stat().st_size
    slow, fast = made("--encoder-preset", "slow"), made("--encoder-preset", "ultrafast")
    assert slow.read_bytes() != fast.read_bytes()


def test_the_summary_has_figures_and_no_boxes(invoke: Invoke, samples: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.mp4").write_text("not a video")
    summary = tmp_path / "report.json"
    result = invoke(
        "anonymize", samples / "face.png", samples / "face.mp4", tmp_path / "bad.mp4",
        "-o", tmp_path / "out", "--json", summary, "--threshold", 0.3,
    )  # fmt: skip
    assert result.exit_code == 1
    report = json.loads(summary.read_text())
    assert set(report) == {"version", "totals", "files"}
    totals = report["totals"]
    seconds, fps = totals.pop("seconds"), totals.pop("fps")
    assert totals == {
        "files": 3, "done": 2, "failed": 1, "skipped": 0, "unchanged": 0, "frames": 9, "objects": {"face": 9},
        "exit_code": 1,
        "frames_redacted_whole": {},
    }  # fmt: skip
    assert fps == pytest.approx(9 / seconds, rel=0.1)
    by_name = {Path(f["source"]).name: f for f in report["files"]}
    assert by_name["face.mp4"]["frames"] == 8
    assert by_name["face.mp4"]["objects"] == {"face": 8}
    assert by_name["bad.mp4"]["status"] == "failed"
    assert by_name["bad.mp4"]["error_type"] == "InputError"
    assert set(by_name["face.mp4"]) == {
        "source", "destination", "status", "kind", "frames", "objects", "seconds", "fps", "error", "error_type",
        "frames_redacted_whole", "metadata_kept", "verification",
    }  # fmt: skip

    def numbers(value: Any) -> int:
        if isinstance(value, dict):
            return sum(map(numbers, value.values()))
        if isinstance(value, list):
            assert all(isinstance(v, dict) for v in value), "a list of numbers could be a box"
            return sum(map(numbers, value))
        return isinstance(value, int | float)

    assert numbers(report["files"]) == 3 * 3 + 2  # frames, seconds, fps of each; a count of faces where done


def test_a_summary_in_the_way_of_the_job_is_refused_before_it_starts(
    invoke: Invoke, samples: Path, tmp_path: Path
) -> None:
    source = tmp_path / "a.png"
    source.write_bytes((samples / "face.png").read_bytes())
    (tmp_path / "old.json").write_text("old")
    target = tmp_path / "b.png"
    for name, more in (("old.json", []), ("a.png", ["--overwrite"]), ("b.png", ["--overwrite"]), (".", [])):
        result = invoke("anonymize", source, "-o", target, "--json", tmp_path / name, *more)
        assert result.exit_code == 2, name
        assert left_behind(tmp_path) == ["a.png", "old.json"]
    assert source.read_bytes() == (samples / "face.png").read_bytes()
    assert invoke("anonymize", source, "-o", target, "--json", tmp_path / "old.json", "--overwrite").exit_code == 0
    assert json.loads((tmp_path / "old.json").read_text())["totals"]["done"] == 1


# --- what is printed


def test_quiet_prints_errors_alone(invoke: Invoke, samples: Path, tmp_path: Path) -> None:
    (tmp_path / "bad [red]name[blink].mp4").write_text("not a video")
    good = invoke("anonymize", samples / "face.png", "-o", tmp_path / "a.png", "--quiet")
    assert (good.exit_code, good.output) == (0, "")
    result = invoke(
        "anonymize", tmp_path / "bad [red]name[blink].mp4", samples / "face.png", "-o", tmp_path / "out", "--quiet"
    )
    assert (result.exit_code, result.stdout) == (1, "")
    (line,) = result.stderr.splitlines()
    assert line.startswith("failed ")
    assert "bad [red]name[blink].mp4" in line


def test_plain_lines_where_there_is_no_terminal(
    invoke: Invoke, samples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "_LINE_EVERY_SECONDS", 0.0)
    result = invoke("anonymize", samples / "face.mp4", samples / "face.png", "-o", tmp_path / "out")
    lines = result.stderr.splitlines()
    assert [line for line in lines if "frames" in line and "mp4" in line] == [
        f"face.mp4: {n}/8 frames" for n in range(1, 9)
    ]
    assert lines[-1] == "2/2 files"
    assert "\x1b" not in result.output


def test_names_that_are_no_utf8_can_be_printed(command: Command, samples: Path, tmp_path: Path) -> None:
    source = os.fsencode(tmp_path) + b"/caf\xe9.png"
    with open(source, "wb") as file:  # noqa: PTH123 - bytes are not for pathlib
        file.write((samples / "face.png").read_bytes())
    process = command("detect", os.fsdecode(source), "-o", os.fsdecode(os.fsencode(tmp_path) + b"/\xe9.json"))
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert "1 boxes in 1 frames" in out
    process = command("anonymize", os.fsdecode(source), "-o", os.fsdecode(source))
    _, err = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "is the input" in err


def test_a_terminal_shows_a_bar(samples: Path, tmp_path: Path) -> None:
    main, side = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "trt_anon", "anonymize", str(samples / "face.mp4"), str(samples / "long.mp4"),
         "-o", str(tmp_path / "out"), "--runtime", "null", "--encoder-preset", "ultrafast"],
        stdout=side, stderr=side, stdin=side, env={**os.environ, "TERM": "xterm-256color", "COLUMNS": "120"},
    )  # fmt: skip
    os.close(side)
    shown = b""
    while True:
        try:
            part = os.read(main, 65536)
        except OSError:  # Linux says so when the other end is gone
            break
        if not part:
            break
        shown += part
    os.close(main)
    assert process.wait(timeout=60) == 0
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode())
    assert re.search(r"long\.mp4 .*\d+/600 .*fps", text)
    assert re.search(r"files .*[12]/2", text)
    assert "━" in text
    assert "2 of 2 files done, 608 frames" in text


def test_long_and_bracketed_names_fit_the_bar() -> None:
    assert progress._shortened("[bold]x.mp4") == "(bold)x.mp4"
    assert len(progress._shortened("x" * 100)) == 32


def test_help_is_grouped(invoke: Invoke) -> None:
    result = invoke("anonymize", "--help")
    assert result.exit_code == 0
    for word in ("What to find", "How to redact", "What to write", "Where to run", "--grow", "gaussian|pixelate|solid"):
        assert word in result.stdout
    top = invoke("--help")
    for word in ("anonymize", "detect", "demo", "doctor", "models", "Exit codes"):
        assert word in top.stdout
    version = invoke("--version")
    assert version.exit_code == 0
    assert re.fullmatch(r"trt-anon \d+\.\d+\.\d+\n", version.stdout)


# --- exit codes


def test_wrong_use_exits_with_2(invoke: Invoke, samples: Path, tmp_path: Path) -> None:
    source, target = samples / "face.png", tmp_path / "b.png"
    for wrong in (
        ["anonymize", source],
        ["anonymize", "-o", target],
        ["anonymize", source, "-o", target, "--nothing"],
        ["anonymize", source, "-o", target, "--quality", "high"],
        ["anonymize", source, "-o", target, "--quality", "0"],
        ["anonymize", source, "-o", target, "--redact", "mosaic"],
        ["anonymize", source, "-o", target, "--detect", "dogs"],
        ["anonymize", source, "-o", target, "--detect", ""],
        ["anonymize", source, "-o", target, "--detector", "nobody"],
        ["anonymize", source, "-o", target, "--detector", "yunet", "--detect", "plates"],
        ["anonymize", source, "-o", target, "--config", tmp_path / "none.toml"],
        ["anonymize", source, "-o", tmp_path / "b.mp4"],
        ["anonymize", source, "-o", source, "--overwrite"],
        ["nothing"],
    ):
        result = invoke(*wrong)
        assert result.exit_code == 2, (wrong, result.output)
        assert left_behind(tmp_path) == []


def test_something_missing_exits_with_3(
    invoke: Invoke, samples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRT_ANON_MODELS", str(tmp_path / "models"))
    for options, says in ((["--detector", "centerface"], "models fetch centerface"), (["--device", "cuda"], "cuda")):
        result = invoke("anonymize", samples / "face.png", "-o", tmp_path / "b.png", *options)
        assert result.exit_code == 3
        assert says in str(result.exception)
    assert left_behind(tmp_path) == []


def test_a_real_process_prints_errors_without_a_traceback(command: Command, samples: Path, tmp_path: Path) -> None:
    for arguments, code, says in (
        ([samples / "face.png", "-o", tmp_path / "b.png", "--device", "cuda"], 3, "error: device cuda"),
        ([tmp_path / "none.png", "-o", tmp_path / "b.png"], 1, "none.png"),
        ([samples / "face.png", "-o", tmp_path / "b.png", "--grow", "0"], 2, "grow"),
    ):
        process = command("anonymize", *arguments)
        out, err = process.communicate(timeout=60)
        assert process.returncode == code
        assert says in err
        assert "Traceback" not in out + err


# --- signals


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("old", [False, True])
def test_a_signal_in_the_middle_of_a_clip_leaves_nothing(
    command: Command, samples: Path, tmp_path: Path, number: int, code: int, old: bool
) -> None:
    target = tmp_path / "out" / "long.mp4"
    if old:
        target.parent.mkdir()
        target.write_bytes(b"an older result")
    process = command("anonymize", samples / "long.mp4", "-o", target, "--overwrite")
    deadline = time.monotonic() + 60
    while not any(p.stat().st_size > 100 for p in tmp_path.glob("out/.trt-anon-partial-*")):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == code
    assert "Traceback" not in err
    assert left_behind(tmp_path) == (["out/long.mp4"] if old else [])
    if old:
        assert target.read_bytes() == b"an older result"
    else:
        assert list(tmp_path.iterdir()) == []
