"""The first half of a calibration: pictures are checked, the network is fitted, its recall in float32 is measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trt_anon._optional import require
from trt_anon.build.quantize.fit import Fitted, Fitting, OnProgress, fit
from trt_anon.build.quantize.network import opened
from trt_anon.build.quantize.trt_cache import read_cache
from trt_anon.calibrate import fitness
from trt_anon.calibrate.data import Data, read_data
from trt_anon.calibrate.pictures import Prepared
from trt_anon.calibrate.recall import Recall, RecallMeter
from trt_anon.calibrate.settings import CalibrateConfig
from trt_anon.calibrate.subject import Subject
from trt_anon.config import RuntimeConfig
from trt_anon.errors import UsageError
from trt_anon.evaluate.dataset import LabelSet
from trt_anon.models.registry import Registry

_FEW = 6  # pictures on which measures are tried, again and again
_CHECKED = 64  # pictures that are looked at for being fit
_LEAST_RECALL = 0.05

EXACT = RuntimeConfig(device="cpu", precision="f32")
"""What recall is measured with unless something else is asked for."""


@dataclass(frozen=True, slots=True)
class Draft:
    """A detector that is fitted: everything is known but which of its layers shall run in INT8."""

    subject: Subject
    data: Data
    config: CalibrateConfig
    fitted: Fitted
    meter: RecallMeter
    before: Recall


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
    """Do the first half; parameters and errors are those of `calibrate`."""
    config, tell = config or CalibrateConfig(), on_progress or nobody
    require("onnxruntime", "a calibration")
    subject = Subject.load(detector, registry or Registry())
    where = subject.recipe.name
    divided = read_data(data if isinstance(data, LabelSet) else Path(data), config, subject.classes, labels)
    prepared = subject.prepared()
    few = _checked_few(subject, prepared, divided, tell)
    given = None if cache is None else read_cache(Path(cache), subject.model)

    meter = RecallMeter(subject.recipe, subject.family, divided.judged, runtime or EXACT, config.iou)
    if not divided.labelled:
        made = meter.pseudo_labels(subject.model, config.confident, with_title(tell, "labels"))
        meter = RecallMeter(subject.recipe, subject.family, made, runtime or EXACT, config.iou)
    before = meter.measure(subject.model, with_title(tell, "recall of float32"))
    _check_recall(before, divided, where)

    fitting = Fitting(config.method, config.equalize, config.search_weights, config.correct_bias)
    total = len(divided.ranges) * len(subject.recipe.scales)
    fitted = fit(
        subject.model, lambda: prepared.feeds(divided.ranges), few, total, fitting, tell, given=given, where=where
    )
    return Draft(subject, divided, config, fitted, meter, before)


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


def with_title(tell: OnProgress, title: str) -> Callable[[int, int], None]:
    """Progress of something that has no title of its own."""
    return lambda done, total: tell(title, done, total)


def nobody(title: str, done: int, total: int) -> None:
    """Progress that nobody looks at."""
