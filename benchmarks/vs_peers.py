"""Against other tools: deface 1.5.0 measured on the same clips, machine and run; others by what they publish.

    python benchmarks/vs_peers.py --data ../shared [--rounds 3] [--result benchmarks/results/MACHINE.json]

deface runs in a virtual environment of its own (made on first use, with ONNX Runtime). Times are of whole commands,
start-up included, run in turn. DeepStream and Savant need a GPU and NVIDIA's containers: their figures are those of
their own pages (`published.json`), on other machines and other clips, and comparable in their order of magnitude only.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from clips import make_clip
from cover_vs_deface import compare_cover, deface_environment, lines
from harness import Run, Spread, interleaved, run_command, write_result

HERE = Path(__file__).parent
CLIPS = {"768x432": (300, None), "1920x1080": (100, (1920, 1080))}
"""Frames and size of each clip; fewer of the large one, of which deface does about two in a second."""


def compare_speed(clip: Path, frames: int, deface: Path, rounds: int, scratch: Path) -> dict[str, Any]:
    """Whole commands in turn: deface, this library's default, and this library with deface's detector at its size."""
    ours = [sys.executable, "-m", "trt_anon", "anonymize", str(clip), "--quiet", "--overwrite"]

    def command(*arguments: str) -> Callable[[], Run]:
        return lambda: run_command(arguments)

    runs = interleaved(
        {
            "deface": command(
                str(deface / "deface"), str(clip), "--backend", "onnxrt", "-o", str(scratch / "deface.mp4")
            ),
            "default": command(*ours, "-o", str(scratch / "default.mp4")),
            "centerface": command(*ours, "-o", str(scratch / "centerface.mp4"), "--detector", "centerface"),
        },
        rounds=rounds,
    )
    figures: dict[str, Any] = {}
    for name, results in runs.items():
        figures[name] = {
            "fps": Spread.of([frames / run.wall_seconds for run in results]),
            "cpu_ms_per_frame": Spread.of([1000 * run.cpu_seconds / frames for run in results]),
            "peak_rss_mib": Spread.of([run.peak_rss_mib for run in results]),
        }
    for name in ("default", "centerface"):
        pairs = zip(runs["deface"], runs[name], strict=True)
        figures[name]["times_deface"] = Spread.of([d.wall_seconds / o.wall_seconds for d, o in pairs])
    return figures


def published() -> list[dict[str, Any]]:
    """Figures that other tools publish; nothing of them was measured here."""
    found: list[dict[str, Any]] = json.loads((HERE / "published.json").read_text())
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=HERE.parents[1] / "shared", help="folder that holds data/")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--deface-venv", type=Path, default=Path(tempfile.gettempdir()) / "deface-1.5.0-venv")
    parser.add_argument("--result", type=Path, default=None, help="result file to write into")
    parser.add_argument("--skip-cover", action="store_true")
    arguments = parser.parse_args()

    deface = deface_environment(arguments.deface_venv)
    original = arguments.data / "data/videos/intel_one-by-one-person.mp4"
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        for name, (frames, size) in CLIPS.items():
            clip = make_clip(original, scratch / f"{name}.mp4", frames=frames, size_px=size)
            figures[name] = compare_speed(clip, frames, deface, arguments.rounds, scratch)
        if not arguments.skip_cover:
            labels = arguments.data / "data/faces/facemask853/annotations.json"
            figures["cover"] = compare_cover(labels, deface, scratch)

    print(f"{'':>12} {'':>12} {'fps':>8} {'x deface':>9} {'CPU ms/frame':>13} {'RSS MiB':>8}")
    for clip_name in CLIPS:
        for name, f in figures[clip_name].items():
            ratio = f"{f['times_deface'].median:.2f}" if "times_deface" in f else ""
            print(
                f"{clip_name:>12} {name:>12} {f['fps'].median:8.1f} {ratio:>9} "
                f"{f['cpu_ms_per_frame'].median:13.1f} {f['peak_rss_mib'].median:8.0f}"
            )
    print("\n".join(lines(figures.get("cover", {}))))
    for peer in published():
        print(f"published, {peer['name']}: {peer['fps']:g} fps, {peer['what']}, {peer['machine']} ({peer['source']})")
    if arguments.result:
        write_result(arguments.result, "vs_peers", figures)


if __name__ == "__main__":
    main()
