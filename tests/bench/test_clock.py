"""The clock of a measurement wakes whoever waits, in the order of the moments, not of the asking."""

from __future__ import annotations

import asyncio

import pytest

from bench.clock import LoopClock

pytestmark = pytest.mark.anyio


async def test_a_later_moment_does_not_hold_up_an_earlier_one() -> None:
    clock = LoopClock()
    order: list[str] = []

    async def wait(name: str, seconds: float) -> None:
        await clock.until(begin + seconds)
        order.append(name)

    begin = clock.now()
    await asyncio.gather(wait("later", 0.06), wait("sooner", 0.03), wait("past", -1.0))
    assert order == ["past", "sooner", "later"]
    assert clock.now() >= begin + 0.06
    clock.close()


async def test_who_gave_up_waiting_stops_nobody() -> None:
    clock = LoopClock()
    waiting = asyncio.create_task(clock.until(clock.now() + 0.02))
    await asyncio.sleep(0)
    waiting.cancel()
    await clock.until(clock.now() + 0.04)
    clock.close()
