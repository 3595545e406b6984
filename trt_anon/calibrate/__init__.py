"""Calibrate detectors to INT8 so that their recall holds."""

from trt_anon.calibrate.run import Outcome, advice, calibrate, check
from trt_anon.calibrate.settings import CalibrateConfig

__all__ = ["CalibrateConfig", "Outcome", "advice", "calibrate", "check"]
