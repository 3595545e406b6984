"""How weak a redaction may be before faces have been recognised through it: measured, see docs/strength.md."""

from __future__ import annotations

from collections.abc import Mapping

from trt_anon.config import RedactConfig

SAFE_STRENGTH: Mapping[str, float] = {"gaussian": 0.2, "pixelate": 0.26, "solid": 0.0}
"""From this strength on no face was found again in its redacted picture more often than by chance, whatever its size
(`benchmarks/irreversibility.py`). Solid fill leaves nothing to find. Cells: at most 3 on each side of an object."""


def weakness(config: RedactConfig) -> str | None:
    """What to tell whoever chose this redaction; None where it is strong enough."""
    safe = SAFE_STRENGTH[config.method]
    if config.detail_share >= safe:
        return None
    return (
        f"{config.method} of strength {config.detail_share:g} is weak: faces were recognised again below {safe:g}; "
        "choose more, or solid"
    )
