from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from trt_anon.pipeline.conveyor import Conveyor, Stage


def _own_threads() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name.startswith("trt-anon-")]


def test_keeps_order_through_all_stages() -> None:
    stages = [Stage("double", lambda x: 2 * x), Stage("text", str)]
    with Conveyor(range(500), stages, queue=3) as conveyor:
        assert list(conveyor) == [str(2 * x) for x in range(500)]
    assert not _own_threads()


def test_an_empty_source_gives_nothing() -> None:
    with Conveyor([], [Stage("same", lambda x: x)], queue=1) as conveyor:
        assert list(conveyor) == []


@pytest.mark.parametrize("failing", ["source", "first", "last"])
@pytest.mark.parametrize("at", [0, 7, 19])
def test_the_first_failure_of_any_stage_reaches_the_caller_and_ends_all_threads(failing: str, at: int) -> None:
    def source() -> Iterator[int]:
        for x in range(20):
            if failing == "source" and x == at:
                raise RuntimeError("broken")
            yield x

    def stage(name: str) -> Stage:
        def work(x: int) -> int:
            if failing == name and x == at:
                raise RuntimeError("broken")
            return x

        return Stage(name, work)

    delivered: list[int] = []
    conveyor = Conveyor(source(), [stage("first"), stage("last")], queue=2)
    with conveyor, pytest.raises(RuntimeError, match="broken"):
        delivered.extend(conveyor)
    assert delivered == list(range(len(delivered)))
    assert len(delivered) <= at
    assert not _own_threads()


def test_a_failure_of_the_caller_ends_all_threads_even_with_full_queues() -> None:
    def endless() -> Iterator[int]:
        x = 0
        while True:
            yield x
            x += 1

    def take_five() -> None:
        with Conveyor(endless(), [Stage("same", lambda x: x)], queue=2) as conveyor:
            for x in conveyor:
                if x == 5:
                    raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        take_five()
    assert not _own_threads()


def test_no_more_items_wait_than_the_queues_hold() -> None:
    made = 0

    def source() -> Iterator[int]:
        nonlocal made
        for x in range(1000):
            made += 1
            yield x

    with Conveyor(source(), [Stage("same", lambda x: x)], queue=4) as conveyor:
        iterator = iter(conveyor)
        for taken in range(1, 50):
            next(iterator)
            # two queues of 4, one item in each of the two threads' hands, and the one just taken
            assert made <= taken + 2 * 4 + 2


def test_the_time_inside_each_stage_is_known() -> None:
    with Conveyor(range(3), [Stage("same", lambda x: x)], queue=1, source_name="decode") as conveyor:
        list(conveyor)
    assert set(conveyor.busy_seconds) == {"decode", "same"}
    assert all(seconds >= 0 for seconds in conveyor.busy_seconds.values())
