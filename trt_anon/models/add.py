"""Adding a detector from an ONNX file: recognise it, try it out, and only then write its recipe."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from trt_anon.build.inspect import Seen, inspect_model
from trt_anon.build.load import read_model
from trt_anon.build.match import Match
from trt_anon.build.recognise import recognise
from trt_anon.config import Scale, validated
from trt_anon.detect.base import Family
from trt_anon.detect.families import get_family
from trt_anon.errors import ModelError, UsageError
from trt_anon.files import write_atomically
from trt_anon.models.class_names import choose_classes, redacted
from trt_anon.models.recipe import InputOverrides, Recipe
from trt_anon.models.registry import Registry
from trt_anon.models.try_out import try_out
from trt_anon.models.write import recipe_toml

UNKNOWN_LICENCE = "LicenseRef-unknown"
THRESHOLD = 0.3
LONGEST_SIDE_PX = 1920


@dataclass(frozen=True)
class Wish:
    """What the user says about the file; whatever is None or empty is found out or taken from the family.

    classes: names in the model's numbering. redact_as: of a class, by name or number, whether it is redacted as `face`
    or `license_plate`. options, input: fields of the family and of its input. free_size: let pictures of any size in,
    though the file fixes one. copy: keep a copy of the file, in the models folder or in `output`. output: a folder for
    recipe and model; None is the user's own, where detectors go by name.
    """

    name: str | None = None
    family: str | None = None
    classes: tuple[str, ...] = ()
    redact_as: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, object] = field(default_factory=dict)
    input: Mapping[str, object] = field(default_factory=dict)
    threshold: float | None = None
    licence: str | None = None
    free_size: bool = False
    copy: bool = True
    output: Path | None = None


@dataclass(frozen=True)
class Added:
    """A detector that was added: its recipe, where that and the model lie, what was seen, and what was assumed."""

    recipe: Recipe
    recipe_path: Path
    model_path: Path
    seen: Seen
    notes: tuple[str, ...]


def add_model(file: Path, wish: Wish, registry: Registry) -> Added:
    """Recognise, check and add an ONNX detector.

    Raises UsageError where the user has to say more or the name is taken, and ModelError for a file that is no
    detector, that cannot be run safely, or whose outputs are not those of its family. Nothing is written then.
    """
    data = read_model(file)
    name = wish.name or re.sub(r"[^a-z0-9_.-]+", "-", file.stem.lower()).strip("-_.") or "detector"
    folder = wish.output or registry.user_recipes_dir
    recipe_path = folder / f"{name}.toml"
    if name in registry.names() or recipe_path.exists():
        raise UsageError(f"a detector named {name!r} is there already; choose another with --name")
    digest = hashlib.sha256(data).hexdigest()
    model_path = _place(file, f"{name}-{digest[:12]}.onnx", wish, registry)

    seen = inspect_model(data, str(file), _size_given(wish))
    match = recognise(seen, str(file), _count(wish, seen), wish.family)
    if lacking := [f"--option {key}=... ({why})" for key, why in match.missing.items() if key not in wish.options]:
        raise UsageError(f"{file}: is {match.family}; pass {' and '.join(lacking)}. {seen.describe()}")
    classes, class_notes = choose_classes(match, seen, wish.classes, wish.redact_as, str(file))
    values: dict[str, object] = {
        "name": name,
        "description": f"{match.family}, from the file {file.name}",
        "sha256": digest,
        "size_bytes": len(data),
        "licence": _licence(wish, seen),
        "source": {"kind": "file", "path": model_path.relative_to(_base(wish, registry)).as_posix()},
        "family": match.family,
        "classes": classes,
        "threshold": THRESHOLD if wish.threshold is None else wish.threshold,
        "family_options": _plain({**match.options, **wish.options}),
    }
    family, overrides, scales = _input(values, match, seen, wish)
    values["scales"] = [scale.model_dump(exclude_none=True) for scale in scales]
    if overrides:
        values["input"] = _plain(overrides)
    recipe, batch_note = _tried(validated(Recipe, values, name), family, data, registry)
    notes = (*match.notes, *class_notes, *batch_note, *try_out(recipe, family, data, registry, seen))

    text = recipe_toml(recipe).encode()
    with _removed_on_failure(model_path if wish.copy and not model_path.exists() else None):
        if wish.copy:
            write_atomically(model_path, data)
        write_atomically(recipe_path, text)
    return Added(recipe, recipe_path, model_path, seen, notes)


def _base(wish: Wish, registry: Registry) -> Path:
    return wish.output or registry.models_dir


def _place(file: Path, copied: str, wish: Wish, registry: Registry) -> Path:
    """Where the model lies in the end."""
    base = _base(wish, registry)
    if wish.copy:
        return base / copied
    try:
        return base / file.resolve().relative_to(base.resolve())
    except ValueError:
        raise UsageError(
            f"--no-copy: {file} must lie in {base}, since recipes name files relative to their folder; give its folder "
            f"as --output, or let it be copied"
        ) from None


def _size_given(wish: Wish) -> tuple[int, int] | None:
    size = validated(InputOverrides, dict(wish.input), "--input").size_px
    return None if size is None else (size[1], size[0])


def _count(wish: Wish, seen: Seen) -> int | None:
    if wish.classes:
        return len(wish.classes)
    return len(seen.class_names) if seen.class_names else None


def _licence(wish: Wish, seen: Seen) -> dict[str, str]:
    note = f"The file says: {seen.licence}" if seen.licence else ""
    spdx = wish.licence or UNKNOWN_LICENCE
    if not wish.licence and seen.licence and (stated := re.match(r"(A?GPL-3\.0|MIT|Apache-2\.0)\b", seen.licence)):
        spdx = stated[1]
    return {"spdx": spdx, "note": note}


def _plain(values: Mapping[str, object]) -> dict[str, object]:
    """Tuples as lists, as TOML has them."""

    def listed(value: object) -> object:
        return [listed(item) for item in value] if isinstance(value, list | tuple) else value

    return {key: listed(value) for key, value in values.items()}


def _input(
    values: Mapping[str, object], match: Match, seen: Seen, wish: Wish
) -> tuple[Family, dict[str, object], tuple[Scale, ...]]:
    """The family as it will read the model, its input's changes, and the passes over a picture."""
    classes, options = values["classes"], values["family_options"]
    assert isinstance(classes, tuple)
    assert isinstance(options, dict)
    usual = get_family(match.family, options, classes=len(classes)).input_spec
    overrides: dict[str, object] = {}
    if seen.input.dtype == "uint8" and (any(usual.mean) or set(usual.scale) != {1.0}):
        overrides |= {"mean": (0.0, 0.0, 0.0), "scale": (1.0, 1.0, 1.0)}  # what it wants done, its graph does
    if wish.free_size and (usual.size_px or "size_px" in wish.input):
        raise UsageError(f"--free-size: {match.family} takes pictures of one size; give it by --input size_px=W,H")
    if not wish.free_size and seen.input.size_px not in (None, usual.size_px):
        overrides["size_px"] = seen.input.size_px
    overrides |= wish.input
    family = get_family(match.family, options, overrides, classes=len(classes))
    if family.input_spec.size_px is not None:
        return family, overrides, (Scale(),)
    if seen.image_size_px is not None and seen.input.size_px is None:
        side = max(32, *seen.image_size_px)
        return family, overrides, (Scale(min_long_side_px=side, max_long_side_px=side),)
    return family, overrides, (Scale(max_long_side_px=LONGEST_SIDE_PX),)


