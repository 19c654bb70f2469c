"""Deadlines share a timer, and each block has its own all the same. Time is the test's: it passes when told to."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Coroutine
from typing import Any
from weakref import ref

from tests.explore import VirtualLoop, virtual_loop
from tiered_cache._cancel import within

FOR_EVER = 3600.0


def run(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(main())


async def settled() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def pass_to(moment: float) -> None:
    """Step by step, so that nothing is late."""
    await settled()
    loop = virtual_loop()
    loop.call_at(moment, lambda: None)
    while loop.time() < moment:
        loop.let_time_pass()
        await settled()


class Block:
    """Waits within a deadline; `ended` is when, `outcome` how."""

    def __init__(self, seconds: float) -> None:
        self.answer: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.outcome = ""
        self.ended = 0.0
        self.task = asyncio.create_task(self._wait(seconds))

    async def _wait(self, seconds: float) -> None:
        try:
            with within(seconds):
                await self.answer
            self.outcome = "answered"
        except TimeoutError:
            self.outcome = "timed out"
        except asyncio.CancelledError:
            self.outcome = "cancelled"
        self.ended = asyncio.get_running_loop().time()


def timers() -> int:
    loop: Any = virtual_loop()
    return sum(not handle.cancelled() for handle in loop._scheduled)


def test_each_block_ends_when_its_own_time_is_up() -> None:
    async def main() -> None:
        first = Block(1.0)
        await settled()
        await pass_to(0.4)
        second, longer = Block(1.0), Block(2.0)
        await settled()
        await pass_to(3.0)
        assert [(each.outcome, each.ended) for each in (first, second, longer)] == [
            ("timed out", 1.0),
            ("timed out", 1.4),
            ("timed out", 2.4),
        ]

    run(main)


def test_who_is_answered_ends_nobody_elses_deadline() -> None:
    async def main() -> None:
        first = Block(1.0)
        await settled()
        await pass_to(0.5)
        second = Block(1.0)
        await settled()
        first.answer.set_result(None)
        await pass_to(3.0)
        assert (first.outcome, first.ended) == ("answered", 0.5)
        assert (second.outcome, second.ended) == ("timed out", 1.5)

    run(main)


def test_a_block_after_all_others_were_answered_ends_in_time() -> None:
    async def main() -> None:
        first = Block(1.0)
        await settled()
        first.answer.set_result(None)
        await pass_to(5.0)
        assert timers() == 0, "nobody waits, and yet the loop is woken"
        second = Block(1.0)
        await settled()
        await pass_to(7.0)
        assert (second.outcome, second.ended) == ("timed out", 6.0)

    run(main)


def test_a_crowd_has_one_timer() -> None:
    async def main() -> None:
        crowd = [Block(1.0) for _ in range(500)]
        await settled()
        assert timers() == 1
        await pass_to(2.0)
        assert {(each.outcome, each.ended) for each in crowd} == {("timed out", 1.0)}

    run(main)


def test_time_in_which_the_loop_was_held_up_does_not_count() -> None:
    async def main() -> None:
        answered, silent = Block(1.0), Block(1.0)
        await settled()
        virtual_loop()._now = 1.7  # something else has run all that time
        await settled()
        assert not answered.outcome
        answered.answer.set_result(None)
        await pass_to(5.0)
        assert answered.outcome == "answered"
        assert (silent.outcome, round(silent.ended, 3)) == ("timed out", 2.4)

    run(main)


def test_who_is_cancelled_is_cancelled_and_not_late() -> None:
    async def main() -> None:
        block = Block(1.0)
        await settled()
        await pass_to(0.5)
        block.task.cancel()
        await pass_to(2.0)
        assert (block.outcome, block.ended) == ("cancelled", 0.5)

    run(main)


def test_the_inner_of_two_deadlines_is_the_one_that_is_told() -> None:
    async def main() -> None:
        loop = virtual_loop()
        never: asyncio.Future[None] = loop.create_future()

        async def wait() -> str:
            with within(2.0):
                try:
                    with within(1.0):
                        await never
                except TimeoutError:
                    return f"inner at {loop.time()}"
            return "answered"

        task = asyncio.create_task(wait())
        await settled()
        await pass_to(3.0)
        assert task.result() == "inner at 1.0"

    run(main)


def test_a_loop_that_is_over_is_not_kept_by_its_timer() -> None:
    async def main() -> None:
        Block(FOR_EVER).answer.set_result(None)
        await settled()
        assert timers() == 1

    loop = VirtualLoop()
    loop.run_until_complete(main())
    loop.close()
    gone = ref(loop)
    del loop
    gc.collect()
    assert gone() is None
