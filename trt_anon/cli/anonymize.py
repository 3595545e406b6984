"""`trt-anon anonymize`: files and folders in, anonymized files out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from trt_anon.cli import gpu_options, job_options, options, track_options
from trt_anon.cli.job_options import DEFAULT_KEEP_FREE_MIB
from trt_anon.cli.options import DETECTION, OUTPUT, REDACTION
from trt_anon.cli.printable import printable
from trt_anon.cli.progress import progress_view
from trt_anon.errors import UsageError

if TYPE_CHECKING:
    from trt_anon.job.report import JobReport


def anonymize(
    inputs: options.Inputs,
    output: Annotated[
        str,  # text, since a path would lose the separator at its end, which means a folder
        typer.Option(
            "--output",
            "-o",
            metavar="PATH",
            help="Output file for one input; a folder for several or for a folder.",
            show_default=False,
        ),
    ],
    detect: options.Detect = None,
    detector: options.Detector = None,
    preset: options.Preset = None,
    threshold: options.Threshold = None,
    tile: options.Tile = None,
    tile_overlap: options.TileOverlap = None,
    flip: options.Flip = None,
    fusion: options.Fusion = None,
    redact: Annotated[
        str | None,
        typer.Option(
            "--redact",
            metavar="gaussian|pixelate|solid",
            help="What takes the place of an object.  \\[default: gaussian]",
            rich_help_panel=REDACTION,
        ),
    ] = None,
    strength: Annotated[
        float | None,
        typer.Option(
            "--strength",
            help="Smallest detail that survives, as a share of the object's size.  \\[default: 0.25; pixelate: 1/3]",
            rich_help_panel=REDACTION,
        ),
    ] = None,
    shape: Annotated[
        str | None,
        typer.Option(
            "--shape",
            metavar="ellipse|box|rounded",
            help="What is drawn into the region.  \\[default: ellipse for faces, box for plates]",
            rich_help_panel=REDACTION,
        ),
    ] = None,
    grow: Annotated[
        float | None,
        typer.Option(
            "--grow", help="Region size relative to the found box.  \\[default: 1.3]", rich_help_panel=REDACTION
        ),
    ] = None,
    feather: Annotated[
        float | None,
        typer.Option(
            "--feather",
            help="Width of a soft edge around each region, as a share of the object's size.  \\[default: 0]",
            rich_help_panel=REDACTION,
        ),
    ] = None,
    track: track_options.Track = None,
    look_ahead: track_options.LookAhead = None,
    two_pass: track_options.TwoPass = None,
    max_gap: track_options.MaxGap = None,
    detect_every: track_options.DetectEvery = None,
    audio: Annotated[
        str | None,
        typer.Option(
            "--audio",
            metavar="copy|drop",
            help="Voices identify people too.  \\[default: copy]",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    subtitles: Annotated[
        str | None,
        typer.Option(
            "--subtitles",
            metavar="copy|drop",
            help="Subtitles may hold names.  \\[default: copy]",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    metadata: Annotated[
        str | None,
        typer.Option(
            "--metadata",
            metavar="drop|keep",
            help="keep: what is safe of it.  \\[default: drop]",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    file_times: Annotated[
        str | None,
        typer.Option(
            "--file-times",
            metavar="new|keep",
            help="keep: the output was changed last when the input was.  \\[default: new]",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    quality: Annotated[
        int | None,
        typer.Option("--quality", help="1 to 100.  \\[default: visually lossless]", rich_help_panel=OUTPUT),
    ] = None,
    codec: Annotated[
        str | None,
        typer.Option(
            "--codec",
            metavar="same|h264|hevc|vp9|av1",
            help="Video codec of the output.  \\[default: same]",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    encoder_preset: Annotated[
        str | None,
        typer.Option(
            "--encoder-preset", help="The encoder's own speed setting, for example medium.", rich_help_panel=OUTPUT
        ),
    ] = None,
    on_error: Annotated[
        str | None,
        typer.Option(
            "--on-error",
            metavar="stop|redact-frame",
            help="A fault in a frame: no output, or that frame redacted whole and counted.  \\[default: stop]",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    regions: Annotated[
        Path | None,
        typer.Option(
            "--regions",
            metavar="FILE",
            help="Areas drawn by hand: JSON (see [bold]trt-anon regions schema[/]), CVAT XML or COCO JSON.",
            rich_help_panel=REDACTION,
            show_default=False,
        ),
    ] = None,
    detections: Annotated[
        Path | None,
        typer.Option(
            "--detections",
            metavar="FILE",
            help="Redact what this file says (see [bold]trt-anon detect[/]) instead of running a detector.",
            rich_help_panel=DETECTION,
            show_default=False,
        ),
    ] = None,
    verify: Annotated[
        bool,
        typer.Option(
            "--verify",
            help="Take a second look at each output with another detector, and publish none in which something "
            "can be read.",
            rich_help_panel=OUTPUT,
        ),
    ] = False,
    receipt: Annotated[
        Path | None,
        typer.Option(
            "--receipt",
            help="Write a receipt: hashes, counts, recall, verification; nothing personal.",
            rich_help_panel=OUTPUT,
            show_default=False,
        ),
    ] = None,
    receipt_key: Annotated[
        Path | None,
        typer.Option(
            "--receipt-key",
            help="Sign the receipt with this key (see [bold]trt-anon receipt key[/]).",
            rich_help_panel=OUTPUT,
            show_default=False,
        ),
    ] = None,
    overwrite: options.Overwrite = False,
    resume: job_options.Resume = None,
    retry: job_options.Retry = False,
    journal: job_options.Journal = None,
    keep_free: job_options.KeepFree = DEFAULT_KEEP_FREE_MIB,
    workers: job_options.Workers = None,
    segment: job_options.Segment = None,
    json: Annotated[
        Path | None,
        typer.Option(
            "--json",
            help="Write a summary: files, frames, objects per class, fps, seconds; no boxes.",
            rich_help_panel=OUTPUT,
            show_default=False,
        ),
    ] = None,
    device: options.Device = None,
    runtime: options.Runtime = None,
    precision: options.Precision = None,
    devices: gpu_options.Devices = None,
    decoder: gpu_options.Decoder = None,
    encoder: gpu_options.Encoder = None,
    batch: gpu_options.Batch = None,
    gpu_memory: gpu_options.GpuMemory = None,
    videos_at_once: gpu_options.VideosAtOnce = None,
    threads: options.Threads = None,
    config: options.Config = None,
    quiet: options.Quiet = False,
) -> None:
    """Anonymize images, videos and folders.

    Each output appears complete, or not at all. Time stamps, size, colour, rotation and audio stay; metadata does not.
    """
    from trt_anon.api import Anonymizer, ReceiptMaker
    from trt_anon.job.inputs import check_apart
    from trt_anon.job.regions_file import read_regions
    from trt_anon.job.signing import load_key, sign

    settings = options.configuration(
        config,
        classes=options.classes(detect),
        detectors=tuple(detector) if detector else None,
        preset=preset,
        threshold=threshold,
        **options.views(tile, tile_overlap, flip, fusion),
        method=redact,
        strength=strength,
        shape=shape,
        grow=grow,
        feather=feather,
        track=track,
        look_ahead_seconds=look_ahead,
        two_pass=two_pass,
        max_gap_seconds=max_gap,
        detect_every=track_options.detect_every(detect_every),
        audio=audio,
        subtitles=subtitles,
        metadata=metadata,
        file_times=file_times,
        quality=quality,
        codec=codec,
        encoder_preset=encoder_preset,
        on_error=on_error,
        device=device,
        runtime=runtime,
        precision=precision,
        devices=gpu_options.devices(devices),
        decoder=decoder,
        encoder=encoder,
        batch=batch,
        gpu_memory_mib=gpu_memory,
        videos_at_once=videos_at_once,
        threads=threads,
    )
    if detections is not None and (detect or detector or preset or threshold):
        raise UsageError("--detections runs no detector: leave --detect, --detector, --preset and --threshold out")
    if regions is not None:
        settings = settings.model_copy(update={"regions": read_regions(regions)})
    going_on = job_options.resume(
        inputs,
        output,
        resume=resume,
        retry=retry,
        journal=journal,
        keep_free_mib=keep_free,
        workers=workers,
        segment_seconds=segment,
    )
    job = Anonymizer.plan(inputs, output, overwrite=overwrite or going_on is not None)
    if json is not None:  # now, not after hours of work
        check_apart(json, job.tasks, overwrite=overwrite)
    if receipt is not None:
        check_apart(receipt, job.tasks, overwrite=overwrite)
    if receipt_key is not None and receipt is None:
        raise UsageError("--receipt-key signs a receipt: name one with --receipt")
    key = load_key(receipt_key) if receipt_key is not None else None
    maker = ReceiptMaker([task.source for task in job.tasks])
    with (
        Anonymizer(settings, detections=detections, verify=verify) as anonymizer,
        progress_view(len(job.tasks), quiet=quiet, sources=[task.source for task in job.tasks]) as view,
    ):
        report = anonymizer.run(job, overwrite=overwrite, on_event=view, resume=going_on)
    if json is not None:
        report.write(json, overwrite=overwrite)
    if receipt is not None:
        made = anonymizer.receipt(maker, report)
        (made if key is None else sign(made, key)).write(receipt, overwrite=overwrite)
    show(report, quiet=quiet)
    raise typer.Exit(report.exit_code)


def show(report: JobReport, *, quiet: bool) -> None:
    """Print a job's outcome: failures to standard error, each named, and a line of figures."""
    errors = Console(stderr=True, soft_wrap=True)
    for file in report.files:
        if file.status == "failed":
            errors.print(
                f"[bold red]failed[/] {printable(file.source)}: {printable(file.error or '')}", highlight=False
            )
        elif file.frames_redacted_whole:
            count = sum(file.frames_redacted_whole.values())
            stages = ", ".join(f"{name} {n}" for name, n in file.frames_redacted_whole.items())
            errors.print(
                f"[bold yellow]redacted whole[/] {printable(file.source)}: {count} of {file.frames} frames, where a "
                f"stage failed ({stages})",
                highlight=False,
            )
    if quiet:
        return
    if kept := report.metadata_kept:
        typer.echo(f"kept: {', '.join(f'{what} in {count} files' for what, count in kept.items())}")
    found = ", ".join(f"{count} {name.replace('_', ' ')} boxes" for name, count in report.objects.items())
    skipped = f", {report.unchanged} unchanged" if report.unchanged else ""
    skipped += f", {report.skipped} other files skipped" if report.skipped else ""
    typer.echo(
        f"{report.done} of {report.done + report.failed} files done{skipped}, {report.frames} frames, "
        f"{found or 'nothing found'}, {report.seconds:.1f} s, {report.fps:.1f} frames/s"
    )
