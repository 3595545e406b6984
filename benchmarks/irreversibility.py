r"""How strong a redaction must be: rank-1 re-identification of redacted faces, for every strength, size and attack.

    python benchmarks/irreversibility.py --data ../shared --result benchmarks/results/irreversibility.json \
        --docs docs/irreversibility

The recogniser knows every person in clear: the gallery holds one picture of each. Three attacks are given the *same*
photograph, redacted, which is more than an attacker has, and everything that the recogniser looks at is redacted:

- aligned: the redacted face, aligned by the landmarks of the clear one;
- inverted: before that the redaction is undone as well as its known parameters allow (Wiener deconvolution with the
  very kernel; cells enlarged as the pixels of a small picture); the best of several guesses counts for the attacker;
- averaged: the mean of 16 redactions of the face as it moved below a region standing still, or its inversion, whichever
  is better;
- alike: *another* photograph of the person against a gallery that was redacted the same way.

A cell of the table is above chance where the lower bound (Clopper-Pearson, 95%, one-sided) of its rank-1 is above one
in the number of people; for `alike`, where it beats 95% of random orders of the same answers.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import tempfile
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps
from reid import Face, Picture, Recogniser, against_alike, averaged, inverted, rank_1, redacted, scaled, summary

from trt_anon.config import RedactConfig

SIZES_PX = (16, 48, 150, 300)
SETTINGS: tuple[tuple[str, float], ...] = (
    *(("gaussian", s) for s in (0.05, 0.1, 0.15, 0.2, 0.25, 0.3)),
    *(("pixelate", s) for s in (1 / 12, 1 / 8, 1 / 6, 0.2, 0.25, 1 / 3)),
    ("solid", 1.0),
)
ATTACKS = ("aligned", "inverted", "averaged", "alike")
IDENTIFYING = ATTACKS[:3]  # the last finds what a picture has in common with others: its colours, not a face
COPIES = 16
SAME_PERSON = 0.6  # dlib's distance below which two pictures are of one person


def load(path: Path) -> Picture:
    return np.asarray(ImageOps.exif_transpose(Image.open(path)).convert("RGB"))


def labelled_people(folder: Path) -> dict[str, int]:
    """Person by file name, from the pairs that are the same."""
    parent: dict[str, str] = {}

    def root(name: str) -> str:
        parent.setdefault(name, name)
        while parent[name] != name:
            name = parent[name]
        return name

    with (folder / "master.csv").open() as file:
        for row in csv.DictReader(file):
            one, other = root(row["file_x"]), root(row["file_y"])
            if row["Decision"] == "Yes":
                parent[one] = other
    roots = sorted({root(name) for name in parent})
    return {name: roots.index(root(name)) for name in sorted(parent)}


def collect(data: Path, people: int, recogniser: Recogniser) -> tuple[list[tuple[Face, int]], list[tuple[Face, int]]]:
    """(gallery and same-picture probes: one face a person; further pictures of some of them), as large as they come."""
    from trt_anon import Anonymizer

    pairs = data / "data" / "pairs" / "deepface"
    known = labelled_people(pairs)
    files = [(pairs / name, person) for name, person in known.items()]
    files += [(path, None) for path in sorted((data / "data" / "faces" / "utk600").rglob("*.jpg"))]  # type: ignore[misc]
    first: list[tuple[Face, int]] = []
    more: list[tuple[Face, int]] = []
    described: list[np.ndarray] = []
    people_of: dict[Any, int] = {}
    with Anonymizer(detectors=("yunet",), threshold=0.6) as finder:
        for path, label in files:
            if len(first) >= people:
                break
            picture = load(path)
            if label is None:
                picture = np.pad(picture, ((80, 80), (80, 80), (0, 0)), mode="edge")
            (found,) = finder.detect([picture])
            if len(found) != 1 and not (label is not None and len(found)):
                continue
            box = tuple(found.boxes_xyxy_px[0].tolist())
            if max(box[2] - box[0], box[3] - box[1]) < 90:
                continue
            marks = recogniser.landmarks(picture, box)  # type: ignore[arg-type]
            face = scaled(picture, box, marks, min(max(box[2] - box[0], box[3] - box[1]), 256))  # type: ignore[arg-type]
            (descriptor,) = recogniser.describe([recogniser.chip(face.picture, face.landmarks)])
            if label is not None and label in people_of:
                more.append((face, people_of[label]))
                continue
            if any(np.linalg.norm(descriptor - other) < SAME_PERSON for other in described):
                continue  # too like one who is in the gallery already: a hit on either would mean nothing
            people_of[label if label is not None else path] = len(first)
            described.append(descriptor)
            first.append((face, len(first)))
    return first, more


Faces = tuple[list[tuple[Face, int]], list[tuple[Face, int]]]


def write_faces(faces: Faces, path: Path) -> None:
    """The faces in one file, for a machine that has more processors and not the data."""
    values: dict[str, Any] = {}
    for kind, group in zip(("first", "more"), faces, strict=True):
        for number, (face, person) in enumerate(group):
            code = io.BytesIO()
            Image.fromarray(face.picture).save(code, "JPEG", quality=97)
            values[f"{kind}_{number:03}_picture"] = np.frombuffer(code.getvalue(), np.uint8)
            values[f"{kind}_{number:03}_marks"] = np.array([*face.box, *face.landmarks.ravel(), person])
    np.savez(path, **values)


def read_faces(path: Path) -> Faces:
    with np.load(path) as values:
        groups: dict[str, list[tuple[Face, int]]] = {"first": [], "more": []}
        for name in sorted(n for n in values.files if n.endswith("_marks")):
            marks = values[name]
            picture = np.asarray(Image.open(io.BytesIO(values[name.replace("_marks", "_picture")].tobytes())))
            face = Face(picture, tuple(marks[:4].tolist()), marks[4:-1].reshape(-1, 2))
            groups[name.split("_")[0]].append((face, int(marks[-1])))
    return groups["first"], groups["more"]


class Measurement:
    def __init__(self, faces: Faces) -> None:
        self.recogniser = Recogniser()
        self.first, self.more = faces
        self.people = len(self.first)
        self.gallery = self.describe([face for face, _ in self.first])
        self.truth = np.array([person for _, person in self.first])
        self.other_truth = np.array([person for _, person in self.more])

    def describe(self, faces: list[Face], pictures: list[Picture] | None = None) -> np.ndarray:
        shown = pictures if pictures is not None else [face.picture for face in faces]
        chips = [self.recogniser.chip(p, f.landmarks) for p, f in zip(shown, faces, strict=True)]
        return np.concatenate([self.recogniser.describe(chips[n : n + 16]) for n in range(0, len(chips), 16)])

    def best(self, faces: list[Face], guesses: list[list[Picture]]) -> int:
        """Hits of the best of the attacker's guesses, each tried on everybody."""
        return max(
            rank_1(self.describe(faces, [guess[n] for guess in guesses]), self.gallery, self.truth)
            for n in range(len(guesses[0]))
        )

    def cell(self, method: str, strength: float, size_px: int) -> dict[str, Any]:
        config = RedactConfig(method=method, strength=strength)  # type: ignore[arg-type]
        faces = [scaled(f.picture, f.box, f.landmarks, size_px) for f, _ in self.first]
        others = [scaled(f.picture, f.box, f.landmarks, size_px) for f, _ in self.more]
        hidden = [redacted(face, config) for face in faces]
        aligned = self.describe(faces, hidden)
        tries = len(faces)
        hits = {"aligned": rank_1(aligned, self.gallery, self.truth)}
        if method == "solid":
            hits |= {"inverted": hits["aligned"], "averaged": hits["aligned"]}
        else:
            hits["inverted"] = self.best(faces, [inverted(p, f, config) for p, f in zip(hidden, faces, strict=True)])
            rng = np.random.default_rng(7)
            means = [averaged(face, config, COPIES, rng) for face in faces]
            guesses = [[m, *inverted(m, f, config)[:1]] for m, f in zip(means, faces, strict=True)]
            hits["averaged"] = self.best(faces, guesses)
        made = {attack: summary(count, tries, self.people) for attack, count in hits.items()}
        return {**made, "alike": self.alike(others, config, aligned)}

    def alike(self, others: list[Face], config: RedactConfig, gallery: np.ndarray) -> dict[str, Any]:
        return against_alike(self.describe(others, [redacted(f, config) for f in others]), gallery, self.other_truth)

    def clear(self, size_px: int) -> dict[str, Any]:
        """The recogniser's own rank-1 on faces of this size that nobody redacted."""
        others = [scaled(f.picture, f.box, f.landmarks, size_px) for f, _ in self.more]
        faces = [scaled(f.picture, f.box, f.landmarks, size_px) for f, _ in self.first]
        same = rank_1(self.describe(faces), self.gallery, self.truth)
        other = rank_1(self.describe(others), self.gallery, self.other_truth)
        return {
            "same_picture": summary(same, self.people, self.people),
            "other_picture": summary(other, len(others), self.people),
        }


