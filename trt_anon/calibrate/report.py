"""The report of a calibration: layers, ranges, errors, precisions, recall; and what to try where that does not hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from trt_anon.build.calibration import Calibration
from trt_anon.build.quantize.plan import Plan
from trt_anon.calibrate.recall import Verdict
from trt_anon.calibrate.search import Found
from trt_anon.calibrate.settings import CalibrateConfig

if TYPE_CHECKING:
    from trt_anon.calibrate.draft import Draft


def report_of(
    drafted: Draft,
    config: CalibrateConfig,
    plan: Plan,
    calibration: Calibration,
    found: Found,
    counts: Mapping[str, int],
) -> dict[str, Any]:
    """All that a calibration found out, as plain values for JSON, without a name of a picture."""
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
        "recall": found.final.to_dict(),
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
