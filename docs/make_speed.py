"""Draws docs/speed.md from benchmarks/results/*.json and benchmarks/published.json.

python docs/make_speed.py            writes the page
python docs/make_speed.py --check    says whether the page is what the results say (exit code 1 if not)
"""

# ruff: noqa: E501 - lines of a page are as long as they are

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks/results"
PUBLISHED = ROOT / "benchmarks/published.json"
PAGE = ROOT / "docs/speed.md"

HEAD = """# How fast is it?

Drawn by `python docs/make_speed.py` from `benchmarks/results/`; do not edit it here. Machines are noisy: what is
compared ran in turn in one session, figures are medians, and ratios say more than absolute times. How each part is
measured: [bench](bench.md). How much is found and covered: [speed and cover](speed-and-cover.md). What has not run on a GPU:
[GPU](gpu.md).
"""


def page(results: Mapping[str, Mapping[str, Any]], published: Iterable[Mapping[str, Any]]) -> str:
    """The page. results: the files' contents by machine."""
    parts = [HEAD]
    for machine, result in results.items():
        sections = [*_pipelines(result), *_kernels(result), *_gpu_host(result)]
        if sections:
            parts += [f"## {_machine(machine, result['machine'])}\n", *sections]
    for machine, result in results.items():
        if "vs_peers" in result:
            parts += ["## Against deface 1.5.0\n", _deface(machine, result["vs_peers"])]
    parts += ["## What others publish\n", _published(published)]
    return "\n".join(parts)


def _machine(name: str, machine: Mapping[str, Any]) -> str:
    return f"`{name}`: {machine['cpu']}, {machine['cores']} cores"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _percent(spread: Mapping[str, Any]) -> str:
    return f"{100 * spread['median']:.0f}% ({100 * spread['low']:.0f} to {100 * spread['high']:.0f})"


def _table(rows: list[list[str]]) -> str:
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    lines.insert(1, "|" + "---|" * len(rows[0]))
    return "\n".join(lines) + "\n"


def _pipelines(result: Mapping[str, Any]) -> Iterator[str]:
    for key, title, command in (
        ("pipeline", "The pipeline on the CPU", "python benchmarks/pipeline.py --device cpu"),
        ("pipeline_cuda", "The pipeline on the GPU", "python benchmarks/pipeline.py --device cuda"),
    ):
        figures = result.get(key)
        if figures is None or not any(isinstance(one, dict) and "cases" in one for one in figures.values()):
            continue
        command = figures.get("command", f"{command} --result benchmarks/results/MACHINE.json")
        yield f"### {title}\n\n    {command}\n"
        benches = {name: one for name, one in figures.items() if isinstance(one, dict) and "cases" in one}
        cases = []
        for name, one in benches.items():
            for case in one["cases"]:
                cases.append(case if name == "drawn" else {**case, "name": f"{name} (real)"})  # noqa: PERF401
        yield from _cases(cases)
        yield from _circumstances(result["machine"], figures, benches)


def _cases(cases: list[dict[str, Any]]) -> Iterator[str]:
    names = list(dict.fromkeys(part for case in cases for part in case["parts"]))
    batches = len({case["batch"] for case in cases}) > 1

    def called(case: Mapping[str, Any]) -> str:
        return f"{case['name']}, batch {case['batch']}" if batches else str(case["name"])

    heading = ["frames per second", *(called(case) for case in cases)]
    rows = [[name, *(_fps(case, name) for case in cases)] for name in names]
    rows.append(["objects redacted in a frame", *(f"{case['found_per_frame']:.1f}" for case in cases)])
    yield _table([heading, *rows])
    shares = list(dict.fromkeys(name for case in cases for name in case["shares"]))
    rows = []
    for name in shares:
        found = [case["shares"].get(name) for case in cases]
        rows.append([name, *("" if share is None else _percent(share) for share in found)])
    rows.append(["slowest stage alone", *(case["slowest"] for case in cases)])
    for name in ("pipeline", "pipeline + encode"):
        if any(name in case["hours_per_10000"] for case in cases):
            hours = [case["hours_per_10000"].get(name) for case in cases]
            rows.append([f"hours for 10,000 h of video, {name}", *("" if h is None else _number(h) for h in hours)])
    rows.append(["latency of a frame, ms: median / p95 / p99", *(_latency(case) for case in cases)])
    rows += list(_traffic(cases))
    yield _table([["", *heading[1:]], *rows])


def _fps(case: Mapping[str, Any], name: str) -> str:
    part = case["parts"].get(name)
    return "" if part is None else _number(part["fps"]["median"])


def _latency(case: Mapping[str, Any]) -> str:
    latency = case["parts"]["pipeline"]["latency"]
    return "" if latency is None else " / ".join(_number(latency[name]) for name in ("median_ms", "p95_ms", "p99_ms"))


def _traffic(cases: list[dict[str, Any]]) -> Iterator[list[str]]:
    books = [case.get("traffic") for case in cases]
    if not any(books):
        return
    for key in ("launches_per_batch", "synchronisations_per_batch", "allocations_per_batch"):
        yield [key.replace("_", " "), *("" if one is None else f"{one[key]:.1f}" for one in books)]
    for purpose in dict.fromkeys(name for one in books if one for name in one["pcie_bytes_per_frame"]):
        found = [one["pcie_bytes_per_frame"].get(purpose) if one else None for one in books]
        yield [f"bytes across PCIe per frame, {purpose}", *("" if n is None else f"{n:,.0f}" for n in found)]
    powers = [case.get("power") or {} for case in cases]
    if any(one.get("watts") for one in powers):
        yield ["watts", *("" if not one.get("watts") else f"{one['watts']:.0f}" for one in powers)]


