"""Clips for benchmarks, made from real ones."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av


def make_clip(
    source: Path, destination: Path, *, frames: int, size_px: tuple[int, int] | None = None, repeat: int = 1
) -> Path:
    """The first `frames` frames of a video as H.264 (crf 18), scaled to `size_px` if given, `repeat` times over."""
    if destination.exists():
        return destination
    partial = destination.with_suffix(".partial.mp4")
    with av.open(str(partial), "w", format="mp4") as out:
        stream = None
        number = 0
        for _ in range(repeat):
            with av.open(str(source)) as container:
                video = container.streams.video[0]
                rate = video.average_rate
                for index, frame in enumerate(container.decode(video)):
                    if index == frames:
                        break
                    if size_px is not None:
                        frame = frame.reformat(*size_px, interpolation="BICUBIC")
                    if stream is None:
                        stream = out.add_stream("libx264", rate=rate, options={"crf": "18", "preset": "veryfast"})
                        stream.width, stream.height, stream.pix_fmt = frame.width, frame.height, frame.format.name
                        stream.codec_context.time_base = 1 / Fraction(rate)
                    frame.pts, frame.time_base = number, 1 / Fraction(rate)
                    frame.pict_type = 0
                    number += 1
                    out.mux(stream.encode(frame))
        assert stream is not None
        out.mux(stream.encode(None))
    partial.rename(destination)
    return destination
