"""The pipeline against its limits, stage by stage, and its memory against the length of the video.

    python benchmarks/pipeline.py [--device cpu] [--data ../shared] [--result benchmarks/results/MACHINE.json]

The same as `trt-anon bench --stages` on clips that are the same everywhere: drawn ones, and where the data folder is
there two real ones. In the result file under `pipeline` (or `pipeline_cuda`), in the format of `trt-anon bench --json`.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

from clips import make_clip
from harness import run_command, write_result

from trt_anon.api import make_config
from trt_anon.bench import BenchSettings, read_result, run_bench
from trt_anon.bench.clip import ClipSpec, generate_clip
from trt_anon.bench.result import BenchResult
from trt_anon.cli.bench_view import show

HERE = Path(__file__).parent
REAL = "data/videos/intel_one-by-one-person.mp4"


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def drawn(device: str, seconds: float, frames: int | None) -> BenchResult:
    """1080p with few and many faces; on a GPU in two sizes of batches."""
    settings = BenchSettings(
        device=device,  # type: ignore[arg-type]
        sizes_px=((1920, 1080),),
        faces=(0, 20),
        batches=(8, 32) if device == "cuda" else (1,),
        seconds=seconds,
        stages=True,
        encode=device == "cpu",
        frames=frames,
    )
    return run_bench(settings, make_config(device=device), say=say)


def real(data: Path, scratch: Path, seconds: float, frames: int | None) -> dict[str, BenchResult]:
    """The first frames of a clip as it is, and enlarged to 1080p."""
    results = {}
    for name, size, length in (("768x432", None, 120), ("1920x1080", (1920, 1080), 60)):
        clip = make_clip(data / REAL, scratch / f"{name}.mp4", frames=frames or length, size_px=size)
        results[name] = run_bench(
            BenchSettings(source=clip, seconds=seconds, stages=True), make_config(device="cpu"), say=say
        )
    return results


def memory(scratch: Path) -> dict[str, Any]:
    """Peak resident memory of the whole command, for a clip and one ten times as long."""
    peaks = []
    for repeat in (1, 10):
        clip = generate_clip(ClipSpec(1920, 1080, 5, 30, repeat), scratch)
        command = [sys.executable, "-m", "trt_anon", "anonymize", str(clip), "-o", str(scratch / "m.mp4"), "-q"]
        peaks.append(run_command([*command, "--overwrite"]).peak_rss_mib)
    return {"peak_rss_mib": peaks[0], "peak_rss_mib_10x_frames": peaks[1], "growth": peaks[1] / peaks[0] - 1}


def command_of(result: BenchResult) -> str:
    """The `trt-anon bench` that gave a result."""
    settings, config = result.settings, result.configuration
    options = [f"--device {settings['device']}", f"--runtime {config['runtime']['runtime']}"]
    options += [f"--batch {','.join(map(str, settings['batches']))}", f"--track {config['track']['track']}"]
    options += ["--stages"] * settings["stages"] + ["--no-encode"] * (not settings["encode"])
    return " ".join(["trt-anon bench", *options, f"--seconds {settings['seconds']:g}"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--data", type=Path, default=HERE.parents[1] / "shared", help="folder that holds data/")
    parser.add_argument("--seconds", type=float, default=3.0, help="for each part of each clip")
    parser.add_argument("--frames", type=int, default=None, help="of each clip, where the usual ones take too long")
    parser.add_argument("--bench", type=Path, help="a result of `trt-anon bench --json` instead of measuring")
    parser.add_argument("--result", type=Path, default=None, help="result file to write into")
    arguments = parser.parse_args()

    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        if arguments.bench:
            results = {"drawn": read_result(arguments.bench)}
            figures["command"] = command_of(results["drawn"])
        else:
            results = {"drawn": drawn(arguments.device, arguments.seconds, arguments.frames)}
        if arguments.device == "cpu" and not arguments.bench:
            if (arguments.data / REAL).exists():
                results |= real(arguments.data, scratch, arguments.seconds, arguments.frames)
            else:
                figures["missing"] = {"real clips": f"no {REAL} in the data folder"}
            figures["memory_1080p"] = memory(scratch)
    for name, result in results.items():
        show(result)
        figures[name] = result.model_dump(mode="json", exclude={"machine"})
    if "memory_1080p" in figures:
        m = figures["memory_1080p"]
        print(f"1080p: {m['peak_rss_mib']:.0f} MiB, ten times the frames {m['peak_rss_mib_10x_frames']:.0f} MiB")
    if arguments.result:
        write_result(arguments.result, "pipeline" if arguments.device == "cpu" else "pipeline_cuda", figures)


if __name__ == "__main__":
    main()
