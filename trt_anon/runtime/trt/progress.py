"""How far a build is, from the phases within phases that TensorRT reports."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

Progress = Callable[[float, str], None]
"""Told the share that is done, 0 to 1, and the phase under way; may raise to stop the build."""


@dataclass(slots=True)
class _Phase:
    parent: str | None
    steps: int
    done: int = 0


class PhaseTree:
    """Adds up nested phases to one share that never falls."""

    def __init__(self) -> None:
        self._phases: dict[str, _Phase] = {}
        self._highest = 0.0

    def start(self, name: str, parent: str | None, steps: int) -> float:
        """A phase of so many steps begins, within the current step of its parent; the share done so far."""
        self._phases[name] = _Phase(parent, max(int(steps), 1))
        return self._share(name)

    def step(self, name: str, index: int) -> float:
        """Step `index`, from 0, of a phase is done; the share done so far."""
        phase = self._phases.get(name)
        if phase is not None:
            phase.done = min(int(index) + 1, phase.steps)
        return self._share(name)

    def finish(self, name: str) -> float:
        """A phase is over; the share done so far."""
        share = self.step(name, self._phases[name].steps - 1) if name in self._phases else self._highest
        self._phases.pop(name, None)
        return share

    def _share(self, name: str) -> float:
        """Where the innermost phase stands, carried outwards: each is one step of the phase around it."""
        share, current = 0.0, self._phases.get(name)
        inner = 0.0
        for _ in range(len(self._phases) + 1):  # a phase that names itself as its parent ends it too
            if current is None:
                break
            share = min((current.done + inner) / current.steps, 1.0)
            inner = min(share, 1.0)
            current = self._phases.get(current.parent) if current.parent else None
        self._highest = max(self._highest, share)
        return self._highest
