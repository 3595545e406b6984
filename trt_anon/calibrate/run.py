"""A calibration from beginning to end: pictures in, ranges and the choice of layers out, recall measured."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import trt_anon
from trt_anon._optional import require
from trt_anon.build.calibration import Calibration
from trt_anon.build.load import parse_model, read_model
from trt_anon.build.patch import pin_input
from trt_anon.build.picture_input import picture_input
from trt_anon.build.quantize.fit import Fitted, Fitting, fit
from trt_anon.build.quantize.layers import find_layers, multiply_adds
from trt_anon.build.quantize.network import opened
from trt_anon.build.quantize.plan import Plan, plan_of
from trt_anon.build.quantize.trt_cache import read_cache
from trt_anon.build.quantized import is_quantized
from trt_anon.build.tidy import network_sha256, tidy
from trt_anon.calibrate import fitness
from trt_anon.calibrate.data import Data, read_data
from trt_anon.calibrate.pictures import Prepared, set_hash
from trt_anon.calibrate.recall import Recall, RecallMeter, Verdict, compare
from trt_anon.calibrate.search import Found, smallest_exclusion
from trt_anon.calibrate.settings import CalibrateConfig, Reason
from trt_anon.config import RuntimeConfig
from trt_anon.detect.families import get_family
from trt_anon.errors import ModelError, UsageError
from trt_anon.evaluate.dataset import LabelSet
from trt_anon.models.recipe import Recipe
from trt_anon.models.registry import Registry

if TYPE_CHECKING:
    import onnx

    from trt_anon.detect.base import Family

OnProgress = Callable[[str, int, int], None]
"""Called with what is being done, how many steps are, and how many there are."""

_FEW = 6  # pictures on which measures are tried, again and again
_CHECKED = 64  # pictures that are looked at for being fit
_FREE_SIZE_PX = (640, 384)  # at which multiply-adds are counted where the size is free
_LEAST_RECALL = 0.05
_EXACT = RuntimeConfig(device="cpu", precision="f32")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a calibration came to: the calibration, whether recall holds, and a report as plain values for JSON."""

    recipe: Recipe
    calibration: Calibration
    verdict: Verdict
    report: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Subject:
    """A detector, loaded: its recipe, and its network as the pipeline runs it, tidied."""

    recipe: Recipe
    family: Family
    model: onnx.ModelProto
    classes: tuple[str, ...]

    @classmethod
    def load(cls, detector: str | Path, registry: Registry) -> Subject:
        """Raises UsageError for a detector that finds nothing to be redacted or is quantized already; ModelMissing."""
        recipe = registry.get(detector)
        classes = tuple(name for name in ("face", "license_plate") if name in recipe.classes)
        if not classes:
            raise UsageError(f"{recipe.name}: finds neither faces nor licence plates")
        overrides = recipe.input.given() if recipe.input else None
        family = get_family(recipe.family, recipe.family_options, overrides, classes=len(recipe.classes))
        prepared = registry.prepared(recipe, family.input_spec)
        model = parse_model(read_model(prepared), recipe.name)
        if is_quantized(model):
            raise UsageError(f"{recipe.name}: is quantized already; calibrate the float32 network it was made from")
        return cls(recipe, family, tidy(model, where=recipe.name), classes)

    def prepared(self) -> Prepared:
        """Its preprocessing."""
        return Prepared(self.family, self.recipe.scales, self.model.graph.input[0].name)

    def pinned(self) -> onnx.ModelProto:
        """The network for one picture of a fixed size: its own, or 640x384."""
        source = picture_input(self.model, self.recipe.name)
        width, height = self.family.input_spec.size_px or source.size_px or _FREE_SIZE_PX
        return pin_input(self.model, 1, height, width)


@dataclass(frozen=True, slots=True)
class Draft:
    """A detector that is fitted: everything is known but which of its layers shall run in INT8."""

    subject: Subject
    data: Data
    config: CalibrateConfig
    fitted: Fitted
    meter: RecallMeter
    before: Recall


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


