"""The CUDA kernels: each against the bytes it has to move and the device's own copy bandwidth, and against peers.

    python benchmarks/kernels.py [--batches 1,8,32,128] [--result benchmarks/results/MACHINE.json]
    python benchmarks/kernels.py --host      # the same code on the CPU, tiny: its figures say nothing about a GPU

Every kernel agrees with its NumPy reference on the very arrays it is timed on, before it is timed. Times are medians
and quartiles of CUDA events after a warm-up: `graph`, of replays of a captured graph of several calls, is the device's
own time; `eager`, of one call from Python after another, is what a caller without graphs sees. Peers are timed eagerly,
right after ours.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from harness import Spread, write_result
from kernel_cases import Case, Sizes, all_cases, blur_cases, nms_case

from trt_anon._optional import require

SIGMAS = (2, 4, 8, 16, 32, 64)
TARGETS = {  # on an H100-class GPU
    "preprocess: share of copy bandwidth at batch 32": 0.70,
    "redaction: share of copy bandwidth at batch 32": 0.50,
    "redaction: slowest over fastest, sigma 4 to 64": 1.10,
    "NMS of 64 x 1024: milliseconds": 0.1,
    "NMS of 64 x 1024: times the torch version": 10.0,
    "all stages at batch 32, 20 faces: microseconds per frame": 20.0,
}


class Clock(Protocol):
    """A place to run kernels and to time them."""

    xp: Any

    def eager(self, work: Callable[[], None]) -> Spread:
        """Microseconds per call, of calls one after another."""
        ...

    def graph(self, work: Callable[[], None]) -> Spread | None:
        """Microseconds per call on the device alone, None where there is no such thing."""
        ...


@dataclass
class GpuClock:
    """CUDA events around repeated calls on a stream of its own."""

    rounds: int
    xp: Any = field(default_factory=lambda: require("cupy", "timing kernels on a GPU; --host runs without one"))
    calls: int = 10

    def __post_init__(self) -> None:
        self.stream = self.xp.cuda.Stream(non_blocking=True)

    def eager(self, work: Callable[[], None]) -> Spread:
        with self.stream:
            return self._timed(lambda: [work() for _ in range(self.calls)])

    def graph(self, work: Callable[[], None]) -> Spread | None:
        with self.stream:
            work()  # loads the kernels, which cannot be captured
            self.stream.synchronize()
            self.stream.begin_capture()
            for _ in range(self.calls):
                work()
            captured = self.stream.end_capture()
            return self._timed(lambda: captured.launch(self.stream))

    def _timed(self, work: Callable[[], object]) -> Spread:
        self.xp.cuda.Device().synchronize()  # arrays are made on another stream
        for _ in range(3):
            work()
        times = []
        for _ in range(self.rounds):
            start, end = self.xp.cuda.Event(), self.xp.cuda.Event()
            start.record(self.stream)
            work()
            end.record(self.stream)
            end.synchronize()
            times.append(1000 * self.xp.cuda.get_elapsed_time(start, end) / self.calls)
        return Spread.of(times)


@dataclass
class HostClock:
    """The host build and the processor's clock: shows that everything here runs, and nothing else."""

    rounds: int
    xp: Any = np

    def eager(self, work: Callable[[], None]) -> Spread:
        work()
        times = []
        for _ in range(self.rounds):
            start = time.perf_counter()
            work()
            times.append(1e6 * (time.perf_counter() - start))
        return Spread.of(times)

    def graph(self, work: Callable[[], None]) -> Spread | None:
        return None


def copy_bandwidth(clock: Clock, megabytes: int) -> float:
    """Bytes per second, read and written, of a copy between two arrays that no cache holds."""
    source = clock.xp.zeros(megabytes << 20, np.uint8)
    target = clock.xp.empty_like(source)

    def copy() -> None:
        target[...] = source

    spread = clock.graph(copy) or clock.eager(copy)
    return 2e6 * source.nbytes / spread.median


