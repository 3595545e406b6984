"""The families that recipes can name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from trt_anon.detect.base import Family
from trt_anon.detect.centerface import CenterFace
from trt_anon.detect.retinaface import RetinaFace
from trt_anon.detect.yunet import YuNet
from trt_anon.errors import ConfigError


def _plates() -> RetinaFace:
    return RetinaFace(
        name="retinaface-plate",
        output_names=("loc", "conf", "landms"),
        prior_sides_px=((24, 48), (96, 192), (384, 768)),
        landmarks=4,
    )


FAMILIES: Mapping[str, Callable[[], Family]] = MappingProxyType(
    {"yunet": YuNet, "centerface": CenterFace, "retinaface": RetinaFace, "retinaface-plate": _plates}
)
"""What makes each family, by the name that recipes use."""


def get_family(name: str) -> Family:
    """The family of that name; raises ConfigError that lists the known ones."""
    make = FAMILIES.get(name)
    if make is None:
        raise ConfigError(f"unknown detector family {name!r}; known are {', '.join(sorted(FAMILIES))}")
    return make()