def draft(
    detector: str | Path,
    data: str | Path | LabelSet,
    config: CalibrateConfig | None = None,
    *,
    labels: LabelSet | None = None,
    cache: str | Path | None = None,
    registry: Registry | None = None,
    runtime: RuntimeConfig | None = None,
    on_progress: OnProgress | None = None,
) -> Draft:
    """The first half of `calibrate`: pictures are checked, the network is fitted, the recall of float32 is measured."""
    config, tell = config or CalibrateConfig(), on_progress or _nobody
    require("onnxruntime", "a calibration")
    subject = Subject.load(detector, registry or Registry())
    where = subject.recipe.name
    divided = read_data(data if isinstance(data, LabelSet) else Path(data), config, subject.classes, labels)
    prepared = subject.prepared()
    few = _checked_few(subject, prepared, divided, tell)
    given = None if cache is None else read_cache(Path(cache), subject.model)

    meter = RecallMeter(subject.recipe, subject.family, divided.judged, runtime or _EXACT, config.iou)
    if not divided.labelled:
        made = meter.pseudo_labels(subject.model, config.confident, _as(tell, "labels"))
        meter = RecallMeter(subject.recipe, subject.family, made, runtime or _EXACT, config.iou)
    before = meter.measure(subject.model, _as(tell, "recall of float32"))
    _check_recall(before, divided, where)

    fitting = Fitting(config.method, config.equalize, config.search_weights, config.correct_bias)
    total = len(divided.ranges) * len(subject.recipe.scales)
    fitted = fit(
        subject.model, lambda: prepared.feeds(divided.ranges), few, total, fitting, tell, given=given, where=where
    )
    return Draft(subject, divided, config, fitted, meter, before)


def choose(
    drafted: Draft, include: Sequence[Reason] | None = None, *, on_progress: OnProgress | None = None
) -> Outcome:
    """The second half: which layers run in INT8. include: instead of that of the draft's settings."""
    subject, fitted, tell = drafted.subject, drafted.fitted, on_progress or _nobody
    config = drafted.config if include is None else drafted.config.model_copy(update={"include": tuple(include)})
    where = subject.recipe.name
    plan = plan_of(subject.model, _calibration(subject, drafted.data, config, fitted, {}), where=where)
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
    calibration = _calibration(subject, drafted.data, config, fitted, high)
    report = _report(drafted, config, plan, calibration, found, counts)
    return Outcome(subject.recipe, calibration, _final(found), report)


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
    config, tell = config or CalibrateConfig(), on_progress or _nobody
    subject = Subject.load(detector, registry or Registry())
    meter = RecallMeter(subject.recipe, subject.family, labels, runtime or _EXACT, config.iou)
    plan = plan_of(subject.model, calibration, where=subject.recipe.name)
    inside = [name for name in calibration.weights if name not in calibration.high]
    before = meter.measure(subject.model, _as(tell, "recall of float32"))
    after = meter.measure(plan.quantized(inside, where=subject.recipe.name), _as(tell, "recall of INT8"))
    return compare(before, after, config)


def _judge(
    plan: Plan, meter: RecallMeter, before: Recall, config: CalibrateConfig, tell: OnProgress, where: str
) -> Callable[[frozenset[str]], Verdict]:
    tries = 0

    def judge(inside: frozenset[str]) -> Verdict:
        nonlocal tries
        tries += 1
        title = f"recall, {len(inside)} layers in INT8 (try {tries})"
        return compare(before, meter.measure(plan.quantized(inside, where=where), _as(tell, title)), config)

    return judge


def _final(found: Found) -> Verdict:
    """The verdict on what was found; nothing in INT8 is a failure, and its reason is the first verdict."""
    return found.verdict if found.inside else found.steps[0].verdict


