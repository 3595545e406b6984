"""Draws what `irreversibility.py` measured: curves, a table, and a free portrait under each redaction."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np

from trt_anon import Anonymizer
from trt_anon.config import DEFAULT_STRENGTH

mpl.use("Agg")
import matplotlib.pyplot as plt
from irreversibility import ATTACKS, SETTINGS, SIZES_PX, key
from PIL import Image

SHOWN = (
    ("gaussian", 0.05),
    ("gaussian", 0.1),
    ("gaussian", 0.25),
    ("pixelate", 1 / 8),
    ("pixelate", 1 / 3),
    ("solid", 1.0),
)


def write(known: dict[str, Any], folder: Path) -> None:
    """`curves.png`, `strengths.jpg` and `table.md`."""
    folder.mkdir(parents=True, exist_ok=True)
    _curves(known, folder / "curves.png")
    _pictures(folder / "strengths.jpg")
    (folder / "table.md").write_text(_table(known))


def _curves(known: dict[str, Any], path: Path) -> None:
    figure, axes = plt.subplots(2, len(ATTACKS), figsize=(14, 6.2), sharey=True, layout="constrained")
    for row, method in zip(axes, ("gaussian", "pixelate"), strict=True):
        strengths = [strength for name, strength in SETTINGS if name == method]
        for axis, attack in zip(row, ATTACKS, strict=True):
            for size in SIZES_PX:
                shares = [known["cells"][key(method, s, size)][attack]["share"] for s in strengths]
                axis.plot(strengths, shares, marker="o", label=f"{size} px")
            axis.axhline(1 / known["people"], color="grey", linestyle=":", label="chance")
            axis.axvline(DEFAULT_STRENGTH[method], color="black", linewidth=0.6, label="default")
            axis.set(title=f"{method}, {attack}", ylim=(-0.03, 1.03), xlabel="strength")
            axis.grid(alpha=0.3)
        row[0].set_ylabel("rank-1 re-identification")
    axes[0, -1].legend(title="face", fontsize=8)
    figure.savefig(path, dpi=80)
    plt.close(figure)


def _pictures(path: Path) -> None:
    """NASA's portrait of Eileen Collins, in the public domain, as each redaction leaves it."""
    from skimage.data import astronaut

    portrait = np.ascontiguousarray(astronaut()[20:260, 110:350])
    made = [portrait]
    for method, strength in SHOWN:
        with Anonymizer(method=method, strength=strength, threshold=0.3) as anonymizer:
            made.append(anonymizer.redact([portrait], anonymizer.detect([portrait]))[0])
    Image.fromarray(np.concatenate(made, axis=1)).save(path, quality=88)


def _table(known: dict[str, Any]) -> str:
    head = "| redaction | strength | " + " | ".join(f"{attack}" for attack in ATTACKS) + " |\n"
    lines = [head, "|---|---|" + "---|" * len(ATTACKS) + "\n"]
    for method, strength in SETTINGS:
        cells = [[known["cells"][key(method, strength, size)][attack] for size in SIZES_PX] for attack in ATTACKS]
        worst = [max(sizes, key=lambda cell: cell["share"]) for sizes in cells]
        marked = [any(cell["above_chance"] for cell in sizes) for sizes in cells]
        shown = [f"**{w['share']:.0%}**" if m else f"{w['share']:.0%}" for w, m in zip(worst, marked, strict=True)]
        size = "" if method == "solid" else f"{strength:.2f}"
        lines.append(f"| {method} | {size} | " + " | ".join(shown) + " |\n")
    clear = known["clear"]
    lines.append(
        f"\n{known['people']} people, so chance is {1 / known['people']:.1%}; the worst of faces of "
        f"{', '.join(map(str, SIZES_PX))} px; bold: above chance with 95% confidence at some size. In clear the same "
        "recogniser has rank-1 of "
        + ", ".join(f"{clear[str(s)]['other_picture']['share']:.0%} ({s} px)" for s in SIZES_PX)
        + f" on {known['further_pictures']} other photographs of people in the gallery.\n"
    )
    return "".join(lines)
