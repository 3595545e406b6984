"""A whole bench: every case, its parts in turn round by round, and what the rounds come to."""

from __future__ import annotations

import datetime
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path

import trt_anon
from trt_anon.bench.clip import RATE, ClipSpec, content_hash, generate_clip
from trt_anon.bench.gpu import first_device, gpu_bus_id, open_on_gpu
from trt_anon.bench.host import HostSubject
from trt_anon.bench.part import Pass, Subject
from trt_anon.bench.result import BenchResult, Case, Part, Power
from trt_anon.bench.settings import BenchSettings, size_name
from trt_anon.bench.watch import Watch, conditions
from trt_anon.config import AnonymizeConfig
from trt_anon.errors import UsageError
from trt_anon.machine import inspect_machine
from trt_anon.media import MediaInfo
from trt_anon.metrics.speed import Latency, Spread
from trt_anon.models.recipe import Recipe
from trt_anon.models.registry import Registry
from trt_anon.pipeline.detection import choose_recipes, with_growth
from trt_anon.source.pyav import PyAVSource

Say = Callable[[str], None]

_HELD_BYTES = 256 << 20
"""Decoded frames of a clip that are held in memory for the stages that run alone."""
_MAX_FRAMES = 120
_GPU_FRAMES, _GPU_LEAST, _GPU_BATCHES = 60, 900, 40
"""Of a clip for a GPU: frames that are drawn, and at least so many, and so many batches, by repetition."""
_MIN_ROUNDS, _MAX_ROUNDS = 3, 101
_HOURS = 10_000
_WATCHED_SECONDS = 2.0


def run_bench(
    settings: BenchSettings, config: AnonymizeConfig, *, registry: Registry | None = None, say: Say = lambda _line: None
) -> BenchResult:
    """Measure every case, one after the other; `say` is told what is under way.

    Raises what the pipeline raises: nothing that failed is counted. DeviceMissing without the GPU that is asked for,
    UsageError for what does not go together.
    """
    registry = registry or Registry()
    if settings.device == "cpu" and settings.batches != (1,):
        raise UsageError("the CPU pipeline takes frames one by one: --batch is for --device cuda")
    gpu = gpu_bus_id(first_device(config)) if settings.device == "cuda" else None
    before = conditions(gpu)
    recipes = choose_recipes(config, registry)
    config = with_growth(config, recipes)
    cases = []
    with tempfile.TemporaryDirectory(prefix="trt-anon-bench-") as folder:
        scratch = Path(folder)
        for batch in settings.batches:
            for clip, faces, frames in _clips(settings, scratch, batch, say):
                subject = _open(settings, config, recipes, registry, clip, frames, batch, scratch)
                cases.append(measure(subject, clip, faces, batch, settings.seconds, gpu, say))
    return BenchResult(
        date=datetime.datetime.now(tz=datetime.UTC).isoformat(timespec="seconds"),
        trt_anon=trt_anon.__version__,
        machine=inspect_machine().to_dict(),
        conditions=before,
        configuration=config.model_dump(mode="json"),
        settings=settings.model_dump(mode="json", exclude={"source"}),  # a name may be personal data
        cases=tuple(cases),
    )


def _open(
    settings: BenchSettings,
    config: AnonymizeConfig,
    recipes: list[Recipe],
    registry: Registry,
    clip: Path,
    frames: int,
    batch: int,
    scratch: Path,
) -> Subject:
    stages, encode = settings.stages, settings.encode
    if settings.device == "cuda":
        return open_on_gpu(clip, batch, config, recipes, registry, scratch, stages=stages, encode=encode)
    return HostSubject(clip, frames, config, recipes, registry, scratch, stages=stages, encode=encode)


