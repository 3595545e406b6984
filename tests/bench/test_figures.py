"""What rounds come to: spreads, shares of limits, hours; with passes whose figures are known."""

from __future__ import annotations

import pytest

from trt_anon.bench.part import Clock, Pass
from trt_anon.bench.run import hours_of, rounds, shares_of, slowest_of, summarise
from trt_anon.media import MediaInfo
from trt_anon.metrics.speed import Latency, Spread
from trt_anon.types import PIXEL_FORMATS


def passes(wall: float, cpu: float = 0.0, count: int = 3) -> list[Pass]:
    return [Pass(10, 10 * wall, 10 * cpu, (wall,) * 10)] * count


def test_latency_is_of_items_in_milliseconds():
    assert Latency.of([]) is None
    latency = Latency.of([i / 1000 for i in range(101)])
    assert latency == Latency(pytest.approx(50), pytest.approx(95), pytest.approx(99), 101)
    assert Spread.of([3.0]) == Spread(3.0, 3.0, 3.0, 1)
    assert Spread.of([1.0, 2.0, 4.0]) == Spread(2.0, 1.5, 3.0, 3)


def test_every_part_runs_once_per_round_in_turn_after_a_warm_up():
    order = []
    parts = {name: lambda name=name: order.append(name) or Pass(1, 1.0, 1.0) for name in ("a", "b")}
    made = rounds(parts, 1e-9, lambda _line: None)
    assert order == ["a", "b"] * 4, "a round of warm-up and three that count"
    assert {name: len(made[name]) for name in parts} == {"a": 3, "b": 3}


def test_shares_are_of_the_limits():
    made = {
        "decode": passes(0.010, 0.012),
        "engine": passes(0.020),
        "detect": passes(0.025, 0.044),
        "redact": passes(0.001, 0.001),
        "encode": passes(0.030, 0.058),
        "pipeline": passes(0.040),
        "pipeline + encode": passes(0.080),
    }
    shares = {name: share.median for name, share in shares_of(made, cores=2).items()}
    assert shares == {
        "detect of bare engine": pytest.approx(0.8),
        "pipeline of decoder": pytest.approx(0.25),
        "pipeline of bare engine": pytest.approx(0.5),
        "pipeline of the slower of both": pytest.approx(0.5),
        "pipeline + encode of pipeline": pytest.approx(0.5),
        "pipeline of what 2 cores allow": pytest.approx((0.012 + 0.044 + 0.001) / 2 / 0.040),
        "pipeline + encode of what 2 cores allow": pytest.approx((0.012 + 0.044 + 0.001 + 0.058) / 2 / 0.080),
    }
    parts = {name: summarise(one) for name, one in made.items()}
    assert parts["decode"].fps.median == pytest.approx(100)
    assert parts["decode"].latency.items == 30
    assert slowest_of(parts) == "encode", "the whole is no stage"
    info = MediaInfo("video", 64, 64, PIXEL_FORMATS["yuv420p"], "h264", "mp4", average_rate=50)
    assert hours_of(parts, info) == {"pipeline": pytest.approx(20_000), "pipeline + encode": pytest.approx(40_000)}


def test_without_all_stages_nothing_is_said_about_cores():
    made = {name: passes(0.01) for name in ("decode", "engine", "detect", "pipeline")}
    assert not [name for name in shares_of(made, cores=2) if "cores" in name]


def test_a_window_waits_for_the_oldest_and_notes_every_item():
    clock, order = Clock(), []
    with clock:
        clock.windowed("abcd", lambda x: order.append(f"submit {x}") or x, lambda x: order.append(f"wait {x}"), 2)
    assert order == ["submit a", "submit b", "submit c", "wait a", "submit d", "wait b", "wait c", "wait d"]
    made = clock.done(4)
    assert len(made.latencies_seconds) == 4
    assert made.wall_seconds >= max(made.latencies_seconds)
