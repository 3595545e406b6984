"""Parameters of families and of their input, as recipes give them: checked against the fields of a dataclass."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any, TypeVar, get_type_hints

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from trt_anon.detect.base import Candidates, Family
from trt_anon.errors import ConfigError
from trt_anon.types import InputSpec

AnyFamily = TypeVar("AnyFamily", bound=Family)


def option_names(family: Family) -> tuple[str, ...]:
    """The options that the family takes: the fields of its dataclass but `name`; none for a family without fields."""
    kind: type = type(family)
    if not dataclasses.is_dataclass(kind):
        return ()
    return tuple(field.name for field in dataclasses.fields(kind) if field.init and field.name != "name")


def with_options(family: AnyFamily, options: Mapping[str, object]) -> AnyFamily:
    """The family with these options; lists stand for tuples, as in TOML.

    Raises ConfigError for an option that the family does not have, or a value of another type or shape.
    """
    if not options:
        return family
    values = _validated(type(family), option_names(family), options, f"family {family.name!r}")
    replaced: AnyFamily = dataclasses.replace(family, **values)  # type: ignore[type-var]
    return replaced


def with_input(family: Family, overrides: Mapping[str, object]) -> Family:
    """The family with fields of its `InputSpec` replaced; raises ConfigError where one is unknown or wrong."""
    if not overrides:
        return family
    what = f"input of family {family.name!r}"
    names = tuple(field.name for field in dataclasses.fields(InputSpec))
    spec = dataclasses.replace(family.input_spec, **_validated(InputSpec, names, overrides, what))
    if spec.stride_px < 1 or spec.stride_px % family.input_spec.stride_px:
        raise ConfigError(
            f"{what}: stride_px must be a multiple of {family.input_spec.stride_px}, not {spec.stride_px}"
        )
    if spec.size_px is not None and any(side < 1 for side in spec.size_px):
        raise ConfigError(f"{what}: size_px must be (width, height) of at least 1, not {spec.size_px}")
    if not all(spec.scale):
        raise ConfigError(f"{what}: a scale of 0 leaves nothing to see: {spec.scale}")
    if not 0 <= spec.pad_value <= 255:
        raise ConfigError(f"{what}: pad_value must be in 0..255, not {spec.pad_value}")
    return WithInput(family, spec)


@dataclasses.dataclass(frozen=True)
class WithInput:
    """A family whose input is prepared otherwise."""

    family: Family
    input_spec: InputSpec

    @property
    def name(self) -> str:
        """That of the family."""
        return self.family.name

    @property
    def output_names(self) -> tuple[str, ...]:
        """Those of the family."""
        return self.family.output_names

    def decode(
        self, outputs: Mapping[str, NDArray[Any]], input_hw_px: tuple[int, int], threshold: float
    ) -> list[Candidates]:
        """Candidates of each image; see `detect.base.Family.decode`."""
        return self.family.decode(outputs, input_hw_px, threshold)


def _validated(kind: type, names: tuple[str, ...], values: Mapping[str, object], what: str) -> dict[str, Any]:
    hints = get_type_hints(kind)
    checked = {}
    for name, value in values.items():
        if name not in names:
            known = f"known are {', '.join(names)}" if names else "it has none"
            raise ConfigError(f"{what}: unknown option {name!r}; {known}")
        try:
            # By way of JSON, since its strict reading takes lists for tuples, as TOML needs, and no text for numbers.
            text = json.dumps(value, allow_nan=False, default=_plain)
            checked[name] = TypeAdapter(hints[name]).validate_json(text, strict=True)
        except ValidationError as error:
            first = error.errors()[0]
            where = "".join(f"[{part}]" for part in first["loc"])
            raise ConfigError(f"{what}: option {name!r}{where}: {first['msg']}") from error
        except (TypeError, ValueError) as error:
            raise ConfigError(f"{what}: option {name!r}: {error}") from error
    return checked


def _plain(value: object) -> object:
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    raise TypeError(f"a value of type {type(value).__name__} cannot be an option")
