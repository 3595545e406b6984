"""Each stage alone, the whole pipeline against them, and memory against the length of the video.

    python benchmarks/pipeline.py --data ../shared [--rounds 5] [--result benchmarks/results/MACHINE.json]

A stage alone has the whole machine and frames in memory. The pipeline cannot be faster than its slowest stage, nor than
the processor time that all stages need together divided by the number of cores: both limits are printed.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from clips import make_clip
from harness import Spread, run_command, write_result

from trt_anon.api import make_config
from trt_anon.config import AnonymizeConfig
from trt_anon.machine import usable_cores
from trt_anon.models.registry import Registry
from trt_anon.pipeline.detection import FrameDetector
from trt_anon.pipeline.loop import anonymize_frames
from trt_anon.pipeline.redaction import Redaction
from trt_anon.sink.pyav import PyAVSink
from trt_anon.source.pyav import PyAVSource

HERE = Path(__file__).parent


class Stages:
    """The stages of one clip, each runnable alone over all frames."""

    def __init__(self, clip: Path, config: AnonymizeConfig, scratch: Path) -> None:
        self.clip, self.config, self.out = clip, config, scratch / "out.mp4"
        self.detector = FrameDetector.load(config, Registry())
        self.redaction = Redaction(config)
        source = PyAVSource(clip)
        self.info = source.info
        self.frames = list(source)
        source.close()
        self.found = [self.detector.submit(frame).result() for frame in self.frames]

    def decode(self) -> None:
        source = PyAVSource(self.clip)
        for _ in source:
            pass
        source.close()

    def detect(self) -> None:
        pending = []
        for frame in self.frames:
            pending.append(self.detector.submit(frame))
            if len(pending) > 8:
                pending.pop(0).result()
        for rest in pending:
            rest.result()

    def redact(self) -> None:
        for frame, found in zip(self.frames, self.found, strict=True):
            self.redaction.apply(frame, found)

    def encode(self) -> None:
        sink = PyAVSink(self.out, source_path=self.clip, info=self.info, config=self.config.sink)
        for frame in self.frames:
            sink.write(frame)
        sink.finish()

    def pipeline(self) -> None:
        source = PyAVSource(self.clip)
        sink = PyAVSink(self.out, source_path=self.clip, info=self.info, config=self.config.sink)
        anonymize_frames(source, sink, self.detector, self.redaction, self.config.pipeline)
        source.close()


def timed(work: Callable[[], None]) -> tuple[float, float]:
    """(wall, processor) seconds."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - cpu


def measure(stages: Stages, rounds: int) -> dict[str, Any]:
    """All stages and the pipeline in turn; figures per frame."""
    names = ("decode", "detect", "redact", "encode", "pipeline")
    runs: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
    for number in range(rounds + 1):
        for name in names:
            run = timed(getattr(stages, name))
            if number:
                runs[name].append(run)
    count = len(stages.frames)
    figures: dict[str, Any] = {
        name: {
            "fps": Spread.of([count / wall for wall, _ in runs[name]]),
            "cpu_ms_per_frame": Spread.of([1000 * cpu / count for _, cpu in runs[name]]),
        }
        for name in names
    }
    slowest, of_cpu = [], []
    for number in range(rounds):
        alone = [runs[name][number] for name in names[:-1]]
        wall = runs["pipeline"][number][0]
        slowest.append(max(w for w, _ in alone) / wall)
        of_cpu.append(max(max(w for w, _ in alone), sum(c for _, c in alone) / usable_cores()) / wall)
    figures["of_slowest_stage"] = Spread.of(slowest)
    figures["of_machine_limit"] = Spread.of(of_cpu)
    return figures


def memory(clip: Path, long_clip: Path, scratch: Path) -> dict[str, Any]:
    """Peak resident memory of the whole command, for a clip and one ten times as long."""
    peaks = [
        run_command(
            [sys.executable, "-m", "trt_anon", "anonymize", str(c), "-o", str(scratch / "m.mp4"), "-q", "--overwrite"]
        ).peak_rss_mib
        for c in (clip, long_clip)
    ]
    return {"peak_rss_mib": peaks[0], "peak_rss_mib_10x_frames": peaks[1], "growth": peaks[1] / peaks[0] - 1}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=HERE.parents[1] / "shared", help="folder that holds data/")
    parser.add_argument("--device", choices=["cpu"], default="cpu")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--result", type=Path, default=None, help="result file to write into")
    arguments = parser.parse_args()

    original = arguments.data / "data/videos/intel_one-by-one-person.mp4"
    config = make_config(device=arguments.device)
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        for name, size, frames in (("768x432", None, 200), ("1920x1080", (1920, 1080), 60)):
            clip = make_clip(original, scratch / f"{name}.mp4", frames=frames, size_px=size)
            figures[name] = measure(Stages(clip, config, scratch), arguments.rounds)
        short = make_clip(original, scratch / "short.mp4", frames=60, size_px=(1920, 1080))
        long = make_clip(original, scratch / "long.mp4", frames=60, size_px=(1920, 1080), repeat=10)
        figures["memory_1080p"] = memory(short, long, scratch)

    for name in ("768x432", "1920x1080"):
        for stage in ("decode", "detect", "redact", "encode", "pipeline"):
            f = figures[name][stage]
            print(f"{name:>10} {stage:>9} {f['fps'].median:9.1f} fps {f['cpu_ms_per_frame'].median:7.2f} CPU ms/frame")
        print(
            f"{name:>10}  pipeline: {100 * figures[name]['of_slowest_stage'].median:.0f}% of its slowest stage alone, "
            f"{100 * figures[name]['of_machine_limit'].median:.0f}% of what {usable_cores()} cores allow"
        )
    m = figures["memory_1080p"]
    print(f"1080p: {m['peak_rss_mib']:.0f} MiB, ten times the frames {m['peak_rss_mib_10x_frames']:.0f} MiB")
    if arguments.result:
        write_result(arguments.result, "pipeline", figures)


if __name__ == "__main__":
    main()
