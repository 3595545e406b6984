"""`trt-anon receipt`: check receipts, and make keys to sign them with."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from trt_anon.cli import options
from trt_anon.errors import InputError

app = typer.Typer(help="Check receipts of jobs, and make keys to sign them with.", no_args_is_help=True)


@app.command("check")
def check(
    receipt: Annotated[Path, typer.Argument(help="The receipt.", show_default=False)],
    outputs: Annotated[
        Path | None,
        typer.Option("--outputs", help="File or folder that must hold the outputs, unchanged.", show_default=False),
    ] = None,
    inputs: Annotated[
        Path | None,
        typer.Option("--inputs", help="File or folder that must hold the inputs, unchanged.", show_default=False),
    ] = None,
    public_key: Annotated[
        str | None,
        typer.Option("--public-key", help="It must be signed by this key (hexadecimal).", show_default=False),
    ] = None,
    quiet: options.Quiet = False,
) -> None:
    """Check that a receipt is one, that nobody changed it, and that it is about these files.

    Exit code 1: it is not.
    """
    from trt_anon.job.receipt import digest, read_receipt
    from trt_anon.job.signing import check_signature

    read = read_receipt(receipt)
    said = [f"receipt of {len(read.files)} files, made {read.made}, SHA-256 {digest(read)}"]
    if read.signature is not None or public_key is not None:
        check_signature(read, public_key)
        assert read.signature is not None
        said.append(f"signed by {read.signature.public_key}" + ("" if public_key else ", whoever that is"))
    for folder, what, wanted in (
        (outputs, "outputs", {file.output_sha256 for file in read.files}),
        (inputs, "inputs", {file.input_sha256 for file in read.files}),
    ):
        if folder is not None:
            missing = wanted - _hashes(folder)
            if missing:
                raise InputError(f"{len(missing)} of {len(wanted)} {what} are not there as the receipt states them")
            said.append(f"all {len(wanted)} {what} are there, unchanged")
    failed = [file for file in read.files if file.verification is not None and not file.verification.passed]
    if failed:
        raise InputError(f"{len(failed)} files did not pass their verification")
    verified = sum(file.verification is not None for file in read.files)
    said.append(f"{verified} of {len(read.files)} files were verified by a second look, and passed")
    if not quiet:
        typer.echo("\n".join(said))


@app.command("key")
def key(
    path: Annotated[Path, typer.Argument(help="File for the private key.", show_default=False)],
) -> None:
    """Make a key to sign receipts with, for `anonymize --receipt-key`; prints its public key."""
    from trt_anon.job.signing import make_key

    typer.echo(make_key(path))


def _hashes(place: Path) -> set[str]:
    from trt_anon.files import hash_of

    try:
        files = [place] if place.is_file() else [p for p in place.rglob("*") if p.is_file()]
        if not files:
            raise InputError(f"{place} holds no file")
        return {hash_of(path) for path in files}
    except OSError as error:
        raise InputError(f"cannot read {error.filename}: {error.strerror}") from error
