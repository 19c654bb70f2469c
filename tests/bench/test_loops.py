"""Latency is counted from the moment an operation was due, whatever became of those before it."""

from __future__ import annotations

import asyncio

import pytest

from bench.lag import LIMIT_SECONDS, lag, why_refused
from bench.loops import Outcome, Trace, burst, closed_loop, open_loop, passes

pytestmark = pytest.mark.anyio


class HandClock:
    """Time passes only where somebody waits for it, or spends it."""

    def __init__(self) -> None:
        self._now = 100.0

    def now(self) -> float:
        return self._now

    def spend(self, seconds: float) -> None:
        """As a call that blocks the loop does."""
        self._now += seconds

    async def until(self, moment: float) -> None:
        await asyncio.sleep(0)  # those who are to run before that moment
        await asyncio.sleep(0)
        self._now = max(self._now, moment)


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


async def test_an_open_loop_keeps_to_its_schedule(clock: HandClock) -> None:
    async def operate(number: int) -> Outcome:
        return Outcome(hits=number)

    trace = await open_loop(operate, rate=10, seconds=1, clock=clock)
    assert list(trace.due) == pytest.approx([100 + n / 10 for n in range(10)])
    assert list(trace.start) == list(trace.due)
    assert list(trace.hits) == list(range(10))
    assert trace.seconds == pytest.approx(1.0)


async def test_those_that_were_due_while_the_loop_was_held_count_the_wait(clock: HandClock) -> None:
    async def operate(number: int) -> Outcome:
        if number == 2:
            clock.spend(0.45)
        return Outcome()

    trace = await open_loop(operate, rate=10, seconds=1, clock=clock)
    took = [end - due for due, end in zip(trace.due, trace.end, strict=True)]
    # The one that held it, and those due 0.1, 0.2, 0.3 and 0.4 s after that: none of them is omitted.
    assert took == pytest.approx([0, 0, 0.45, 0.35, 0.25, 0.15, 0.05, 0, 0, 0])
    served = [end - start for start, end in zip(trace.start, trace.end, strict=True)]
    assert sum(served) == pytest.approx(0.45), "from its start on, only one of them was slow"


async def test_a_slow_answer_delays_no_later_question(clock: HandClock) -> None:
    answered = asyncio.Event()

    async def operate(number: int) -> Outcome:
        if number == 0:
            await answered.wait()
        if number == 9:
            answered.set()
        return Outcome()

    trace = await open_loop(operate, rate=10, seconds=1, clock=clock)
    assert len(trace) == 10
    assert lag(trace) == pytest.approx(0.0)
    assert max(end - due for due, end in zip(trace.due, trace.end, strict=True)) >= 0.9


async def test_what_raises_is_counted_by_its_name(clock: HandClock) -> None:
    async def operate(number: int) -> Outcome:
        if number % 2:
            raise TimeoutError
        return Outcome(lost=1)

    trace = await open_loop(operate, rate=10, seconds=1, clock=clock)
    assert trace.errors == {"TimeoutError": 5}
    assert sum(trace.lost) == 5


async def test_in_a_closed_loop_callers_ask_again_at_once(clock: HandClock) -> None:
    async def operate(number: int) -> Outcome:
        clock.spend(0.1)
        await asyncio.sleep(0)
        return Outcome()

    trace = await closed_loop(operate, callers=2, seconds=1, clock=clock)
    assert len(trace) == pytest.approx(10, abs=2)
    assert list(trace.due) == list(trace.start)


async def test_one_who_blocks_does_not_keep_the_others_out(clock: HandClock) -> None:
    async def operate(number: int) -> Outcome:
        clock.spend(0.1)
        return Outcome()

    beats = 0

    async def beat() -> None:
        nonlocal beats
        while True:
            await asyncio.sleep(0)
            beats += 1

    beating = asyncio.create_task(beat())
    await closed_loop(operate, callers=1, seconds=1, clock=clock)
    beating.cancel()
    assert beats >= 9


async def test_passes_leave_out_what_lies_between_them(clock: HandClock) -> None:
    asked: list[int] = []

    async def operate(number: int) -> Outcome:
        asked.append(number)
        clock.spend(0.1)
        return Outcome()

    async def pause() -> None:
        clock.spend(5)

    trace = await passes(operate, range(4), callers=2, seconds=0.7, clock=clock, between=pause)
    assert trace.seconds == pytest.approx(0.8)
    assert sorted(asked) == [0, 0, 1, 1, 2, 2, 3, 3]


async def test_a_burst_is_due_at_one_moment(clock: HandClock) -> None:
    async def operate(number: int) -> Outcome:
        clock.spend(0.1)
        return Outcome()

    trace = await burst(operate, callers=3, clock=clock)
    assert set(trace.due) == {100.0}
    assert [end - 100 for end in trace.end] == pytest.approx([0.1, 0.2, 0.3])


# --- refusing ---------------------------------------------------------------------------------------------------------


def starts(late: float, *, rate: float = 100.0, operations: int = 100) -> Trace:
    """Of a loop in which every operation started that much after it was due."""
    trace = Trace(seconds=operations / rate)
    for number in range(operations):
        due = number / rate
        trace.add(due, due + late, due + late, Outcome())
    return trace


PUNCTUAL = starts(0.0)
LATE = starts(2 * LIMIT_SECONDS)


def test_a_punctual_generator_is_believed() -> None:
    assert why_refused(100.0, PUNCTUAL, 0.0, [PUNCTUAL, PUNCTUAL]) == ""


@pytest.mark.parametrize("idle", [[LATE, PUNCTUAL], [PUNCTUAL, LATE]], ids=["before", "after"])
def test_a_generator_that_lags_with_nothing_to_do_is_refused(idle: list[Trace]) -> None:
    assert "lagged 20 ms" in why_refused(100.0, PUNCTUAL, 0.0, idle)


def test_a_generator_that_cannot_offer_the_rate_is_refused() -> None:
    assert "achieved 100/s of 200/s" in why_refused(200.0, PUNCTUAL, 0.0, [PUNCTUAL])


def test_a_contender_that_holds_the_loop_is_not_excused_by_refusing() -> None:
    assert why_refused(100.0, LATE, 0.5, [PUNCTUAL]) == ""


def test_late_starts_on_a_free_loop_are_the_generators() -> None:
    assert "though the loop was free" in why_refused(100.0, LATE, 0.001, [PUNCTUAL])


def test_lag_is_the_99th_percentile() -> None:
    trace = starts(0.0, operations=99)
    trace.add(1.0, 6.0, 6.0, Outcome())
    assert lag(trace) == pytest.approx(5.0)
    assert lag(starts(0.0, operations=1000)) == 0.0
    assert lag(Trace()) == 0.0
