"""Concurrent callers of one loop share one exchange.

The first to ask leads: it lets the loop run once, takes what has gathered by then, and makes the exchange for all. No
timer and no background task. While as many exchanges as allowed are under way, the next one goes on gathering.

Who waited is woken a few at a time, by what their answers weigh, with turns of the loop in between: what they do next
(decoding, above all) would else hold up everybody else on that loop.

An `eager` batcher spares who seems to be alone that turn of the loop: who asks while nothing is under way, when the
last one had no company either, and the loop has turned since that began.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from time import monotonic
from types import TracebackType
from typing import Final, Generic, NamedTuple, Protocol, TypeVar, cast
from weakref import WeakKeyDictionary

import anyio
from anyio.lowlevel import cancel_shielded_checkpoint, checkpoint_if_cancelled

from ._cancel import to_the_end
from ._errors import TieredCacheError
from ._slots import Slots

Q = TypeVar("Q")
A = TypeVar("A")
B = TypeVar("B", contravariant=True)


class Reply(Protocol[B]):
    """To be called with one answer a question, in their order. `since`: when the first of the callers asked.

    By that (of `time.monotonic`) it can be told whether they have waited for a silent tier once, for their turn.
    """

    @property
    def since(self) -> float: ...

    def __call__(self, answers: Sequence[B], /) -> None: ...


Work = Callable[[Sequence[Q], Reply[A]], Awaitable[None]]

# What those weigh, in bytes, who are woken in one turn of the loop: a millisecond of decoding, or so.
_WOKEN_BYTES: Final = 128 * 1024


class Limits(NamedTuple):
    """Of one batch: how many questions, and how many bytes by the estimate of `weigh`. Of one loop: batches under way.

    A single caller's questions are never split, however many there are.
    """

    items: int
    bytes: int
    in_flight: int


class _Crowd:
    """Who is woken together."""

    def __init__(self, loop: asyncio.AbstractEventLoop | None) -> None:
        self._loop = loop
        self._futures: list[asyncio.Future[None]] = []
        self._event = None if loop else anyio.Event()

    def wait(self) -> Awaitable[None]:
        if self._event is not None:
            return self._event.wait()
        self._futures.append(future := cast("asyncio.AbstractEventLoop", self._loop).create_future())
        return future  # anyio's event costs four times as much

    def wake(self) -> None:
        if self._event is not None:
            self._event.set()
        for future in self._futures:
            if not future.done():  # its caller was cancelled
                future.set_result(None)


class _Batch(Generic[Q, A]):
    """What several callers ask together. Once `over`: answered, failed, or (with neither) abandoned by its leader."""

    def __init__(self, loop: asyncio.AbstractEventLoop | None, questions: Sequence[Q], weight: int) -> None:
        self._loop = loop
        self.questions = list(questions)
        self.weight = weight
        self.callers = 1
        self.since = monotonic()
        self.answers: Sequence[A] | None = None
        self.error: TieredCacheError | None = None
        self.traceback: TracebackType | None = None
        self._over = False
        self._waiting: list[_Crowd] = []
        self._room = 0

    async def over(self, weight: int) -> None:
        """Returns in the turn of those who, in their order, weigh no more than may be woken at once."""
        if self._over:
            return
        if self._room <= 0:
            self._waiting.append(_Crowd(self._loop))
            self._room = _WOKEN_BYTES
        self._room -= max(1, weight)
        await self._waiting[-1].wait()

    def end(self) -> None:
        if not self._over:
            self._over = True
            self._waiting.reverse()
            self._wake()

    def _wake(self) -> None:
        if self._waiting:
            self._waiting.pop().wake()
        if not self._waiting:
            return
        if self._loop:
            self._loop.call_soon(self._wake)
        else:  # trio shares out its turns by itself
            self._wake()

    def __call__(self, answers: Sequence[A], /) -> None:
        self.answers = answers
        self.end()

    def fail(self, error: TieredCacheError) -> None:
        self.error, self.traceback = error, error.__traceback__


class _Gathering(Generic[Q, A]):
    """One loop's state: the batch that may still be joined, and the exchanges that may be under way."""

    def __init__(self, in_flight: int) -> None:
        self.open: _Batch[Q, A] | None = None
        self.slots = Slots(in_flight)
        self.under_way = 0
        self._lonely = False  # whether the last exchange was for a single caller
        self._turned = False  # whether the loop has turned since it began
        try:
            self.loop = asyncio.get_running_loop()
        except RuntimeError:
            self.loop = None

    async def gather(self) -> None:
        """Lets all run that are ready."""
        if self.loop:
            await asyncio.sleep(0)  # anyio's checkpoint has a cancel scope, which costs more than the turn
        else:
            await cancel_shielded_checkpoint()
            await cancel_shielded_checkpoint()  # trio takes them in random order
            await checkpoint_if_cancelled()

    @property
    def alone(self) -> bool:
        return self._lonely and self._turned and not self.under_way

    def began(self, *, eager: bool) -> None:
        self.under_way += 1
        if eager and self.loop:
            self._turned = False
            self.loop.call_soon(self._turn)

    def _turn(self) -> None:
        self._turned = True

    def ended(self, *, alone: bool) -> None:
        self.under_way -= 1
        self._lonely = alone


