"""A calibration from beginning to end: pictures in, ranges and the choice of layers out, recall measured."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import trt_anon
from trt_anon.build.calibration import Calibration
from trt_anon.build.quantize.fit import OnProgress
from trt_anon.build.quantize.layers import find_layers, multiply_adds
from trt_anon.build.quantize.plan import Plan, plan_of
from trt_anon.build.tidy import network_sha256
from trt_anon.calibrate.draft import EXACT, Draft, draft, nobody, with_title
from trt_anon.calibrate.pictures import set_hash
from trt_anon.calibrate.recall import Recall, RecallMeter, Verdict, compare
from trt_anon.calibrate.report import report_of
from trt_anon.calibrate.search import smallest_exclusion
from trt_anon.calibrate.settings import CalibrateConfig, Reason
from trt_anon.calibrate.subject import Subject
from trt_anon.config import RuntimeConfig
from trt_anon.errors import ModelError
from trt_anon.evaluate.dataset import LabelSet
from trt_anon.models.recipe import Recipe
from trt_anon.models.registry import Registry


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a calibration came to: the calibration, whether recall holds, and a report as plain values for JSON."""

    recipe: Recipe
    calibration: Calibration
    verdict: Verdict
    report: Mapping[str, Any]


def calibrate(
    detector: str | Path,
    data: str | Path | LabelSet,
    config: CalibrateConfig | None = None,
    *,
    labels: LabelSet | None = None,
    cache: str | Path | None = None,
    registry: Registry | None = None,
    runtime: RuntimeConfig | None = None,
    on_progress: OnProgress | None = None,
) -> Outcome:
    """Calibrate a detector to INT8 so that its recall holds.

    detector: a recipe's name or file. data: a folder of images, or labels (see `evaluate.read_labels`): a part of the
    pictures gives ranges, the others recall. labels: measure recall on these instead. Without labels what the float32
    network is sure of counts as labels. cache: ranges of a TensorRT calibration cache, instead of measured ones where
    it has them. runtime: what recall is measured with; float32 arithmetic on the CPU unless given.

    The verdict says whether recall holds; it does not only where no layer at all can run in INT8. Raises UsageError for
    pictures that are unfit to calibrate with, with the reason; InputError for those that cannot be read.
    """
    drafted = draft(
        detector, data, config, labels=labels, cache=cache, registry=registry, runtime=runtime, on_progress=on_progress
    )
    return choose(drafted, on_progress=on_progress)


def choose(
    drafted: Draft, include: Sequence[Reason] | None = None, *, on_progress: OnProgress | None = None
) -> Outcome:
    """The second half: which layers run in INT8. include: instead of that of the draft's settings."""
    subject, fitted, tell = drafted.subject, drafted.fitted, on_progress or nobody
    config = drafted.config if include is None else drafted.config.model_copy(update={"include": tuple(include)})
    where = subject.recipe.name
    plan = plan_of(subject.model, _calibration(drafted, config, {}), where=where)
    candidates = [
        name for name, layer in plan.layers.items() if layer.outside is None or layer.outside in config.include
    ]
    if not candidates:
        raise ModelError(f"{where}: has no layer that could run in INT8; see --include")
    counts = multiply_adds(subject.pinned(), find_layers(subject.model))
    judge = _judge(plan, drafted.meter, drafted.before, config, tell, where)
    found = smallest_exclusion(candidates, fitted.errors, counts, judge)
    high = {
        name: layer.outside if name not in candidates and layer.outside is not None else "recall"
        for name, layer in plan.layers.items()
        if name not in found.inside
    }
    calibration = _calibration(drafted, config, high)
    report = report_of(drafted, config, plan, calibration, found, counts)
    return Outcome(subject.recipe, calibration, found.final, report)


def check(
    detector: str | Path,
    calibration: Calibration,
    labels: LabelSet,
    config: CalibrateConfig | None = None,
    *,
    registry: Registry | None = None,
    runtime: RuntimeConfig | None = None,
    on_progress: OnProgress | None = None,
) -> Verdict:
    """Measure an existing calibration on labels: whether its recall holds against float32.

    Raises ModelError where it is of another network.
    """
    config, tell = config or CalibrateConfig(), on_progress or nobody
    subject = Subject.load(detector, registry or Registry())
    meter = RecallMeter(subject.recipe, subject.family, labels, runtime or EXACT, config.iou)
    plan = plan_of(subject.model, calibration, where=subject.recipe.name)
    inside = [name for name in calibration.weights if name not in calibration.high]
    before = meter.measure(subject.model, with_title(tell, "recall of float32"))
    after = meter.measure(plan.quantized(inside, where=subject.recipe.name), with_title(tell, "recall of INT8"))
    return compare(before, after, config)


def _judge(
    plan: Plan, meter: RecallMeter, before: Recall, config: CalibrateConfig, tell: OnProgress, where: str
) -> Callable[[frozenset[str]], Verdict]:
    tries = 0

    def judge(inside: frozenset[str]) -> Verdict:
        nonlocal tries
        tries += 1
        title = f"recall, {len(inside)} layers in INT8 (try {tries})"
        return compare(before, meter.measure(plan.quantized(inside, where=where), with_title(tell, title)), config)

    return judge


def _calibration(drafted: Draft, config: CalibrateConfig, high: Mapping[str, str]) -> Calibration:
    subject, data, fitted = drafted.subject, drafted.data, drafted.fitted
    versions = {name: importlib.metadata.version(name) for name in ("numpy", "onnx", "onnxruntime")}
    clips = fitted.plan.clips
    return Calibration(
        model_sha256=subject.recipe.sha256,
        network_sha256=network_sha256(subject.model),
        data_sha256=set_hash(data.hashes),
        images=len(data.ranges),
        settings={**config.model_dump(mode="json"), "versions": {**versions, "trt_anon": trt_anon.__version__}},
        ranges={name: _short(value) for name, value in clips.values.items()},
        largest={name: _short(value) for name, value in fitted.largest.items()},
        weights={name: tuple(map(_short, vector)) for name, vector in clips.weights.items()},
        high=dict(high),
        bias={name: tuple(map(_short, vector)) for name, vector in fitted.plan.bias.items()},
        equalized=dict(fitted.factors),
    )


def _short(value: float | np.floating[Any]) -> float:
    """Six digits: more than what is measured holds."""
    return float(f"{float(value):.6g}")
