"""What a run leaves outside its outputs: nothing in logs, no connection, no file that others can read or that stays."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from PIL import Image

from trt_anon.api import Anonymizer
from trt_anon.errors import InputError, UsageError

SECRET = "Erika"
"""A name that stands in the paths, the metadata and the subtitles of all inputs."""

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """The command as a process of its own, its home and temporary folder empty ones."""
    for name in ("home", "tmp"):
        (tmp_path / name).mkdir()

    def start(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("XDG_", "TMP"))}
        places = {"HOME": str(tmp_path / "home"), "TMPDIR": str(tmp_path / "tmp")}
        return subprocess.run(
            [sys.executable, "-m", "trt_anon", *map(str, arguments)],
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            timeout=300,
            env={**inherited, **places, **environment},
        )

    return start


@pytest.fixture
def inputs(clips: ModuleType, faces: ModuleType, tmp_path: Path) -> Path:
    """A folder named after a person: pictures and a clip with a face, and the name in all that they carry."""
    folder = tmp_path / f"{SECRET} at home"
    folder.mkdir()
    exif = Image.Exif()
    exif[0x010E] = exif[0x013B] = SECRET
    exif.get_ifd(0x8825)[29] = SECRET
    for kind in ("jpg", "png", "tiff"):
        Image.fromarray(faces.picture()).save(folder / f"{SECRET}.{kind}", exif=exif)
    faces.face_clip(
        clips, folder / f"{SECRET}.mp4", frames=8, audio=["aac"], subtitles="mov_text", metadata=True,
        options={"preset": "ultrafast"},
    )  # fmt: skip
    return folder


def test_logs_hold_no_name_no_box_and_nothing_of_what_files_say(run: Run, inputs: Path, tmp_path: Path) -> None:
    """Even the most talkative one: libraries log tags of pictures and boxes of containers, if they are let."""
    done = run("--verbose", "anonymize", inputs, "-o", tmp_path / "out", "--quiet", "--threshold", "0.3")
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "out").glob("*.*"))) == 4
    for text in (done.stdout, done.stderr):
        assert SECRET not in text
        assert str(tmp_path) not in text
        assert "secret name" not in text
        assert not re.search(r"\[[^\]\n]*\d+(\.\d+)?,? +\d+(\.\d+)?,? +\d+", text), "numbers like those of a box"


def test_damaged_files_make_foreign_libraries_say_nothing(run: Run, inputs: Path, tmp_path: Path) -> None:
    clip = inputs / f"{SECRET}.mp4"
    data = bytearray(clip.read_bytes())
    start = data.index(b"mdat") + 2000
    data[start : start + 600] = bytes(600)
    clip.write_bytes(data)
    photo = inputs / f"{SECRET}.jpg"
    photo.write_bytes(photo.read_bytes()[:-3000])
    done = run("--verbose", "anonymize", inputs, "-o", tmp_path / "out", "--quiet")
    assert done.returncode == 1
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    failures = [line for line in lines if line.startswith("failed ")]
    assert len(failures) == 2, done.stderr
    assert all(SECRET not in line for line in lines if line not in failures)
    assert all(line.count(SECRET) == 2 for line in failures), "folder and file, once each, and not in the error's words"
    assert not any("@ 0x" in line for line in lines), "FFmpeg's own words"


def test_errors_of_the_library_name_no_file(inputs: Path, tmp_path: Path) -> None:
    """A service logs them; it knows which file it was."""
    clip, photo = inputs / f"{SECRET}.mp4", inputs / f"{SECRET}.jpg"
    clip.write_bytes(clip.read_bytes()[:-2000])
    photo.write_bytes(photo.read_bytes()[:-3000])
    with Anonymizer(runtime="null") as nothing:
        for source in (clip, photo):
            with pytest.raises(InputError, match="the input") as refused:
                nothing.file(source, tmp_path / f"{SECRET}{source.suffix}")
            assert SECRET not in str(refused.value)
        taken = tmp_path / f"{SECRET}.png"
        taken.mkdir()
        with pytest.raises(UsageError, match="the output") as refused_too:
            nothing.file(inputs / f"{SECRET}.png", taken / f"{SECRET}.mp4")
        assert SECRET not in str(refused_too.value)
        report = nothing.files([inputs], tmp_path / "out")
    assert report.failed == 2
    assert not any(SECRET in (file.error or "") for file in report.files)


def test_the_summary_holds_counts_and_the_names_of_files_alone(run: Run, inputs: Path, tmp_path: Path) -> None:
    summary = tmp_path / "summary.json"
    done = run("anonymize", inputs, "-o", tmp_path / "out", "--json", summary, "--threshold", "0.3")
    assert done.returncode == 0, done.stderr
    report = json.loads(summary.read_text())
    for file in report["files"]:
        assert Path(file.pop("source")).parent == inputs
        assert Path(file.pop("destination")).parent == tmp_path / "out"
        assert file["objects"] == {"face": 1 if file["kind"] == "image" else 8}
    assert SECRET not in json.dumps(report)

    def numbers(value: object) -> list[object]:
        if isinstance(value, dict):
            return [n for v in value.values() for n in numbers(v)]
        if isinstance(value, list):
            assert not any(isinstance(v, int | float) for v in value), "a list of numbers could be a box"
            return [n for v in value for n in numbers(v)]
        return [value]

    assert numbers(report)


def test_a_crash_dumps_no_memory() -> None:
    """It would hold clear frames."""
    code = (
        "import resource; from trt_anon.cli import main; resource.setrlimit(resource.RLIMIT_CORE, (resource.getrlimit("
        "resource.RLIMIT_CORE)[1],) * 2); main.app = lambda: print(resource.getrlimit(resource.RLIMIT_CORE)[0]); "
        "main.run()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "0"


SHIM = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
static void note(const char *what, int family) {
    if (family == AF_UNIX) return;                    /* within this machine: threads and processes of one job */
    FILE *file = fopen(getenv("SOCKET_NOTES"), "a");
    if (file) { fprintf(file, "%s %d\n", what, family); fclose(file); }
}
int socket(int family, int type, int protocol) {
    note("socket", family);
    int (*real)(int, int, int) = (int (*)(int, int, int))dlsym(RTLD_NEXT, "socket");
    return real(family, type, protocol);
}
struct addrinfo;
typedef int (*Lookup)(const char *, const char *, const struct addrinfo *, struct addrinfo **);
int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints, struct addrinfo **found) {
    note("getaddrinfo", -1);
    return ((Lookup)dlsym(RTLD_NEXT, "getaddrinfo"))(node, service, hints, found);
}
"""


