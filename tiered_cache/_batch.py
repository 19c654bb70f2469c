"""Concurrent callers of one loop share one exchange.

The first to ask leads: it lets the loop run once, takes what has gathered by then, and makes the exchange for all. No
timer and no background task; who asks alone pays one turn of the loop. While as many exchanges as allowed are under
way, the next one goes on gathering.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from types import TracebackType
from typing import Generic, NamedTuple, TypeVar, cast

import anyio
from anyio.lowlevel import RunVar, cancel_shielded_checkpoint

from ._errors import TieredCacheError

Q = TypeVar("Q")
A = TypeVar("A")

Answer = Callable[[Sequence[A]], None]
Work = Callable[[Sequence[Q], Answer[A]], Awaitable[None]]


class Limits(NamedTuple):
    """Of one batch: how many questions, and how many bytes by the estimate of `weigh`. Of one loop: batches under way.

    A single caller's questions are never split, however many there are.
    """

    items: int
    bytes: int
    in_flight: int


class _Batch(Generic[Q, A]):
    """What several callers ask together. Once `over`: answered, failed, or (with neither) abandoned by its leader."""

    def __init__(self, questions: Sequence[Q], weight: int) -> None:
        self.questions = list(questions)
        self.weight = weight
        self.answers: Sequence[A] | None = None
        self.error: TieredCacheError | None = None
        self.traceback: TracebackType | None = None
        self.over = anyio.Event()

    def answer(self, answers: Sequence[A]) -> None:
        self.answers = answers
        self.over.set()

    def fail(self, error: TieredCacheError) -> None:
        self.error, self.traceback = error, error.__traceback__


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

    def __init__(self, work: Work[Q, A], limits: Limits, weigh: Callable[[Q], int] = lambda _: 0) -> None:
        self._work = work
        self._limits = limits
        self._weigh = weigh
        self._loops: RunVar[_Gathering[Q, A]] = RunVar(f"tiered_cache.batcher.{id(self)}")

    async def ask(self, questions: Sequence[Q]) -> Sequence[A]:
        """The answers to one caller's questions, which are never split over two exchanges."""
        loop = self._loops.get(None)
        if loop is None:
            loop = _Gathering[Q, A](self._limits.in_flight)
            self._loops.set(loop)
        weight = sum(map(self._weigh, questions))
        while True:
            batch = loop.open
            if batch is None or not self._has_room(batch, len(questions), weight):
                return await self._lead(loop, questions, weight)
            start = len(batch.questions)
            batch.questions.extend(questions)
            batch.weight += weight
            await batch.over.wait()
            if batch.answers is not None:
                return batch.answers[start : start + len(questions)]
            if batch.error is not None:
                # One instance raised by many would collect all their tracebacks.
                raise batch.error.with_traceback(batch.traceback)

    def _has_room(self, batch: _Batch[Q, A], questions: int, weight: int) -> bool:
        return len(batch.questions) + questions <= self._limits.items and batch.weight + weight <= self._limits.bytes

    async def _lead(self, loop: _Gathering[Q, A], questions: Sequence[Q], weight: int) -> Sequence[A]:
        batch = loop.open = _Batch[Q, A](questions, weight)
        try:
            await cancel_shielded_checkpoint()
            async with loop.slots:
                if loop.open is batch:
                    loop.open = None
                await self._work(batch.questions, batch.answer)
        except TieredCacheError as error:
            batch.fail(error)
            raise
        finally:
            if loop.open is batch:
                loop.open = None
            batch.over.set()
        return cast("Sequence[A]", batch.answers)[: len(questions)]
