"""How long detection takes: one picture after the other, and as many at once as the runtime works on."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from typing import Any

import numpy as np

from trt_anon.evaluate.dataset import LabelledImage
from trt_anon.evaluate.pictures import load_frame
from trt_anon.pipeline.detection import FrameDetector, PendingDetections
from trt_anon.types import Frame

MAX_HELD_BYTES = 512 << 20
"""Pictures are held decoded while they are timed, up to this much."""

_IN_FLIGHT = 8


def measure_speed(images: Sequence[LabelledImage], detector: FrameDetector, count: int) -> dict[str, Any] | None:
    """Latency and throughput from a decoded picture to its detections: preprocessing, inference, decoding, suppression.

    At most `count` images, evenly chosen, all of them detected once before anything is timed. Latency: one picture at a
    time. Throughput: several under way. None where `count` is 0.
    """
    if not count:
        return None
    places = np.unique(np.linspace(0, len(images) - 1, min(count, len(images))).round().astype(int))
    frames: list[Frame] = []
    held = 0
    for place in places.tolist():
        frame = load_frame(images[place].path)
        held += sum(plane.nbytes for plane in frame.planes)
        if frames and held > MAX_HELD_BYTES:
            break
        frames.append(frame)
    for frame in frames:
        detector.submit(frame).result()
    seconds = []
    for frame in frames:
        start = time.perf_counter()
        detector.submit(frame).result()
        seconds.append(time.perf_counter() - start)
    start = time.perf_counter()
    pending: deque[PendingDetections] = deque()
    for frame in frames:
        pending.append(detector.submit(frame))
        if len(pending) >= _IN_FLIGHT:
            pending.popleft().result()
    while pending:
        pending.popleft().result()
    total = time.perf_counter() - start
    milliseconds = np.array(seconds) * 1000
    return {
        "images": len(frames),
        "latency_ms": {
            "median": float(np.median(milliseconds)),
            "p95": float(np.quantile(milliseconds, 0.95)),
            "p99": float(np.quantile(milliseconds, 0.99)),
        },
        "images_per_second": len(frames) / total,
        "megapixels_mean": float(np.mean([f.width_px * f.height_px for f in frames]) / 1e6),
    }