def _clips(settings: BenchSettings, scratch: Path, batch: int, say: Say) -> Iterator[tuple[Path, int | None, int]]:
    """(file, drawn faces, frames) of every clip."""
    if settings.source is not None:
        source = PyAVSource(settings.source)
        info = source.info
        source.close()
        yield settings.source, None, _frames_of(settings, info.width_px, info.height_px)
        return
    for (width, height), faces in product(settings.sizes_px, settings.faces):
        frames, repeat = _frames_of(settings, width, height), 1
        if settings.device == "cuda":
            frames = min(frames, _GPU_FRAMES)
            repeat = -(-max(_GPU_LEAST, _GPU_BATCHES * batch) // frames)
        spec = ClipSpec(width, height, faces, frames, repeat)
        say(f"drawing {size_name(width, height)} with {faces} faces, {spec.frames} frames")
        yield generate_clip(spec, scratch), faces, spec.frames


def _frames_of(settings: BenchSettings, width_px: int, height_px: int) -> int:
    return settings.frames or min(_MAX_FRAMES, max(16, _HELD_BYTES // (width_px * height_px * 3 // 2)))


def measure(
    subject: Subject, clip: Path, faces: int | None, batch: int, seconds: float, gpu: str | None, say: Say
) -> Case:
    """All parts of a subject in turn, and what they come to; the subject is closed."""
    with subject:
        if gpu is not None:
            subject.warm_up()  # what builds engines needs memory of its own
        watch = Watch(gpu)
        with watch:
            subject.warm_up()
        info = subject.hold()
        name = size_name(info.width_px, info.height_px) + ("" if faces is None else f", {faces} faces")
        said = name if batch == 1 else f"{name}, batch {batch}"
        passes = rounds(subject.parts, seconds, lambda text: say(f"{said}: {text}"))
        parts = {part: summarise(made) for part, made in passes.items()}
        power = None if gpu is None else _watts(subject, gpu)
        return Case(
            name=name,
            width_px=info.width_px,
            height_px=info.height_px,
            frame_rate=float(info.average_rate or RATE),
            frames=subject.frames,
            faces=faces,
            batch=batch,
            input_sha256=content_hash(clip),
            found_per_frame=subject.found_per_frame,
            parts=parts,
            shares={**shares_of(passes, cores=subject.cores), **subject.extra_shares},
            slowest=slowest_of(parts),
            hours_per_10000=hours_of(parts, info),
            memory=watch.memory,
            traffic=subject.traffic,
            power=power,
            missing={**subject.missing, **watch.missing},
        )


def _watts(subject: Subject, gpu: str) -> Power | None:
    """While the pipeline runs, long enough for sensors that give means over a second."""
    work = subject.parts["pipeline"]
    watch = Watch(gpu)
    with watch:
        start = time.perf_counter()
        while time.perf_counter() - start < _WATCHED_SECONDS:
            work()
    return watch.power


def rounds(parts: Mapping[str, Callable[[], Pass]], seconds: float, say: Say) -> dict[str, list[Pass]]:
    """Every part once per round, in turn, so that a change of the machine's speed hits all alike; a round of warm-up.

    Goes on until `seconds` per part are spent, for at least three rounds.
    """
    for work in parts.values():
        work()
    passes: dict[str, list[Pass]] = {name: [] for name in parts}
    start = time.perf_counter()
    for number in range(1, _MAX_ROUNDS + 1):
        for name, work in parts.items():
            passes[name].append(work())
        spent = time.perf_counter() - start
        say(f"round {number}, {spent:.0f} s")
        if number >= _MIN_ROUNDS and spent >= seconds * len(parts):
            break
    return passes


def summarise(passes: Sequence[Pass]) -> Part:
    """Median and spread over the rounds; latencies over all frames of all rounds."""
    return Part(
        fps=Spread.of([p.frames / p.wall_seconds for p in passes]),
        latency=Latency.of([seconds for p in passes for seconds in p.latencies_seconds]),
        cpu_ms_per_frame=Spread.of([1000 * p.cpu_seconds / p.frames for p in passes]),
    )


_WHOLE = ("pipeline", "pipeline + encode")


def shares_of(passes: Mapping[str, Sequence[Pass]], *, cores: int | None) -> dict[str, Spread]:
    """How much of each limit was reached, round by round, so that both sides of a ratio met the same machine.

    cores: the processor time of all stages together is a limit, too, where they run on that many cores.
    """
    wall = {name: [p.wall_seconds / p.frames for p in made] for name, made in passes.items()}

    def ratio(limit: Sequence[float], of: str) -> Spread:
        return Spread.of([a / b for a, b in zip(limit, wall[of], strict=True)])

    shares = {
        "detect of bare engine": ratio(wall["engine"], "detect"),
        "pipeline of decoder": ratio(wall["decode"], "pipeline"),
        "pipeline of bare engine": ratio(wall["engine"], "pipeline"),
        "pipeline of the slower of both": ratio(
            [max(pair) for pair in zip(wall["decode"], wall["engine"], strict=True)], "pipeline"
        ),
    }
    for several in (name for name in wall if name.startswith("pipeline x")):
        decoders = several.replace("pipeline", "decode")
        limit = [max(pair) for pair in zip(wall[decoders], wall["engine"], strict=True)]
        shares[f"{several} of the slower of {decoders} and bare engine"] = ratio(limit, several)
    if "pipeline + encode" in wall:
        shares["pipeline + encode of pipeline"] = ratio(wall["pipeline"], "pipeline + encode")
    if cores is not None:
        for whole in _WHOLE:
            stages = ["decode", "detect", *(["track"] if "track" in passes else []), "redact"]
            stages += ["encode"] if "encode" in whole else []
            if whole not in wall or not all(stage in passes for stage in stages):
                continue
            cpu = [sum(passes[s][n].cpu_seconds / passes[s][n].frames for s in stages) for n in range(len(wall[whole]))]
            slowest = [max(wall[s][n] for s in stages) for n in range(len(cpu))]
            limit = [max(alone, needed / cores) for alone, needed in zip(slowest, cpu, strict=True)]
            shares[f"{whole} of what {cores} cores allow"] = ratio(limit, whole)
    return shares


def slowest_of(parts: Mapping[str, Part]) -> str:
    """The stage that alone has the fewest frames per second: no pipeline is faster."""
    several = {name.partition(" x")[0] for name in parts if " x" in name}  # then one of them says little
    alone = {n: p.fps.median for n, p in parts.items() if not n.startswith("pipeline") and n not in several}
    return min(alone, key=lambda name: alone[name])


def hours_of(parts: Mapping[str, Part], info: MediaInfo) -> dict[str, float]:
    """Hours for 10,000 hours of video of this kind, by whether it is written."""
    rate = float(info.average_rate or RATE)
    return {name: _HOURS * rate / parts[name].fps.median for name in parts if name.startswith("pipeline")}
