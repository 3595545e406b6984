"""Which of a model's classes are redacted: names as people write them, and renaming by the user."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import get_args

from trt_anon.build.inspect import Seen
from trt_anon.build.match import Match
from trt_anon.build.rules_anchored import DEFAULT_CLASSES
from trt_anon.config import ClassName
from trt_anon.errors import UsageError

REDACTED: tuple[str, ...] = get_args(ClassName)

_SPELLINGS = {
    **dict.fromkeys(("face", "faces", "human_face"), "face"),
    **dict.fromkeys(
        ("license_plate", "licence_plate", "license_plates", "licence_plates", "plate", "plates", "number_plate",
         "numberplate", "licenseplate", "licenceplate", "license", "licence", "vehicle_registration_plate"),
        "license_plate",
    ),
}  # fmt: skip


def choose_classes(
    match: Match, seen: Seen, named: Sequence[str], redact_as: Mapping[str, str], where: str
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The names of a recipe's classes, in the model's numbering, and what was assumed about them.

    Names come from the user, else from the file, else from the family's purpose. Raises UsageError where there are
    none, or other ones than the model has, or where none is redacted.
    """
    notes: list[str] = []
    names = tuple(named) or seen.class_names
    if not names and match.family in DEFAULT_CLASSES and match.classes in (None, 1):
        names = (DEFAULT_CLASSES[match.family],)
    if not names and match.classes is not None:
        names = tuple(f"class_{number}" for number in range(match.classes))
    if not names:
        raise UsageError(f"{where}: its outputs do not show how many classes it knows; name them all with --classes")
    if match.classes not in (None, len(names)):
        raise UsageError(f"{where}: {len(names)} classes are named, but as {match.family} it knows {match.classes}")
    chosen = []
    for name in names:
        usual = _SPELLINGS.get(name.strip().lower().replace(" ", "_").replace("-", "_"), name)
        if usual != name:
            notes.append(f"class {name!r} is redacted as {usual!r}")
        chosen.append(usual)
    for key, kind in redact_as.items():
        target = _SPELLINGS.get(kind.strip().lower().replace("-", "_"))
        if target is None:
            raise UsageError(f"--redact-as {key}={kind}: only {' and '.join(REDACTED)} are redacted")
        places = [i for i, name in enumerate(names) if name == key] or [i for i in range(len(names)) if str(i) == key]
        if not places:
            raise UsageError(f"--redact-as {key}={kind}: it has no class {key!r}; it has {_shown(names)}")
        for place in places:
            chosen[place] = target
    if not set(chosen) & set(REDACTED):
        raise UsageError(
            f"{where}: none of its classes is redacted: {_shown(names)}. Say which are, by name or number, for example "
            f"--redact-as {names[0]}=face, or name them all with --classes"
        )
    return tuple(chosen), tuple(notes)


def redacted(classes: Sequence[str]) -> list[tuple[str, int]]:
    """How many of the classes are redacted as what."""
    counts = Counter(classes)
    return [(kind, counts[kind]) for kind in REDACTED if counts[kind]]


def _shown(names: Sequence[str]) -> str:
    listed = ", ".join(f"{number} {name}" for number, name in enumerate(names[:12]))
    return f"{listed}, ... ({len(names)} in all)" if len(names) > 12 else listed
