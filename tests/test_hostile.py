"""Input made to do harm: bombs, loops, names that steer, models that reach out; a clear error each time."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from types import ModuleType

import pytest
from click.testing import Result
from typer.testing import CliRunner

from trt_anon.cli import main
from trt_anon.cli.printable import plain, printable
from trt_anon.errors import ConfigError, InputError, TrtAnonError
from trt_anon.job.regions_file import read_regions
from trt_anon.source.pyav import PyAVSource

Invoke = Callable[..., tuple[int, str]]


def invoke(*arguments: object) -> tuple[int, str, str]:
    """(exit code, standard output, what would be on standard error)"""
    result: Result = CliRunner().invoke(main.app, [str(a) for a in arguments])
    if isinstance(result.exception, TrtAnonError):
        return result.exception.exit_code, result.stdout, str(result.exception)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


def test_a_video_of_absurd_size_costs_nothing(clips: ModuleType, tmp_path: Path) -> None:
    """A small file whose frames take 100 MB each, a dozen at a time."""
    import av

    path = tmp_path / "bomb.mkv"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("mjpeg", rate=25, width=8256, height=8256)
        stream.pix_fmt, stream.codec_context.color_range = "yuvj420p", 2
        frame = av.VideoFrame(8256, 8256, "yuvj420p")
        for plane in frame.planes:
            memoryview(plane).cast("B")[:] = bytes(plane.buffer_size)
        frame.pts, frame.time_base = 0, Fraction(1, 25)
        out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    assert path.stat().st_size < 1 << 21
    with pytest.raises(InputError, match=r"8256x8256; the limit is 67108864 pixels"):
        PyAVSource(path)


def test_very_many_tiny_regions(tmp_path: Path) -> None:
    region = '{"box": [0, 0, 1, 1]}'
    path = tmp_path / "regions.json"
    path.write_text('{"regions": [' + ",".join([region] * 300_000) + "]}")
    start = time.process_time()
    with pytest.raises(ConfigError, match="at most 10000"):
        read_regions(path)
    assert time.process_time() - start < 30
    path.write_text("[" * 1_000_000)
    with pytest.raises((InputError, ConfigError)):
        read_regions(path)


def test_folders_that_lead_into_themselves(faces: ModuleType, tmp_path: Path) -> None:
    from PIL import Image

    root = tmp_path / "in"
    (root / "deep").mkdir(parents=True)
    Image.fromarray(faces.picture()).save(root / "deep" / "a.png")
    (root / "deep" / "up").symlink_to(root, target_is_directory=True)
    (root / "loop").symlink_to(root / "loop")
    (root / "outside").symlink_to("/etc", target_is_directory=True)
    (root / "secret.png").symlink_to("/etc/hostname")
    code, _, _ = invoke("anonymize", root, "-o", tmp_path / "out", "--runtime", "null", "-q")
    assert code == 1, "the link that leads nowhere is named"
    assert [str(p.relative_to(tmp_path / "out")) for p in (tmp_path / "out").rglob("*") if p.is_file()] == [
        "deep/a.png"
    ]


def test_names_that_steer_a_terminal_or_pretend_to_be_options(faces: ModuleType, tmp_path: Path) -> None:
    from PIL import Image

    root = tmp_path / "in"
    root.mkdir()
    names = ["-o.png", "--overwrite.png", "a\nfailed everything.png", "b\x1b[2J\x07.png", "[red]c.png", "%s{0}.png"]
    for name in names:
        Image.fromarray(faces.picture()[:64, :64]).save(root / name)
        (root / f"bad {name}").write_bytes((root / name).read_bytes()[:60])
    code, out, err = invoke("anonymize", root, "-o", tmp_path / "out", "--runtime", "null")
    assert code == 1
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == sorted(names)
    lines = [line for line in err.splitlines() if line.startswith("failed ")]
    assert len(lines) == len(names)
    assert "\x1b" not in out + err
    assert "\x07" not in out + err
    assert any("a\\nfailed everything.png" in line for line in lines)
    assert any("[red]c.png" in line for line in lines)
    done = subprocess.run(
        [sys.executable, "-m", "trt_anon", "anonymize", "--runtime", "null", "-q", "-o", "out.png", "--", "-o.png"],
        cwd=root, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (root / "out.png").is_file()


def test_text_of_others_stays_on_its_line() -> None:
    assert plain("a\nb\x1b[31m\u202eé ☃.png") == "a\\nb\\x1b[31m\\u202eé ☃.png"
    assert printable("[bold]x\r") == "\\[bold]x\\r"
    assert plain("caf\udce9") == "caf\\udce9"


def test_a_model_that_reaches_for_other_files_or_code(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    from onnx import TensorProto, helper

    def saved(name: str, node: object, tensor: object) -> Path:
        x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 8, 8])
        y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
        graph = helper.make_graph([node], "g", [x], [y], [tensor])
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13), helper.make_opsetid("evil", 1)])
        path = tmp_path / name
        path.write_bytes(model.SerializeToString())
        return path

    weight = helper.make_tensor("w", TensorProto.FLOAT, [1], [1.0])
    custom = saved("custom.onnx", helper.make_node("Run", ["x", "w"], ["y"], domain="evil"), weight)
    outside = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[1], data_location=TensorProto.EXTERNAL)
    outside.external_data.add(key="location", value="../../../../etc/passwd")
    external = saved("external.onnx", helper.make_node("Add", ["x", "w"], ["y"]), outside)
    huge = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[1 << 40], raw_data=b"")
    bomb = saved("bomb.onnx", helper.make_node("Add", ["x", "w"], ["y"]), huge)
    assert onnx.__version__
    for path, says in ((custom, "custom domain 'evil'"), (external, "external"), (bomb, "bomb.onnx")):
        code, _, err = invoke("models", "add", path)
        assert code == 1, path.name
        assert says in err
        assert "root:" not in err


def test_the_fuzzer_finds_nothing_in_three_hundred(tmp_path: Path) -> None:
    """Mutated files of every kind, read in a process that is watched for crashes, time, memory and leaks."""
    fuzz = Path(__file__).parents[1] / "benchmarks" / "fuzz.py"
    done = subprocess.run(
        [sys.executable, fuzz, "--cases", "300", "--seed", "7"],
        capture_output=True,
        text=True,
        check=False,
        timeout=290,
    )
    assert done.returncode == 0, done.stderr + done.stdout
    figures = json.loads(done.stdout)
    assert figures["cases"] == 300
    assert figures["failures"] == []
    assert min(sum(counts.values()) for counts in figures["outcomes"].values()) >= 33
    assert sum(counts.get("success", 0) for counts in figures["outcomes"].values()) > 20, "not everything is refused"
    assert figures["peak_mib"] < 2048
