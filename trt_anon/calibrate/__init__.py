"""Calibrate detectors to INT8 so that their recall holds."""

from trt_anon.calibrate.draft import Draft, draft
from trt_anon.calibrate.report import advice
from trt_anon.calibrate.run import Outcome, calibrate, check, choose
from trt_anon.calibrate.settings import CalibrateConfig

__all__ = ["CalibrateConfig", "Draft", "Outcome", "advice", "calibrate", "check", "choose", "draft"]
