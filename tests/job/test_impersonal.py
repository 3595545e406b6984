"""Errors whose words hold no path of the file that they are about."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from trt_anon.errors import EngineError, InputError, OutputError, TrtAnonError
from trt_anon.job.impersonal import impersonal

PARTIAL = ".trt-anon-partial-0123456789abcdef-fedcba9876543210.mp4"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("in/Erika.mp4 is damaged at 0.080 s", "the input is damaged at 0.080 s"),
        ("cannot read in/Erika.mp4: Permission denied", "cannot read the input: Permission denied"),
        ("{here}/in/Erika.mp4, picture 2: it is corrupt", "the input, picture 2: it is corrupt"),
        ("out/Erika.mp4 exists already; pass --overwrite", "the output exists already; pass --overwrite"),
        ("out/{partial}: the encoder made 3 frames of 4", "the output: the encoder made 3 frames of 4"),
        ("cannot write the image {partial}: No space left", "cannot write the image the output: No space left"),
        ("{here}/out/{partial} is closed", "the output is closed"),
        (
            "in/Erika.mp4: choose another container (.mkv holds most)",
            "the input: choose another container (.mkv holds most)",
        ),
        ("the device is gone", "the device is gone"),
        ("in/Erika.mp4s and xin/Erika.mp4 are others", "in/Erika.mp4s and xin/Erika.mp4 are others"),
    ],
)
def test_paths_become_words(words: str, expected: str) -> None:
    words = words.format(here=Path.cwd(), partial=PARTIAL)
    error = InputError(words)
    assert impersonal(error, Path("in/Erika.mp4"), Path("out/Erika.mp4")) is error
    assert str(error) == expected


def test_names_that_are_no_words_for_patterns() -> None:
    source = Path(os.fsdecode(b"a (1) [x]+ caf\xe9\n.mp4"))
    assert str(impersonal(InputError(f"{source} is empty"), source, None)) == "the input is empty"


def test_a_short_name_is_not_found_in_other_words() -> None:
    error = OutputError("cannot read a: a frame of a file is damaged, and b is not written")
    expected = "cannot read the input: a frame of a file is damaged, and b is not written"
    assert str(impersonal(error, Path("a"), Path("b"))) == expected


@pytest.mark.parametrize("error", [EngineError("in.mp4: no", node="n", hint="h"), TrtAnonError("in.mp4: no")])
def test_the_error_keeps_its_kind_and_what_it_knows(error: TrtAnonError) -> None:
    made = impersonal(error, Path("in.mp4"), Path("out.mp4"))
    assert made is error
    assert str(made) == "the input: no"
    assert getattr(made, "node", "n") == "n"
