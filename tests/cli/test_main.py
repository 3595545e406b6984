"""The entry point: errors become exit codes and one line."""

from __future__ import annotations

import logging
import signal
import sys
from collections.abc import Iterator

import pytest

from trt_anon.cli import main
from trt_anon.errors import HashMismatch, InputError, ModelMissing, TrtAnonError, UsageError


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    handler = signal.getsignal(signal.SIGTERM)
    root = logging.getLogger()
    level, handlers = root.level, list(root.handlers)
    yield
    signal.signal(signal.SIGTERM, handler)
    root.setLevel(level)
    root.handlers[:] = handlers


@pytest.mark.parametrize(
    ("error", "code"),
    [(InputError("[a] is bad"), 1), (UsageError("[a] is bad"), 2), (ModelMissing("[a] is bad"), 3),
     (HashMismatch("[a] is bad"), 1)],
)  # fmt: skip
def test_errors_become_exit_codes_and_one_line(
    error: TrtAnonError, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail() -> None:
        raise error

    monkeypatch.setattr(main, "app", fail)
    with pytest.raises(SystemExit) as ended:
        main.run()
    assert ended.value.code == code
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "error: [a] is bad\n")


def test_a_bug_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(main, "app", fail)
    with pytest.raises(ZeroDivisionError):
        main.run()


def test_a_request_to_end_unwinds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(main, "app", lambda: signal.raise_signal(signal.SIGTERM))
    with pytest.raises(SystemExit) as ended:
        main.run()
    assert ended.value.code == 143


def test_no_command_shows_the_help(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["trt-anon"])
    with pytest.raises(SystemExit):
        main.run()
    assert "anonymize" in "".join(capsys.readouterr())
