"""Calibrate detectors to INT8 so that their recall holds."""

from trt_anon.calibrate.run import Draft, Outcome, advice, calibrate, check, choose, draft
from trt_anon.calibrate.settings import CalibrateConfig

__all__ = ["CalibrateConfig", "Draft", "Outcome", "advice", "calibrate", "check", "choose", "draft"]