def measure(clock: Clock, case: Case, bandwidth: float) -> dict[str, Any]:
    """One case: checked, then timed."""
    case.check()
    case.accounting.by_kernel.clear()
    case.work()
    traffic = case.accounting.total
    eager, graph = clock.eager(case.work), clock.graph(case.work)
    device = graph or eager
    share = traffic.bytes_moved / (device.median * 1e-6) / bandwidth
    print(
        f"{case.name:>28} x{case.images:<4} {device.median:10.1f} us  {device.median / case.images:9.2f} us/image  "
        f"{traffic.bytes_moved / 1e6:9.2f} MB  {100 * share:5.1f}% of copy  {traffic.launches} launches"
    )
    return {
        "images": case.images,
        "graph_us": graph,
        "eager_us": eager,
        "bytes": traffic.bytes_moved,
        "launches": traffic.launches,
        "share_of_copy_bandwidth": share,
    }


# ---- Peers -----------------------------------------------------------------------------------------------------------


def torch_nms(case: Case, iou_threshold: float, rounds: int, device: str) -> tuple[str, Spread]:
    """torchvision's batched_nms, or without torchvision greedy suppression as a fixed point, exact and vectorised."""
    torch = importlib.import_module("torch")
    boxes, scores, classes = (torch.as_tensor(array, device=device) for array in case.peer_arrays)
    if importlib.util.find_spec("torchvision") is not None:
        name, ops = "torchvision.ops.batched_nms", importlib.import_module("torchvision.ops")
        labels = (classes + 1000 * torch.arange(len(boxes), device=device)[:, None]).flatten()
        flat, flat_scores = boxes.reshape(-1, 4), scores.flatten()

        def work() -> Any:
            return ops.batched_nms(flat, flat_scores, labels, iou_threshold)

    else:
        name = "torch, fixed point of greedy suppression"

        def work() -> Any:
            order = scores.argsort(dim=1, descending=True, stable=True)
            b = boxes.gather(1, order[..., None].expand(-1, -1, 4))
            c = classes.gather(1, order)
            low = torch.maximum(b[:, :, None, :2], b[:, None, :, :2])
            high = torch.minimum(b[:, :, None, 2:], b[:, None, :, 2:])
            shared = (high - low).clamp(min=0).prod(dim=-1)
            area = (b[..., 2:] - b[..., :2]).clamp(min=0).prod(dim=-1)
            iou = shared / (area[:, :, None] + area[:, None] - shared).clamp(min=1e-30)
            beats = ((iou > iou_threshold) & (c[:, :, None] == c[:, None])).triu(diagonal=1)
            keep = torch.ones_like(scores, dtype=torch.bool)
            while True:  # each round settles at least one more place of every image, in order
                after = ~(beats & keep[:, :, None]).any(dim=1)
                if torch.equal(after, keep):
                    return keep.sum()
                keep = after

    kept = work()
    total = int(kept) if kept.ndim == 0 else len(kept)
    if abs(total - case.kept()) > 0.001 * case.kept():  # IoU in float32 may decide a few otherwise
        raise RuntimeError(f"{name} keeps {total} boxes, ours {case.kept()}")

    def synchronised() -> None:
        if device == "cuda":
            torch.cuda.synchronize()

    times = []
    for _ in range(3 + rounds):
        synchronised()
        start = time.perf_counter()
        work()
        synchronised()
        times.append(1e6 * (time.perf_counter() - start))
    return name, Spread.of(times[3:])


def nms_against_torch(clock: Clock, sizes: Sizes, rounds: int) -> dict[str, Any]:
    case = nms_case(clock.xp, sizes.nms_images, sizes.nms_boxes)
    figures: dict[str, Any] = measure(clock, case, 1e12)
    if importlib.util.find_spec("torch") is None:
        return figures | {"torch": "skipped: PyTorch is not installed"}
    name, spread = torch_nms(case, 0.4, rounds, "cpu" if clock.xp is np else "cuda")
    figures |= {"torch": name, "torch_us": spread, "times_torch": spread.median / figures["eager_us"].median}
    print(f"{'':>28} {name}: {spread.median:.1f} us, {figures['times_torch']:.1f} times ours")
    return figures


