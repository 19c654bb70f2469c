"""Concurrent callers of one loop share one exchange.

The first to ask leads: it lets the loop run once, takes what has gathered by then, and makes the exchange for all. No
timer and no background task; who asks alone pays one turn of the loop. While as many exchanges as allowed are under
way, the next one goes on gathering.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar, cast

import anyio
from anyio.lowlevel import RunVar, cancel_shielded_checkpoint

from ._errors import TieredCacheError

Q = TypeVar("Q")
A = TypeVar("A")

Answer = Callable[[Sequence[A]], None]
Work = Callable[[Sequence[Q], Answer[A]], Awaitable[None]]


class _Batch(Generic[Q, A]):
    """What several callers ask together. Once `over`: answered, failed, or (with neither) abandoned by its leader."""

    def __init__(self, questions: Sequence[Q]) -> None:
        self.questions = list(questions)
        self.answers: Sequence[A] | None = None
        self.error: TieredCacheError | None = None
        self.over = anyio.Event()

    def answer(self, answers: Sequence[A]) -> None:
        self.answers = answers
        self.over.set()


class _Gathering(Generic[Q, A]):
    """One loop's state: the batch that may still be joined, and the exchanges that may be under way."""

    def __init__(self, in_flight: int) -> None:
        self.open: _Batch[Q, A] | None = None
        self.slots = anyio.Semaphore(in_flight)


class Batcher(Generic[Q, A]):
    """Shares calls of `work(questions, answer)`, which must call `answer` with one answer a question, in their order.

    `work` may go on after that; only its leader waits for the rest. An error that it raises before is raised to every
    caller. A leader that is cancelled before fails nobody else: the others ask again, together.
    """

    def __init__(self, work: Work[Q, A], *, items: int, in_flight: int) -> None:
        self._work = work
        self._items = items
        self._in_flight = in_flight
        self._loops: RunVar[_Gathering[Q, A]] = RunVar(f"tiered_cache.batcher.{id(self)}")

    async def ask(self, questions: Sequence[Q]) -> Sequence[A]:
        """The answers to one caller's questions, which are never split over two exchanges."""
        loop = self._loops.get(None)
        if loop is None:
            loop = _Gathering[Q, A](self._in_flight)
            self._loops.set(loop)
        while True:
            batch = loop.open
            if batch is None or len(batch.questions) + len(questions) > self._items:
                return await self._lead(loop, questions)
            start = len(batch.questions)
            batch.questions.extend(questions)
            await batch.over.wait()
            if batch.answers is not None:
                return batch.answers[start : start + len(questions)]
            if batch.error is not None:
                raise batch.error

    async def _lead(self, loop: _Gathering[Q, A], questions: Sequence[Q]) -> Sequence[A]:
        batch = loop.open = _Batch[Q, A](questions)
        try:
            await cancel_shielded_checkpoint()
            async with loop.slots:
                if loop.open is batch:
                    loop.open = None
                await self._work(batch.questions, batch.answer)
        except TieredCacheError as error:
            batch.error = error
            raise
        finally:
            if loop.open is batch:
                loop.open = None
            batch.over.set()
        return cast("Sequence[A]", batch.answers)[: len(questions)]
