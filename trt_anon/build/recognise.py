"""Which family reads a detector: every family has a rule, and where several fit, or none, the user is asked."""

from __future__ import annotations

from collections.abc import Sequence

from trt_anon.build import rules_anchored, rules_finished, rules_yolo
from trt_anon.build.inspect import Seen
from trt_anon.build.match import Match
from trt_anon.detect.families import FAMILIES
from trt_anon.errors import UsageError

RULES = (*rules_anchored.RULES, *rules_yolo.RULES, *rules_finished.RULES)
"""Every rule; together they name every family."""


def recognise(seen: Seen, where: str, classes: int | None = None, family: str | None = None) -> Match:
    """The one reading of what was seen that fits.

    classes: how many the user or the file names; readings with another count are left out. family: the user's choice;
    where no rule for it fits, its defaults are the reading, and running it shows what is wrong. Raises UsageError for
    none or several, which says what was seen and what to pass.
    """
    if family is not None and family not in FAMILIES:
        raise UsageError(f"--family {family}: there is none of that name; known are {', '.join(sorted(FAMILIES))}")
    readings = [match for rule in RULES for match in rule.find(seen)]
    fitting = [match for match in readings if classes is None or match.classes in (None, classes)]
    if family is not None:
        fitting = [match for match in fitting if match.family == family]
        if not fitting:
            return Match(family, classes, notes=("its outputs are not those that the family is known by",))
    if len(fitting) == 1:
        return fitting[0]
    if not readings:
        raise UsageError(
            f"{where}: no detector family has such outputs. {seen.describe()}. If one of them reads it all the same, "
            f"pass --family and --option: {', '.join(sorted(FAMILIES))}"
        )
    if not fitting:
        counts = _listed(readings)
        raise UsageError(f"{where}: {classes} classes are named, but its outputs fit {counts}. {seen.describe()}")
    if len({match.family for match in fitting}) == 1:
        raise UsageError(
            f"{where}: can be read in several ways as {fitting[0].family}: {_listed(fitting)}; say how many classes it "
            f"knows with --classes. {seen.describe()}"
        )
    raise UsageError(
        f"{where}: can be read as {_listed(fitting)}; say which with --family, or name its classes with --classes. "
        f"{seen.describe()}"
    )


def _listed(matches: Sequence[Match]) -> str:
    words = [m.family + (f" of {m.classes} class{'es' * (m.classes != 1)}" if m.classes else "") for m in matches]
    return " or ".join(dict.fromkeys(words))
