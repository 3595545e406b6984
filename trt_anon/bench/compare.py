"""Two results side by side, case by case and part by part, and what about them is not like for like."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from trt_anon.bench.result import BenchResult, Case
from trt_anon.metrics.speed import Spread

_COUNTED = ("cpu", "cores", "cpu_features", "memory_gib", "python", "system")
_NOT_SETTINGS = {"seconds", "stages", "encode"}
"""Settings that change how much is measured, not what."""


@dataclass(frozen=True, slots=True)
class Pair:
    """One part of one case in both results: frames per second, and how many times the second is the first's.

    clear: whether the quartiles do not overlap, so that the difference is more than noise of one run.
    """

    case: str
    part: str
    first: Spread
    second: Spread
    ratio: float
    clear: bool


@dataclass(frozen=True, slots=True)
class Comparison:
    """pairs: what both have. differences: what else differs, by name, (first, second). unpaired: what one has alone."""

    pairs: tuple[Pair, ...]
    differences: dict[str, tuple[Any, Any]]
    unpaired: tuple[str, ...]

    @property
    def like_for_like(self) -> bool:
        """Whether nothing but the code differs."""
        return not self.differences


def compare(first: BenchResult, second: BenchResult) -> Comparison:
    """Pair the cases of two results by what was measured: size, faces, batch, input."""
    ones, others = ({_key(case): case for case in result.cases} for result in (first, second))
    pairs: list[Pair] = []
    unpaired = [f"only in the first: {ones[key].name}, batch {ones[key].batch}" for key in ones if key not in others]
    unpaired += [f"only in the second: {others[k].name}, batch {others[k].batch}" for k in others if k not in ones]
    differences = _differences(first, second)
    for key, case in ones.items():
        if key not in others:
            continue
        other = others[key]
        if case.input_sha256 != other.input_sha256:
            differences[f"input of {case.name}"] = (case.input_sha256[:12], other.input_sha256[:12])
        if abs(case.found_per_frame - other.found_per_frame) > 0.05 * max(case.found_per_frame, 1):
            differences[f"objects per frame of {case.name}"] = (case.found_per_frame, other.found_per_frame)
        pairs += [
            Pair(
                case.name,
                part,
                a.fps,
                b.fps,
                b.fps.median / a.fps.median,
                a.fps.high < b.fps.low or b.fps.high < a.fps.low,
            )
            for part, a in case.parts.items()
            if (b := other.parts.get(part)) is not None
        ]
        alone = [*(set(case.parts) - set(other.parts)), *(set(other.parts) - set(case.parts))]
        unpaired += [f"only in one: {part} of {case.name}" for part in sorted(alone)]
    return Comparison(tuple(pairs), differences, tuple(unpaired))


def _key(case: Case) -> tuple[object, ...]:
    return (
        case.width_px,
        case.height_px,
        case.faces,
        case.batch,
        case.frames,
        None if case.faces is not None else case.input_sha256,
    )


def _differences(first: BenchResult, second: BenchResult) -> dict[str, tuple[Any, Any]]:
    found: dict[str, tuple[Any, Any]] = {}

    def note(where: str, a: Mapping[str, Any], b: Mapping[str, Any], names: Iterable[str]) -> None:
        for name in names:
            if a.get(name) != b.get(name):
                found[f"{where}{name}"] = (a.get(name), b.get(name))

    note("", first.machine, second.machine, _COUNTED)
    packages = [{p["name"]: p["version"] for p in r.machine.get("packages", ())} for r in (first, second)]
    note("package ", packages[0], packages[1], dict.fromkeys([*packages[0], *packages[1]]))
    gpus = [r.conditions.get("gpu") or {} for r in (first, second)]
    note("GPU ", gpus[0], gpus[1], ("name", "driver", "max_sm_mhz", "max_memory_mhz", "power_limit_watts"))
    note("setting ", first.settings, second.settings, ("device",))
    for section in dict.fromkeys([*first.configuration, *second.configuration]):
        a, b = (r.configuration.get(section, {}) for r in (first, second))
        note(f"{section}.", a, b, dict.fromkeys([*a, *b]))
    return found
