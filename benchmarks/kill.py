"""kill -9 at random moments: does a job that is started again end as one that nobody touched?

    python benchmarks/kill.py --kills 100 --workers 2

A folder with pictures and a clip of several segments is anonymized once without interruption. Then the same command is
started again and again on another output and killed after a random time, until it was killed so often; what lies at a
final path must be whole each time. Started a last time it must leave exactly the files of the first run: the same
bytes, hence the same frames, times and sound, nothing missing, nothing twice, nothing besides.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from fractions import Fraction
from pathlib import Path

import av
import numpy as np


def make_input(folder: Path, frames: int, pictures: int) -> None:
    """A clip with sound and a key frame every half second, and pictures."""
    from PIL import Image

    folder.mkdir()
    shades = np.random.default_rng(1).integers(0, 255, (64, 96, 3), np.uint8)
    for number in range(pictures):
        Image.fromarray(np.roll(shades, number, axis=1)).save(folder / f"{number}.png")
    with av.open(str(folder / "clip.mp4"), "w") as out:
        video = out.add_stream("libx264", rate=25, width=320, height=192, pix_fmt="yuv420p")
        video.options = {"g": "12", "preset": "ultrafast", "bf": "2"}
        sound = out.add_stream("aac", rate=48000, layout="mono")
        y, x = np.mgrid[:192, :320]
        for index in range(frames):
            wave = 128 + 80 * np.sin((x + 4 * index) / 17) + 40 * np.cos((y - 3 * index) / 11)
            picture = av.VideoFrame.from_ndarray(np.repeat(wave[..., None], 3, 2).astype(np.uint8), format="rgb24")
            picture.pts, picture.time_base = index, Fraction(1, 25)
            out.mux(video.encode(picture.reformat(format="yuv420p")))
        out.mux(video.encode(None))
        for start in range(0, frames * 1920, 1024):
            tone = np.sin(np.arange(start, start + 1024) * 0.05).astype(np.float32)[None] * 0.3
            heard = av.AudioFrame.from_ndarray(tone, format="fltp", layout="mono")
            heard.sample_rate, heard.pts, heard.time_base = 48000, start, Fraction(1, 48000)
            out.mux(sound.encode(heard))
        out.mux(sound.encode(None))


def contents(folder: Path) -> dict[str, bytes]:
    """Published files by name."""
    files = (p for p in folder.rglob("*") if p.is_file() and not p.relative_to(folder).parts[0].startswith("."))
    return {str(p.relative_to(folder)): p.read_bytes() for p in files}


def main() -> None:
    """Run it; exits with 1 where anything differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--frames", type=int, default=400)
    parser.add_argument("--pictures", type=int, default=6)
    parser.add_argument("--segment", type=float, default=2.0)
    parser.add_argument("--runtime", default="null", help="what runs the detector: null finds nothing, and is quick")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    chance = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        make_input(root / "in", options.frames, options.pictures)
        environment = {**os.environ, "TRT_ANON_STATE": str(root / "state")}

        def command(out: str) -> list[str]:
            words = ["anonymize", root / "in", "-o", root / out, "-q", "--runtime", options.runtime]
            words += ["--segment", options.segment, "--workers", options.workers, "--threads", 2]
            return [sys.executable, "-m", "trt_anon", *map(str, words)]

        start = time.perf_counter()
        subprocess.run(command("straight"), check=True, env=environment)
        seconds = time.perf_counter() - start
        wanted = contents(root / "straight")
        kills = finished = rounds = 0
        resumed: set[str] = set()
        while kills < options.kills:
            out = root / f"round{rounds}"
            process = subprocess.Popen(command(out.name), env=environment, start_new_session=True)
            try:
                process.wait(chance.uniform(0.3, 1.2) * seconds)
            except subprocess.TimeoutExpired:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process.pid, signal.SIGKILL)  # its workers are left to find out by themselves
                process.wait()
                kills += 1
                resumed.add(out.name)
            else:
                if process.returncode != 0:
                    sys.exit(f"the command ended with {process.returncode} after {kills} kills")
                finished += 1
                rounds += 1
            found = contents(out) if out.is_dir() else {}
            if any(wanted.get(name) != data for name, data in found.items()):
                sys.exit(f"after kill {kills}, something at a final path is not whole")
        last = root / f"round{rounds}"
        subprocess.run(command(last.name), check=True, env=environment)
        for number in range(rounds + 1):
            out = root / f"round{number}"
            if contents(out) != wanted:
                sys.exit(f"{out.name} differs from the run without interruption")
            hidden = list(out.rglob(".*"))
            if hidden:
                sys.exit(f"{out.name} has files left over: {[p.name for p in hidden]}")
        figures = {
            "kills": kills,
            "jobs_finished": rounds + 1,
            "of_them_killed_at_least_once": len(resumed),
            "files_identical": len(wanted),
            "seconds_without_interruption": round(seconds, 2),
            "workers": options.workers,
        }
        print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
