"""Text of others, such as names of files, for a terminal: one line, and nothing that steers it."""

from __future__ import annotations

from rich.markup import escape


def printable(text: object) -> str:
    """Text for `Console.print`: control characters, line ends among them, as escapes, and no markup."""
    return escape(plain(text))


def plain(text: object) -> str:
    """Text for `typer.echo`: as `printable`, with markup as it is."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in str(text))
