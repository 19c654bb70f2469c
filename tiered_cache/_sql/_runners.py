"""Where statements run: on the event loop of the caller, or in a worker thread.

A call that has begun is not cut short by the cancellation of its caller: it ends, within the deadline of the store, and
the caller is cancelled then. A connection is therefore never left in the middle of an answer, which is how drivers
have leaked connections and have handed one caller what was meant for another.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Coroutine, Mapping
from contextlib import nullcontext
from time import monotonic
from typing import Any, Final, NamedTuple, Protocol, TypeVar
from weakref import WeakSet, finalize

import anyio
import anyio.to_thread
from anyio.lowlevel import RunVar
from sqlalchemy import Connection, Dialect, Engine
from sqlalchemy.ext.asyncio import AsyncEngine

from tiered_cache._cancel import to_the_end
from tiered_cache._fork import forget_after_fork
from tiered_cache._loops import PerLoop

T = TypeVar("T")

_GOODBYE_SECONDS: Final = 2.0


class Attempt:
    """One call on its way: how far it has come, and whether anybody still waits for it. For any thread."""

    def __init__(self, timeout: float) -> None:
        self._deadline = monotonic() + timeout
        self._given_up = False
        self._lock = threading.Lock()
        #: Whether a connection was had, so that statements may have been sent.
        self.begun = False

    @property
    def left(self) -> float:
        """Seconds until the deadline."""
        return max(0.0, self._deadline - monotonic())

    def begin(self) -> None:
        """A connection is there. Raises TimeoutError where the caller has been told already that nothing happened."""
        with self._lock:
            self.check()
            self.begun = True

    def check(self) -> None:
        """Raises TimeoutError where nobody waits any more: what was not committed in time must never be."""
        if self._given_up:
            raise TimeoutError

    def give_up(self) -> None:
        with self._lock:
            self._given_up = True


Work = Callable[[Connection, Attempt], T]


class Runner(Protocol):
    async def run(self, work: Work[T], attempt: Attempt, *, changing: bool) -> T:
        """Gives `work` a connection where a statement is committed by itself (on SQLite: if it changes nothing).

        Raises TimeoutError at the deadline, and what a driver raises.
        """
        ...

    async def aclose(self) -> None: ...


class _Opened(NamedTuple):
    engine: AsyncEngine
    busy: set[asyncio.Task[Any]]


class OnLoop:
    """An asynchronous engine for every loop. All come from one, and have its dialect in common."""

    def __init__(
        self,
        open: Callable[[], AsyncEngine],  # noqa: A002
        *,
        one_writer: bool,
        options: Mapping[str, str] | None = None,
    ) -> None:
        self._opened = PerLoop(lambda: _Opened(open(), set()), _close)
        self._options = options or {}
        self._turn = _Turn(1) if one_writer else None

    async def run(self, work: Work[T], attempt: Attempt, *, changing: bool) -> T:
        engine, busy = self._opened.get()
        turn = self._turn.limiter if self._turn is not None and changing else nullcontext()

        async def execute() -> T:
            task = asyncio.current_task()
            assert task is not None
            busy.add(task)
            try:
                return await use()
            finally:
                busy.discard(task)

        async def use() -> T:
            if engine.dialect not in _introduced:
                await _introduce(engine)
            pool = engine.pool
            async with turn, engine.connect() as conn:
                try:
                    return await conn.run_sync(lambda conn: work(conn.execution_options(**self._options), attempt))
                finally:
                    if engine.pool is not pool:  # closed meanwhile: nobody would close this one
                        await conn.invalidate()

        return await _to_the_end(execute, attempt)

    async def aclose(self) -> None:
        await self._opened.aclose()


async def _close(opened: _Opened) -> None:
    """Closes connections one by one, each with an orderly goodbye; a server that does not answer gets none."""
    given_up = [task for task in opened.busy if task.cancelling()]
    if given_up:  # they are about to close what they used
        await asyncio.wait(given_up, timeout=_GOODBYE_SECONDS)
    seconds = _GOODBYE_SECONDS
    while True:
        try:
            return await asyncio.wait_for(opened.engine.dispose(), seconds)
        except TimeoutError:  # cut off, and out of the pool: on to the next
            seconds = _GOODBYE_SECONDS / 20


async def _introduce(engine: AsyncEngine) -> None:
    """A dialect gets to know its server by the first connection ever made, and is of no use until it does.

    Within one pool SQLAlchemy sees to that. Engines of other loops have pools of their own and the dialect in common.
    """
    while engine.dialect not in _introduced:
        if not _introducing.acquire(blocking=False):
            await anyio.sleep(0.005)
            continue
        try:
            async with engine.connect():
                _introduced.add(engine.dialect)
        finally:
            _introducing.release()


class InThreads:
    """A synchronous engine in worker threads: one hop a call, at most `threads` of them for each loop.

    `lone`: all threads have to share one connection. `memory`: what is in it is not shared with a forked child.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        threads: int,
        one_writer: bool,
        owned: bool,
        lone: bool = False,
        memory: bool = False,
        options: Mapping[str, str] | None = None,
    ) -> None:
        self._engine = engine
        self._turn = _Turn(threads)
        self._turn_alone = _Turn(1)
        self._lock = threading.Lock()
        self._one_writer = one_writer
        self._lone = lone
        self._memory = memory
        self._owned = owned
        self._options = options or {}
        if owned:
            finalize(self, engine.dispose)
        forget_after_fork(self)

    async def run(self, work: Work[T], attempt: Attempt, *, changing: bool) -> T:
        alone = self._lone or (changing and self._one_writer)
        limiter = self._turn_alone.limiter if alone else self._turn.limiter
        call = self._execute_alone if alone else self._execute

        async def execute() -> T:
            return await anyio.to_thread.run_sync(call, work, attempt, abandon_on_cancel=True, limiter=limiter)

        return await _to_the_end(execute, attempt)

    def _execute_alone(self, work: Work[T], attempt: Attempt) -> T:
        # Who waits here is woken at once; SQLite's own way to wait for a writer is to look again every so often.
        if not self._lock.acquire(timeout=attempt.left):
            raise TimeoutError
        try:
            return self._execute(work, attempt)
        finally:
            self._lock.release()

    def _execute(self, work: Work[T], attempt: Attempt) -> T:
        pool = self._engine.pool
        with self._engine.connect() as conn:
            try:
                return work(conn.execution_options(**self._options), attempt)
            finally:
                if self._engine.pool is not pool:  # closed meanwhile: nobody would close this one
                    conn.invalidate()

    async def aclose(self) -> None:
        if self._owned and not self._memory:
            await anyio.to_thread.run_sync(self._engine.dispose)

    def forget(self) -> None:
        """After a fork, in the child: the parent's connections are neither used nor closed.

        A database in memory has no other connection and came along as a copy, which is as it should be unless a thread
        of the parent was at work in it.
        """
        in_use = self._lock.locked()
        self._lock = threading.Lock()
        if in_use or not self._memory:
            _of_the_parent.append(self._engine.pool)
            self._engine.dispose(close=False)


class _Turn:
    """A limiter for each loop."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._limiters: RunVar[anyio.CapacityLimiter] = RunVar("tiered_cache.sql")

    @property
    def limiter(self) -> anyio.CapacityLimiter:
        limiter = self._limiters.get(None)
        if limiter is None:
            limiter = anyio.CapacityLimiter(self._most)
            self._limiters.set(limiter)
        return limiter


async def _to_the_end(call: Callable[[], Coroutine[Any, Any, T]], attempt: Attempt) -> T:
    try:
        return await to_the_end(call, attempt.left)
    finally:
        attempt.give_up()


_introduced: Final[WeakSet[Dialect]] = WeakSet()
_introducing = threading.Lock()
_of_the_parent: Final[list[object]] = []  # kept alive: finalizers would talk to servers on the parent's connections


def _forget() -> None:
    """After a fork, in the child."""
    global _introducing
    _introducing = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
