"""The figures of `temporal.py` as a page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

_INTRODUCTION = """# What tracks add, measured

Drawn by `benchmarks/temporal.py` from its result ({machine}): clips of 640x360, 150 frames each. Real faces
(facemask853) that the detector finds and covers when they stand still, 20 px and 60 px high, move on known paths over
real frames, 10 to 100 px high: entering, crossing, behind bars, blurred, shrinking, with a shaking or panning camera,
over cuts; and clips of nobody. Every method gets the same detections: default detector, default threshold.

- exposed: object-frames of which less than 75% of what is visible is covered (of objects at least 12 px high and at
  least 30% in sight);
- covered at once: of the objects that come into sight, those covered from their first such frame on;
- flicker: how often per object and minute it is uncovered for at most a second between two covered frames;
- false masks: regions per frame that are about no object.

"""
_COLUMNS = """| | exposed | covered at once | flicker | false masks | pixels redacted | IDF1 | HOTA |
|---|---|---|---|---|---|---|---|
"""


def write_page(figures: dict[str, Any], machine: str, path: Path) -> None:
    """Write `docs/tracks/measured.md` from figures as the result file has them."""
    chosen = figures["chosen"]
    text = _INTRODUCTION.format(machine=machine)
    text += f"Faces, on the {chosen['clips']} clips that the tracker's numbers were chosen on:\n\n"
    text += _methods(chosen["methods"])
    if other := figures.get("held_out"):
        text += f"\nFaces, on {other['clips']} other clips, which had no say:\n\n" + _methods(other["methods"])
    if plates := figures.get("plates"):
        text += (
            f"\nLicence plates (carplate433, which their detector was trained on) on {plates['clips']} clips of the "
            "same kinds, half as high:\n\n"
        )
        text += _methods(plates["methods"])
    text += "\nFaces by kind of clip, on the first clips:\n\n"
    text += "| clip | exposed, frame by frame | with tracks | redacted, frame by frame | with tracks |\n"
    text += "|---|---|---|---|---|\n"
    for kind, both in chosen["scenes"].items():
        a, b = both["frame by frame"], both["tracks"]
        text += (
            f"| {kind} | {100 * a['exposed_share']:.2f}% | {100 * b['exposed_share']:.2f}% | "
            f"{100 * a['redacted_share']:.2f}% | {100 * b['redacted_share']:.2f}% |\n"
        )
    text += _known(figures.get("known_counts"))
    if pets := figures.get("pets"):
        text += (
            f"\nAssociation alone, on the given detections of PETS09-S2L1 and its {pets['key_frames']} labelled key "
            f"frames\n({pets['persons']} persons, {pets['tracks']} tracks; TrackEval): HOTA {pets['HOTA']:.3f}, "
            f"IDF1 {pets['IDF1']:.3f}.\n"
        )
    if s := figures.get("speed"):
        text += (
            f"\nThe whole command on a real 768x432 clip of 1,000 frames, with tracks against without, in turn: "
            f"{s['wall_ratio']['median']:.2f} times the\ntime ({s['wall_ratio']['low']:.2f} to "
            f"{s['wall_ratio']['high']:.2f}), {s['cpu_ratio']['median']:.2f} times the processor time. Memory: "
            f"{s['peak_rss_mib_5x_frames']:.0f} MiB, without tracks {s['peak_rss_mib_off']:.0f} MiB, with a fifth "
            f"of the\nframes {s['peak_rss_mib']:.0f} MiB.\n"
        )
    path.parent.mkdir(exist_ok=True)
    path.write_text(text, encoding="utf-8")


def _methods(methods: dict[str, Any]) -> str:
    alone, text = methods["frame by frame"], _COLUMNS
    for name, f in methods.items():
        scores = [f"{f[key]:.3f}" if key in f else "" for key in ("IDF1", "HOTA")]
        ratio = f["redacted_share"] / alone["redacted_share"]
        text += (
            f"| {name} | {100 * f['exposed_share']:.2f}% | {100 * f['entering_covered_at_once']:.1f}% | "
            f"{f['flickers_per_object_minute']:.2f} | {f['false_masks_per_frame']:.2f} | "
            f"{100 * f['redacted_share']:.2f}% ({ratio:.2f} times) | {scores[0]} | {scores[1]} |\n"
        )
    return text


def _known(clips: dict[str, Any] | None) -> str:
    if not clips:
        return ""
    text = "\nReal clips whose number of faces is known, and frames with too few and too many masks:\n\n"
    text += "| clip | frames | too few, frame by frame | with tracks | too many, frame by frame | with tracks |\n"
    text += "|---|---|---|---|---|---|\n"
    for clip, both in clips.items():
        a, b = both["frame by frame"], both["tracks"]
        text += f"| {clip} | {a['frames']} | {a['too_few']} | {b['too_few']} | {a['too_many']} | {b['too_many']} |\n"
    return text
