"""Errors about a file without its path, which may name people: whoever gets the error knows which file it was."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TypeVar

from trt_anon.errors import TrtAnonError
from trt_anon.job.publish import PARTIAL_PREFIX

Error = TypeVar("Error", bound=TrtAnonError)


def impersonal(error: Error, source: Path, destination: Path | None) -> Error:
    """The error itself, `the input` and `the output` in the place of both paths in its words.

    Names alone stay where they are part of other words; unpublished files are the output, too.
    """
    words = str(error)
    if destination is not None:
        hidden = rf"{re.escape(PARTIAL_PREFIX)}[0-9a-f]+-[0-9a-f]+{re.escape(destination.suffix)}"
        for folder in (destination.parent.absolute(), destination.parent):
            words = re.sub(rf"{re.escape(str(folder))}/{hidden}", "the output", words)
        words = re.sub(hidden, "the output", words)
    paths = [(source, "the input")] if destination is None else [(source, "the input"), (destination, "the output")]
    forms = {form: word for path, word in paths for form in (str(path.absolute()), str(path))}
    for form in sorted(forms, key=len, reverse=True):
        plain = (
            form.isalnum()
        )  # may be a word like any other: only where messages begin with it, or name what they mean
        before = r"(?:^|(?<=cannot read )|(?<=cannot write ))" if plain else r"(?<![\w./-])"
        words = re.sub(rf"{before}{re.escape(form)}(?![\w/-])", forms[form], words)
    if words != str(error):
        error.args = (words, *error.args[1:])
    return error