def blur_by_sigma(clock: Clock, sizes: Sizes, bandwidth: float) -> dict[str, Any]:
    figures: dict[str, Any] = {}
    peer = None
    if clock.xp is not np:
        peer = importlib.import_module("cupyx.scipy.ndimage").gaussian_filter
    for sigma, case in blur_cases(clock.xp, sizes, SIGMAS):
        figures[str(sigma)] = measure(clock, case, bandwidth)
        if peer is None:
            figures[str(sigma)]["cupyx"] = "skipped: CuPy is not installed"
            continue
        plane = case.peer_arrays[0].astype(np.float32)
        spread = clock.eager(lambda plane=plane, sigma=sigma: peer(plane, sigma, mode="nearest"))
        figures[str(sigma)] |= {
            "cupyx_us": spread,
            "times_cupyx": spread.median / figures[str(sigma)]["eager_us"].median,
        }
        print(f"{'':>28} cupyx.scipy.ndimage.gaussian_filter: {spread.median:.1f} us")
    return figures


def against_targets(figures: dict[str, Any]) -> dict[str, Any]:
    """What was found beside what was wanted; None where it was not measured."""

    def share(name: str) -> float | None:
        found = figures["kernels"].get(name, {}).get("32")
        return None if found is None else float(found["share_of_copy_bandwidth"])

    def device_us(one: dict[str, Any]) -> float:
        return float((one["graph_us"] or one["eager_us"]).median)

    by_sigma = [device_us(figures["blur_by_sigma"][str(s)]) for s in SIGMAS if s >= 4]
    stages = [each["32"] for name, each in figures["kernels"].items() if name in STAGES and "32" in each]
    found = dict(
        zip(
            TARGETS,
            (
                share("preprocess nv12"),
                share("redact gaussian"),
                max(by_sigma) / min(by_sigma),
                device_us(figures["nms_against_torch"]) / 1000,
                figures["nms_against_torch"].get("times_torch"),
                sum(device_us(one) for one in stages) / 32 if stages else None,
            ),
            strict=True,
        )
    )
    return {name: {"found": found[name], "target": target} for name, target in TARGETS.items()}


STAGES = ("preprocess nv12", "decode yunet", "nms", "redact gaussian")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batches", default=None, help="images per launch, default 1,8,32,128")
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--host", action="store_true", help="tiny, by the host build, where there is no GPU")
    parser.add_argument("--result", type=Path, default=None, help="result file to write into")
    options = parser.parse_args(arguments)

    sizes = Sizes.tiny() if options.host else Sizes()
    batches = [int(n) for n in (options.batches or ("1,2" if options.host else "1,8,32,128")).split(",")]
    clock: Clock = HostClock(options.rounds) if options.host else GpuClock(options.rounds)
    bandwidth = copy_bandwidth(clock, 8 if options.host else 1024)
    print(f"copy: {bandwidth / 1e9:.0f} GB/s read and written")
    figures: dict[str, Any] = {"device": device_name(clock), "copy_gb_per_second": bandwidth / 1e9, "kernels": {}}
    for batch in batches:
        for case in all_cases(clock.xp, sizes, batch):
            figures["kernels"].setdefault(case.name, {})[str(batch)] = measure(clock, case, bandwidth)
    figures["blur_by_sigma"] = blur_by_sigma(clock, sizes, bandwidth)
    figures["nms_against_torch"] = nms_against_torch(clock, sizes, options.rounds)
    figures["targets"] = against_targets(figures)
    for name, one in figures["targets"].items():
        print(
            f"{name}: {'not measured' if one['found'] is None else format(one['found'], '.3g')}, wanted {one['target']}"
        )
    if options.result:
        write_result(options.result, "kernels_host" if options.host else "kernels", figures)


def device_name(clock: Clock) -> str:
    """The GPU's name, or what stands in for it."""
    if clock.xp is np:
        return "none: the host build on a CPU"
    name = clock.xp.cuda.runtime.getDeviceProperties(clock.xp.cuda.Device().id)["name"]
    return name.decode() if isinstance(name, bytes) else str(name)


if __name__ == "__main__":
    main()