def _circumstances(machine: Mapping[str, Any], figures: Mapping[str, Any], benches: Mapping[str, Any]) -> Iterator[str]:
    loads = [one["conditions"].get("load_average", [0])[0] for one in benches.values()]
    cores = machine["cores"]
    if max(loads) > 0.5 * cores:
        yield (
            f"Taken on a busy machine (load {min(loads):.0f} to {max(loads):.0f} on {cores} cores when parts of this run\n"
            "began): it does better alone, and a share above 100% is noise. Read the shares, not the frames per second.\n"
        )
    memory = figures.get("memory_1080p")
    if memory:
        yield (
            f"Peak memory of the whole command at 1080p: {memory['peak_rss_mib']:.0f} MiB; of a video ten times as "
            f"long {memory['peak_rss_mib_10x_frames']:.0f} MiB.\n"
        )
    missing = dict(figures.get("missing", {}))
    missing |= {what: why for one in benches.values() for case in one["cases"] for what, why in case["missing"].items()}
    if missing:
        yield "Not measured: " + "; ".join(f"{what} ({why})" for what, why in missing.items()) + ".\n"


def _kernels(result: Mapping[str, Any]) -> Iterator[str]:
    figures = result.get("kernels")
    if figures is None:
        return
    command = "python benchmarks/kernels.py --result benchmarks/results/MACHINE.json"
    yield (
        f"### Kernels on {figures['device']}\n\n    {command}\n\n"
        f"{figures['date']}. Copies reach {figures['copy_gb_per_second']:,.0f} GB/s, read and written. "
        "Times are of the device alone (CUDA graphs).\n"
    )
    rows = [["kernel, batch of 32 frames of 1080p", "microseconds", "per frame", "of copy bandwidth", "launches"]]
    for name, by_batch in figures["kernels"].items():
        one = by_batch.get("32")
        if one:
            us = (one["graph_us"] or one["eager_us"])["median"]
            share = f"{100 * one['share_of_copy_bandwidth']:.0f}%"
            rows.append([name, _number(us), _number(us / one["images"]), share, str(one["launches"])])
    yield _table(rows)
    rows = [["target", "found", "wanted"]]
    for name, one in figures["targets"].items():
        rows.append([name, "not measured" if one["found"] is None else f"{one['found']:.3g}", f"{one['target']:g}"])
    yield _table(rows)


def _gpu_host(result: Mapping[str, Any]) -> Iterator[str]:
    figures = result.get("gpu_host")
    if figures is None:
        return
    rows = [["step of `gpu_host.sh`", "outcome", "seconds", "why"]]
    rows += [
        [name, one["status"], f"{one['seconds']:.0f}", one["why"].replace("|", "/")]
        for name, one in figures["steps"].items()
    ]
    yield _table(rows)
    if figures["not_installed"]:
        yield f"Could not be installed: {', '.join(figures['not_installed'])}.\n"


_NAMES = {
    "deface": "deface 1.5.0, default",
    "default": "trt-anon, default (YuNet)",
    "centerface": "trt-anon with deface's detector, same size",
}


def _deface(machine: str, figures: Mapping[str, Any]) -> str:
    intro = (
        "    python benchmarks/vs_peers.py --data DATA --result benchmarks/results/MACHINE.json\n\n"
        f"On `{machine}`, {figures['date']}: whole commands with their start-up, in turn, deface with ONNX Runtime in\n"
        "an environment of its own. The clips are the first frames of `intel_one-by-one-person.mp4` (Intel, CC BY 4.0), and the\n"
        "same enlarged to 1080p.\n"
    )
    rows = [["clip", "command", "frames/s", "times deface", "CPU ms/frame", "memory"]]
    for clip, by_command in figures.items():
        if not isinstance(by_command, dict) or "deface" not in by_command or clip == "cover":
            continue
        for name, one in by_command.items():
            times = one.get("times_deface")
            said = "" if times is None else f"**{times['median']:.1f}** ({times['low']:.1f} to {times['high']:.1f})"
            cpu, rss = one["cpu_ms_per_frame"]["median"], one["peak_rss_mib"]["median"]
            rows.append(
                [clip, _NAMES.get(name, name), f"{one['fps']['median']:.1f}", said, f"{cpu:.0f}", f"{rss:.0f} MiB"]
            )
    return intro + "\n" + _table(rows)


def _published(published: Iterable[Mapping[str, Any]]) -> str:
    intro = (
        "These are figures of the projects' own pages, on their machines and clips, most of them without redaction and\n"
        "without writing; nothing of them was measured here, and they compare in their order of magnitude only.\n"
    )
    rows = [["project", "what", "frames/s", "machine", "source"]]
    rows += [[one["name"], one["what"], _number(one["fps"]), one["machine"], one["source"]] for one in published]
    return intro + "\n" + _table(rows)


def drawn() -> str:
    """The page of the results that are here."""
    results = {path.stem: json.loads(path.read_text()) for path in sorted(RESULTS.glob("*.json"))}
    return page(results, json.loads(PUBLISHED.read_text()))


def main() -> int:
    """Write the page, or check it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    wanted = drawn()
    if parser.parse_args().check:
        same = PAGE.exists() and PAGE.read_text() == wanted
        print(f"{PAGE.name} is {'what the results say' if same else 'stale: run python docs/make_speed.py'}")  # noqa: T201
        return 0 if same else 1
    PAGE.write_text(wanted)
    return 0


if __name__ == "__main__":
    sys.exit(main())