class Batcher(Generic[Q, A]):
    """Shares calls of `work(questions, reply)`.

    `work` may go on after that; only its leader waits for the rest. An error that it raises before is raised to every
    caller. A leader that is cancelled before fails nobody else: the others ask again, together.

    With `binding` questions, a caller who is cancelled while others ask for him is so once that is over: what he does
    next must not be overtaken by it.
    """

    def __init__(
        self,
        work: Work[Q, A],
        limits: Limits,
        weigh: Callable[[Sequence[Q]], int] = lambda _: 0,
        *,
        eager: bool = False,
        binding: bool = False,
    ) -> None:
        self._work = work
        self._eager = eager
        self._binding = binding
        self._limits = limits
        self._weigh = weigh
        self._loops: WeakKeyDictionary[object, _Gathering[Q, A]] = WeakKeyDictionary()

    async def ask(self, questions: Sequence[Q]) -> Sequence[A]:
        """The answers to one caller's questions, which are never split over two exchanges."""
        loop = self._here()
        weight = self._weigh(questions)
        while True:
            batch = loop.open
            if batch is None or not self._has_room(batch, len(questions), weight):
                return await self._lead(loop, questions, weight)
            start = len(batch.questions)
            batch.questions.extend(questions)
            batch.weight += weight
            batch.callers += 1
            try:
                await batch.over(weight)
            except BaseException:
                if self._binding:
                    await to_the_end(partial(batch.over, 0))
                raise
            if batch.answers is not None:
                return batch.answers[start : start + len(questions)]
            if batch.error is not None:
                # One instance raised by many would collect all their tracebacks.
                raise batch.error.with_traceback(batch.traceback)

    def _here(self) -> _Gathering[Q, A]:
        try:
            token: object = asyncio.get_running_loop()
        except RuntimeError:
            token = sys.modules["trio"].lowlevel.current_trio_token()
        loop = self._loops.get(token)
        if loop is None:
            loop = self._loops[token] = _Gathering[Q, A](self._limits.in_flight)
        return loop

    def _has_room(self, batch: _Batch[Q, A], questions: int, weight: int) -> bool:
        return len(batch.questions) + questions <= self._limits.items and batch.weight + weight <= self._limits.bytes

    async def _lead(self, loop: _Gathering[Q, A], questions: Sequence[Q], weight: int) -> Sequence[A]:
        batch = loop.open = _Batch[Q, A](loop.loop, questions, weight)
        try:
            if not loop.alone:
                await loop.gather()
            async with loop.slots:
                if loop.open is batch:
                    loop.open = None
                loop.began(eager=self._eager)
                try:
                    await self._work(batch.questions, batch)
                finally:
                    loop.ended(alone=batch.callers == 1)
        except TieredCacheError as error:
            batch.fail(error)
            raise
        finally:
            if loop.open is batch:
                loop.open = None
            batch.end()
        return cast("Sequence[A]", batch.answers)[: len(questions)]
