"""The command `trt-anon`: its sub-commands, and how errors become exit codes."""

from __future__ import annotations

import io
import logging
import resource
import signal
import sys
from typing import Annotated, NoReturn

import typer
from rich.console import Console

import trt_anon
from trt_anon.cli import (
    anonymize,
    bench,
    build_engine,
    calibrate,
    demo,
    detect,
    doctor,
    engines,
    evaluate,
    models,
    receipt,
    regions,
    sample,
    verify,
)
from trt_anon.cli.printable import printable
from trt_anon.errors import TrtAnonError

app = typer.Typer(
    name="trt-anon",
    help="Anonymize faces and licence plates in images and video, on this machine: nothing is uploaded.",
    epilog="Exit codes: 0 all done, 1 an input failed, 2 wrong use, 3 something is missing, 4 failed verification.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,  # a traceback with local variables would print boxes
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("anonymize")(anonymize.anonymize)
app.command("detect")(detect.detect)
app.command("sample")(sample.sample)
app.command("verify")(verify.verify)
app.command("evaluate")(evaluate.evaluate)
app.command("calibrate")(calibrate.calibrate)
app.command("build-engine")(build_engine.build_engine)
app.command("bench")(bench.bench)
app.command("demo")(demo.demo)
app.command("doctor")(doctor.doctor)
app.add_typer(models.app, name="models")
app.add_typer(engines.app, name="engines")
app.add_typer(receipt.app, name="receipt")
app.add_typer(regions.app, name="regions")


def _show_version(value: bool) -> None:
    if value:
        typer.echo(f"trt-anon {trt_anon.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log what happens, to standard error.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    if verbose:  # ours alone: what other libraries say about a file may be what it says about people
        logging.getLogger("trt_anon").setLevel(logging.DEBUG)


def _terminated(number: int, _frame: object) -> NoReturn:
    # Unwinds like Ctrl-C, so that partial files are removed on the way out.
    raise SystemExit(128 + number)


def run() -> None:
    """Entry point of the command."""
    signal.signal(signal.SIGTERM, _terminated)
    _, hard = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, hard))  # a core dump would hold clear frames
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a name that is no valid UTF-8 must not end the job
    try:
        app()
    except TrtAnonError as error:
        said = "\n".join(map(printable, str(error).split("\n")))
        Console(stderr=True, soft_wrap=True).print(f"[bold red]error:[/] {said}", highlight=False)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    run()