_measurement: Measurement | None = None


def _begin(path: Path) -> None:
    global _measurement
    _measurement = Measurement(read_faces(path))


def _cell(setting: tuple[str, float, int]) -> dict[str, Any]:
    assert _measurement is not None
    return _measurement.cell(*setting)


def least_safe(cells: dict[str, Any], method: str) -> float | None:
    """The weakest strength from which on no attack is above chance at any size."""
    safe: float | None = None
    for name, strength in sorted(SETTINGS, key=lambda s: -s[1]):
        if name != method:
            continue
        if any(cells[key(name, strength, size)][a]["above_chance"] for size in SIZES_PX for a in IDENTIFYING):
            break
        safe = strength
    return safe


def key(method: str, strength: float, size_px: int) -> str:
    return f"{method} {strength:.4f} {size_px}"


def measure(known: dict[str, Any], todo: list[tuple[str, float, int]], faces: Path, workers: int, result: Path) -> None:
    """Fill in what is not known yet; each cell is kept as soon as it is there."""
    measurement = Measurement(read_faces(faces))
    known |= {"people": measurement.people, "further_pictures": len(measurement.more), "copies": COPIES}
    known["clear"] = known["clear"] or {str(size): measurement.clear(size) for size in SIZES_PX}
    result.parent.mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(workers, get_context("spawn"), _begin, (faces,)) as pool:
        for number, ((method, strength, size), cell) in enumerate(zip(todo, pool.map(_cell, todo), strict=True), 1):
            known["cells"][key(method, strength, size)] = cell
            shares = ", ".join(f"{attack} {cell[attack]['share']:.0%}" for attack in ATTACKS)
            print(f"{number}/{len(todo)} {method} {strength:.3f}, {size} px: {shares}", flush=True)
            result.write_text(json.dumps(known, indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared"))
    parser.add_argument("--people", type=int, default=32)
    parser.add_argument("--result", type=Path, required=True, help="JSON; what is in it already is not measured again")
    parser.add_argument(
        "--faces", type=Path, help="the faces: written if it is not there, else read instead of the data"
    )
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--docs", type=Path, help="folder for the curves and the table")
    arguments = parser.parse_args()
    known = json.loads(arguments.result.read_text()) if arguments.result.exists() else {"cells": {}, "clear": {}}
    todo = [(m, s, px) for m, s in SETTINGS for px in SIZES_PX if key(m, s, px) not in known["cells"]]
    if todo or not known["clear"]:
        with tempfile.TemporaryDirectory() as scratch:
            path = arguments.faces or Path(scratch) / "faces.npz"
            if not path.exists():
                write_faces(collect(arguments.data, arguments.people, Recogniser()), path)
            measure(known, todo, path, arguments.workers, arguments.result)
    known["least_safe_strength"] = {m: least_safe(known["cells"], m) for m in ("gaussian", "pixelate")}
    arguments.result.write_text(json.dumps(known, indent=1) + "\n")
    print("no attack above chance at any size from:", known["least_safe_strength"])
    if arguments.docs:
        from irreversibility_docs import write

        write(known, arguments.docs)


if __name__ == "__main__":
    main()
