"""The smallest set of layers to keep out of INT8 so that recall holds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from trt_anon.calibrate.recall import Verdict

Judge = Callable[[frozenset[str]], Verdict]
"""Measures the network with these layers in INT8."""

MOST_RETURNS = 6
"""So many layers are tried to be taken back into INT8 in the end."""


@dataclass(frozen=True, slots=True)
class Step:
    """One network that was measured: how many layers were in INT8, and how its recall was."""

    inside: int
    verdict: Verdict


@dataclass(slots=True)
class Found:
    """The outcome: the layers in INT8, those kept out for recall's sake, the last verdict, and all that was tried."""

    inside: frozenset[str]
    kept: tuple[str, ...]
    verdict: Verdict
    steps: list[Step] = field(default_factory=list)

    @property
    def final(self) -> Verdict:
        """The verdict on what was found; nothing in INT8 is a failure, for the reason of the first verdict."""
        return self.verdict if self.inside else self.steps[0].verdict


def smallest_exclusion(
    candidates: Sequence[str], errors: Mapping[str, float], multiply_adds: Mapping[str, int], judge: Judge
) -> Found:
    """Search by recall, most harmful layers first.

    candidates: layers that may run in INT8. errors: of each alone; the layers that cause the largest are left out
    first, by bisection for how many. Then those left out are tried again one by one, the ones that take most arithmetic
    first: an error at the outputs is not yet an object missed. Recall has to hold on average of several thresholds,
    too. Where even a single layer costs too much, none is in INT8.
    """
    order = sorted(candidates, key=lambda name: (-errors[name], name))
    steps: list[Step] = []

    def tried(left_out: frozenset[str]) -> Verdict:
        inside = frozenset(candidates) - left_out
        verdict = judge(inside)
        steps.append(Step(len(inside), verdict))
        return verdict

    verdict = tried(frozenset())
    if verdict.holds_steadily:
        return Found(frozenset(candidates), (), verdict, steps)
    low, high = 0, len(order)  # leaving out `low` fails, leaving out `high` holds
    best: Verdict | None = None
    while high - low > 1:
        middle = (low + high) // 2
        found = tried(frozenset(order[:middle]))
        if found.holds_steadily:
            high, best = middle, found
        else:
            low = middle
    if best is None:
        best = tried(frozenset(order[:high]))
    left_out = set(order[:high])
    for name in sorted(left_out, key=lambda name: (-multiply_adds.get(name, 0), name))[:MOST_RETURNS]:
        if len(left_out) == 1:
            break
        found = tried(frozenset(left_out - {name}))
        if found.holds_steadily:
            left_out.discard(name)
            best = found
    return Found(frozenset(candidates) - left_out, tuple(name for name in order if name in left_out), best, steps)