def _tried(recipe: Recipe, family: Family, data: bytes, registry: Registry) -> tuple[Recipe, tuple[str, ...]]:
    """The recipe as its graph can be used: for any batch, or one picture at a time, and why."""
    try:
        registry.try_out(recipe, data, family.input_spec)
    except ModelError as free:
        single = recipe.model_copy(update={"batch": "one"})
        try:
            registry.try_out(single, data, family.input_spec)
        except ModelError as error:
            raise ModelError(f"{free}; and one picture at a time: {error}") from error
        return single, (f"it is run one picture at a time, as it is: {free}",)
    return recipe, ()


@contextlib.contextmanager
def _removed_on_failure(path: Path | None) -> Iterator[None]:
    try:
        yield
    except BaseException:
        if path is not None:
            path.unlink(missing_ok=True)
        raise


def summary(added: Added) -> list[tuple[str, str]]:
    """What was recognised and assumed, as (label, text) for people to read."""
    recipe, source = added.recipe, added.seen.input
    spec = dataclasses.replace(
        get_family(recipe.family, recipe.family_options, classes=len(recipe.classes)).input_spec,
        **(recipe.input.given() if recipe.input else {}),
    )
    size = f"{spec.size_px[0]}x{spec.size_px[1]}" if spec.size_px else f"any size, in multiples of {spec.stride_px}"
    found = ", ".join(f"{kind} ({count} of {len(recipe.classes)} classes)" for kind, count in redacted(recipe.classes))
    channels = f"{spec.channels.upper()}, (code - {_short(spec.mean)}) * {_short(spec.scale)}"
    return [
        ("family", recipe.family),
        ("outputs", ", ".join(f"{name} {array.shape}" for name, array in added.seen.outputs.items())),
        ("input", f"{size}, {spec.fit}, {source.dtype} {source.layout.upper()}; {channels}"),
        ("options", ", ".join(f"{key}={value}" for key, value in recipe.family_options.items()) or "as usual"),
        ("redacts", found),
        ("threshold", str(recipe.threshold)),
        *(("note", note) for note in added.notes),
        ("model", str(added.model_path)),
        ("recipe", str(added.recipe_path)),
    ]


def _short(values: tuple[float, ...]) -> str:
    texts = [f"{value:.6g}" for value in values]
    return texts[0] if len(set(texts)) == 1 else f"({', '.join(texts)})"