def _checked_few(subject: Subject, prepared: Prepared, data: Data, tell: OnProgress) -> list[Mapping[str, Any]]:
    fitness.check_number(data.hashes)
    looked_at = data.ranges[:: max(1, len(data.ranges) // _CHECKED)][:_CHECKED]
    feeds = []
    for done, path in enumerate(looked_at):
        feeds += list(prepared.feeds([path]))[:1]
        tell("looking at pictures", done + 1, len(looked_at))
    fitness.check_pictures([feed[prepared.input_name] for feed in feeds])
    with opened(subject.model) as runner:
        fitness.check_preprocessing(feeds, runner, subject.family, subject.recipe.threshold)
    few: list[Mapping[str, Any]] = list(prepared.few(data.ranges[:48], _FEW))
    return few


def _check_recall(before: Recall, data: Data, where: str) -> None:
    found, objects = before.share()
    if not objects:
        raise UsageError(
            f"{where}: is sure of nothing in the pictures that recall is to be measured on; give labelled ones"
        )
    if data.labelled and found < _LEAST_RECALL * objects:
        raise UsageError(
            f"{where}: finds {found} of {objects} labelled objects even in float32; labels and pictures do not belong "
            "together, or the recipe's preprocessing is wrong"
        )


def _calibration(
    subject: Subject, data: Data, config: CalibrateConfig, fitted: Fitted, high: Mapping[str, str]
) -> Calibration:
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


def _report(
    drafted: Draft,
    config: CalibrateConfig,
    plan: Plan,
    calibration: Calibration,
    found: Found,
    counts: Mapping[str, int],
) -> dict[str, Any]:
    subject, data, fitted, before = drafted.subject, drafted.data, drafted.fitted, drafted.before
    every = sum(counts.values())
    own, objects = before.share()
    layers = [
        {
            "name": layer.name,
            "node": layer.node,
            "operator": layer.operator,
            "weights": list(layer.weights.shape),
            "precision": "int8" if name in found.inside else "high",
            "reason": calibration.high.get(name),
            "error_alone": fitted.errors[name],
            "multiply_adds": counts[name],
            "range": calibration.ranges[layer.data],
            "largest": calibration.largest.get(layer.data),
            "range_by": fitted.methods[layer.data],
            "bias_corrected": name in calibration.bias,
            "equalized": name in calibration.equalized,
        }
        for name, layer in plan.layers.items()
    ]
    return {
        "detector": subject.recipe.name,
        "model_sha256": subject.recipe.sha256,
        "settings": calibration.settings,
        "ranges_from": {"images": len(data.ranges), "sha256": calibration.data_sha256},
        "recall_from": {
            "images": before.images,
            "objects": objects,
            "labels": "given" if data.labelled else f"what float32 is sure of (score {config.confident:g} and more)",
            "left_out_as_in_both": data.shared,
            "classes": list(drafted.meter.labels.class_names),
        },
        "recall_float32": own / objects,
        "recall": _final(found).to_dict(),
        "int8": {
            "layers": len(found.inside),
            "of_layers": len(plan.layers),
            "share_of_multiply_adds": sum(counts[name] for name in found.inside) / every if every else None,
            "kept_for_recall": list(found.kept),
        },
        "error_of_all": fitted.reference.error(plan.quantized(found.inside)),
        "steps": [
            {"layers_in_int8": step.inside, "holds": step.verdict.holds, "points_lost": step.verdict.overall.points}
            for step in found.steps
        ],
        "layers": layers,
    }


def _as(tell: OnProgress, title: str) -> Callable[[int, int], None]:
    return lambda done, total: tell(title, done, total)


def _nobody(title: str, done: int, total: int) -> None:
    """Progress that nobody looks at."""


def advice(verdict: Verdict, report: Mapping[str, Any] | None = None) -> Sequence[str]:
    """What to try where recall does not hold."""
    tries = ["calibrate with more pictures, of the kind that the detector will see (--images)"]
    if report is not None and report["settings"]["include"]:
        tries.append("leave out --include")
    if report is not None and report["settings"]["method"] != "auto":
        tries.append("let the ranges be chosen (--method auto)")
    if verdict.overall.objects < 200:
        tries.append(f"measure on more labelled objects: {verdict.overall.objects} cannot show half a point")
    return [*tries, "use FP16 instead, or train the detector for INT8"]
