"""Measure detectors against labels: `read_labels`, then `evaluate`."""

from trt_anon.evaluate.dataset import ClassMap, LabelSet
from trt_anon.evaluate.found import read_detections
from trt_anon.evaluate.groups import Groups, read_groups
from trt_anon.evaluate.read import LabelFormat, read_labels
from trt_anon.evaluate.run import Evaluation, evaluate
from trt_anon.evaluate.settings import EvaluateConfig

__all__ = [
    "ClassMap",
    "EvaluateConfig",
    "Evaluation",
    "Groups",
    "LabelFormat",
    "LabelSet",
    "evaluate",
    "read_detections",
    "read_groups",
    "read_labels",
]
