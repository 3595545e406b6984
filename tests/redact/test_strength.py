from __future__ import annotations

import json
import logging
import math
from pathlib import Path

import pytest

from trt_anon.api import Anonymizer
from trt_anon.config import AnonymizeConfig, RedactConfig
from trt_anon.redact.strength import SAFE_STRENGTH, weakness

RESULT = Path(__file__).parents[2] / "benchmarks" / "results" / "irreversibility.json"


@pytest.mark.parametrize("method", ["gaussian", "pixelate", "solid"])
def test_the_default_is_strong_enough(method: str) -> None:
    assert weakness(RedactConfig.model_validate({"method": method})) is None


@pytest.mark.parametrize("method", ["gaussian", "pixelate"])
def test_less_is_called_weak(method: str) -> None:
    safe = SAFE_STRENGTH[method]
    assert weakness(RedactConfig.model_validate({"method": method, "strength": safe})) is None
    assert "is weak" in (weakness(RedactConfig.model_validate({"method": method, "strength": safe * 0.9})) or "")


@pytest.mark.parametrize("method", ["gaussian", "pixelate"])
def test_what_is_called_safe_was_measured(method: str) -> None:
    measured = json.loads(RESULT.read_text())["least_safe_strength"][method]
    assert measured is not None
    if method == "gaussian":
        assert SAFE_STRENGTH[method] >= measured
    else:  # what counts is the number of cells
        assert math.floor(1 / SAFE_STRENGTH[method]) <= math.floor(1 / measured)


def test_it_is_said_once_for_everything_that_is_weak(caplog: pytest.LogCaptureFixture) -> None:
    config = AnonymizeConfig.model_validate(
        {
            "redact": {"strength": 0.1},
            "regions": {
                "regions": [{"box": [0, 0, 9, 9], "redact": {"method": "pixelate", "strength": 0.05}}],
                "treatments": {"license_plate": {"method": "solid"}},
            },
        }
    )
    with caplog.at_level(logging.WARNING), Anonymizer(config, runtime="null"):
        pass
    said = [record.getMessage() for record in caplog.records if "is weak" in record.getMessage()]
    assert [message.split()[0] for message in said] == ["gaussian", "pixelate"]
