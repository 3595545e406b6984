"""`trt-anon bench`, on a clip so small that it takes seconds."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

pytest.importorskip("av")
pytest.importorskip("cv2")
pytest.importorskip("psutil")

Invoke = Callable[..., Result]


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> tuple[Result, Path]:
    from typer.testing import CliRunner

    from trt_anon.cli import main

    folder = tmp_path_factory.mktemp("bench")
    words = "bench --resolution 256x144 --faces 0,2 --seconds 0.001 --stages --frames 4"
    arguments = [*words.split(), "--json", str(folder / "a.json"), "--plot", str(folder / "plots")]
    return CliRunner().invoke(main.app, arguments, env={"COLUMNS": "160"}), folder


def test_every_part_is_measured(measured: tuple[Result, Path]) -> None:
    result, folder = measured
    assert result.exit_code == 0, result.output
    figures = json.loads((folder / "a.json").read_text())
    assert [case["name"] for case in figures["cases"]] == ["256x144, 0 faces", "256x144, 2 faces"]
    for case in figures["cases"]:
        assert list(case["parts"]) == [
            *("decode", "preprocess", "engine", "postprocess", "detect", "track", "redact"),
            *("encode", "pipeline", "pipeline + encode"),
        ]
        for part in case["parts"].values():
            assert 0 < part["fps"]["low"] <= part["fps"]["median"] <= part["fps"]["high"]
            assert part["fps"]["runs"] >= 3
        latency = case["parts"]["pipeline"]["latency"]
        assert latency["items"] == case["frames"] * case["parts"]["pipeline"]["fps"]["runs"]
        assert 0 < latency["median_ms"] <= latency["p95_ms"] <= latency["p99_ms"]
        assert case["memory"]["host_rss_mib"] > 50
        assert case["slowest"] in case["parts"]
        hours = case["hours_per_10000"]
        assert hours["pipeline"] == pytest.approx(300_000 / case["parts"]["pipeline"]["fps"]["median"])
        assert len(case["input_sha256"]) == 64
    assert figures["machine"]["cores"] >= 1
    assert "source" not in figures["settings"], "a file's name may be personal data"


def test_the_table_and_the_plots(measured: tuple[Result, Path]) -> None:
    result, folder = measured
    for words in ("pipeline of decoder", "slowest stage", "machine-hours", "peak host memory", "not measured: watts"):
        assert words in result.stdout
    drawn = sorted((folder / "plots").iterdir())
    assert [path.name for path in drawn] == ["latency.png", "shares.png", "throughput.png"]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in drawn)


def test_compare(measured: tuple[Result, Path], invoke: Invoke, tmp_path: Path) -> None:
    path = measured[1] / "a.json"
    same = invoke("bench", "--compare", path, path)
    assert same.exit_code == 0
    assert "Like for like" in same.stdout
    raw = json.loads(path.read_text())
    raw["machine"]["cpu"] = "Another"
    (tmp_path / "b.json").write_text(json.dumps(raw))
    other = invoke("bench", "--compare", path, tmp_path / "b.json")
    assert "Not like for like" in other.stdout
    assert "| Another" in other.stdout


def test_of_an_input(invoke: Invoke, samples: Path, tmp_path: Path) -> None:
    result = invoke(
        "bench", samples / "face.mp4", "--seconds", "0.001", "--no-encode", "-q", "--json", tmp_path / "a.json"
    )
    assert result.exit_code == 0
    assert result.stdout == ""
    text = (tmp_path / "a.json").read_text()
    (case,) = json.loads(text)["cases"]
    assert (case["frames"], case["faces"], case["name"]) == (8, None, "384x256")
    assert case["found_per_frame"] >= 1
    assert "pipeline + encode" not in case["parts"]
    assert "face.mp4" not in text


def test_without_tracks(invoke: Invoke, samples: Path, tmp_path: Path) -> None:
    clip, out = samples / "face.mp4", tmp_path / "a.json"
    words = "--seconds 0.001 --no-encode --stages --track off -q --json"
    assert invoke("bench", clip, *words.split(), out).exit_code == 0
    (case,) = json.loads(out.read_text())["cases"]
    assert "track" not in case["parts"]
    assert "redact" in case["parts"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--resolution", "huge"], "unknown 'huge'"),
        (["--resolution", "64x3"], "WIDTHxHEIGHT"),
        (["--resolution", "101x99"], "multiple of 2"),
        (["--faces", "few"], "--faces"),
        (["--faces", "-1"], "faces"),
        (["--batch", "1,8"], "--device cuda"),
        (["--seconds", "0"], "seconds"),
        (["x.mp4", "--faces", "5"], "leave INPUT out"),
        (["x.mp4", "--compare", "a.json", "b.json"], "measures nothing"),
    ],
)
def test_what_does_not_go_together(invoke: Invoke, arguments: list[str], says: str) -> None:
    result = invoke("bench", *arguments)
    assert result.exit_code == 2
    assert says in str(result.exception)
