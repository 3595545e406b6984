from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from click.testing import Result
from typer.testing import CliRunner


@pytest.fixture
def invoke() -> Callable[..., Result]:
    """Run the command in this process; errors become exit codes as in a real one."""
    from trt_anon.cli import main
    from trt_anon.errors import TrtAnonError

    def run(*arguments: object) -> Result:
        result = CliRunner().invoke(main.app, [str(a) for a in arguments])
        if isinstance(result.exception, TrtAnonError):
            result.exit_code = result.exception.exit_code
        elif result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return run


@pytest.fixture
def command() -> Callable[..., subprocess.Popen[str]]:
    """Start the command as a process of its own, its outputs piped."""

    def start(*arguments: object, **options: object) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "trt_anon", *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            env={**os.environ, "PYTHONWARNINGS": "error", "PYTHONIOENCODING": "utf-8:strict", "COLUMNS": "200"},
            **options,  # type: ignore[call-overload]
        )

    return start


@pytest.fixture(scope="session")
def samples(clips: ModuleType, faces: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `face.png`, `face.mp4` (8 frames, sound, subtitles, metadata) and `long.mp4` (600 frames)."""
    from PIL import Image

    folder = tmp_path_factory.mktemp("samples")
    Image.fromarray(faces.picture()).save(folder / "face.png")
    faces.face_clip(
        clips, folder / "face.mp4", frames=8, audio=["aac"], subtitles="mov_text", metadata=True,
        options={"preset": "ultrafast"},
    )  # fmt: skip
    # Many frames from few: the same picture, which costs nothing to encode.
    faces.face_clip(clips, folder / "long.mp4", frames=600, options={"preset": "ultrafast"})
    return folder