@pytest.fixture(scope="module")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A library that writes down every socket that is not within the machine, and every name that is looked up."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None or not sys.platform.startswith("linux"):
        pytest.skip("no C compiler to watch sockets with")
    folder = tmp_path_factory.mktemp("shim")
    (folder / "shim.c").write_text(SHIM)
    library = folder / "shim.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, folder / "shim.c", "-ldl"], check=True, timeout=60)
    return library


def test_the_watch_over_sockets_sees_them(shim: Path, tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    code = "import socket; socket.socket().close(); socket.getaddrinfo('127.0.0.1', 80)"
    environment = {**os.environ, "LD_PRELOAD": str(shim), "SOCKET_NOTES": str(notes)}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment, timeout=60)
    assert "socket 2" in notes.read_text()
    assert "getaddrinfo" in notes.read_text()


@pytest.mark.parametrize("command", ["anonymize", "detect"])
def test_no_socket_is_opened(command: str, run: Run, inputs: Path, shim: Path, tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    output = tmp_path / ("out" if command == "anonymize" else "out.json")
    done = run(command, inputs, "-o", output, LD_PRELOAD=str(shim), SOCKET_NOTES=str(notes))
    assert done.returncode == 0, done.stderr
    assert not notes.exists(), notes.read_text()


def test_a_missing_model_is_not_fetched(run: Run, inputs: Path, shim: Path, tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    done = run(
        "anonymize", inputs, "-o", tmp_path / "out", "--detector", "centerface",
        LD_PRELOAD=str(shim), SOCKET_NOTES=str(notes), TRT_ANON_MODELS=str(tmp_path / "tmp"),
    )  # fmt: skip
    assert done.returncode == 3
    assert "models fetch centerface" in done.stderr
    assert not notes.exists(), notes.read_text()


def test_unpublished_files_are_private_beside_the_output_and_gone_after_any_end(
    clips: ModuleType, faces: ModuleType, run: Run, tmp_path: Path
) -> None:
    """Watched while it runs; interrupted, killed, and run again."""
    source = tmp_path / "a.mp4"
    faces.face_clip(clips, source, frames=240, options={"preset": "ultrafast"})
    out, temporary = tmp_path / "out", tmp_path / "tmp"
    out.mkdir()
    os.umask(0o022)

    def start() -> subprocess.Popen[bytes]:
        environment = {**os.environ, "HOME": str(tmp_path / "home"), "TMPDIR": str(temporary)}
        process = subprocess.Popen(
            [sys.executable, "-m", "trt_anon", "anonymize", source, "-o", out / "b.mp4", "--quiet"],
            stderr=subprocess.DEVNULL,
            env=environment,
        )
        deadline = time.monotonic() + 120
        while not any(p.stat().st_size > 0 for p in out.glob(".trt-anon-partial-*")):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
        return process

    def unpublished() -> list[Path]:
        return [p for p in out.iterdir() if p.name.startswith(".trt-anon-partial-")]

    process = start()
    try:
        (partial,) = unpublished()
        assert stat.S_IMODE(partial.stat().st_mode) == 0o600
        assert list(temporary.iterdir()) == []
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 143
    assert unpublished() == []
    assert not (out / "b.mp4").exists()

    process = start()
    process.kill()
    process.wait(60)
    assert len(unpublished()) == 1, "a killed process cannot clean up"
    assert not (out / "b.mp4").exists()

    done = run("anonymize", source, "-o", out / "b.mp4", "--quiet", "--runtime", "null")
    assert done.returncode == 0, done.stderr
    assert unpublished() == []
    assert (out / "b.mp4").is_file()
    assert list(temporary.iterdir()) == []
