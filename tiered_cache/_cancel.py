"""Work that a cancelled caller does not cut short, and deadlines that a busy loop does not bring forward."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Generator
from contextlib import contextmanager
from typing import Any, Final, TypeVar

import anyio

T = TypeVar("T")

_ON_TIME_SECONDS: Final = 0.005
_EXTENSIONS: Final = 10


@contextmanager
def within(seconds: float) -> Generator[None]:
    """Raises TimeoutError for a block that waits for longer.

    On asyncio, time in which the loop was held up by something else does not count: an answer that came in meanwhile is
    still taken. A crowd that is busy with the last batch of answers would otherwise lose the next.
    """
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        with anyio.fail_after(seconds):
            yield
        return
    with anyio.CancelScope() as scope:
        timer = _Timer(loop, seconds, scope.cancel)
        try:
            yield
        finally:
            timer.handle.cancel()
    if scope.cancelled_caught:
        raise TimeoutError


class _Timer:
    """Calls `expired` after so many seconds in which the loop could turn."""

    def __init__(self, loop: asyncio.AbstractEventLoop, seconds: float, expired: Callable[[], None]) -> None:
        self._loop = loop
        self._expired = expired
        self._due = loop.time() + seconds
        self._extended = 0
        self.handle = loop.call_at(self._due, self._fire)

    def _fire(self) -> None:
        late = self._loop.time() - self._due
        if late < _ON_TIME_SECONDS or self._extended == _EXTENSIONS:
            self._expired()
            return
        self._extended += 1
        self._due = self._loop.time() + late
        self.handle = self._loop.call_at(self._due, self._fire)


async def to_the_end(call: Callable[[], Coroutine[Any, Any, T]], seconds: float | None = None) -> T:
    """What `call()` returns or raises. If its caller is cancelled meanwhile, it ends first, and then the caller is.

    No cancellation reaches it: not that of a cancel scope, and not `Task.cancel` (so `asyncio.wait_for` and
    `asyncio.timeout`) either, from which a shielded scope alone would not protect it. With `seconds`, a deadline: then
    it is cancelled itself, and TimeoutError raised.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:  # on trio there is but one kind of cancellation
        with anyio.fail_after(seconds, shield=True):
            return await call()
    task = asyncio.create_task(call())
    _running.add(task)
    task.add_done_callback(_ended)
    cancelled = await _wait(task, seconds)
    ended = task.done()
    if not ended:
        task.cancel()  # once, not again and again as a cancel scope would: closing a connection takes awaiting
    if cancelled is not None:
        raise cancelled
    if not ended:
        raise TimeoutError
    return task.result()


async def _wait(task: asyncio.Task[Any], seconds: float | None) -> asyncio.CancelledError | None:
    """Returns when the task is done or its time is up; if the caller was cancelled meanwhile, with what to raise."""
    cancelled = None
    loop = asyncio.get_running_loop()
    deadline = None if seconds is None else loop.time() + seconds
    with anyio.CancelScope(shield=True):
        while not task.done():
            left = None if deadline is None else deadline - loop.time()
            if left is not None and left <= 0:
                break
            try:
                await asyncio.wait((task,), timeout=left)
            except asyncio.CancelledError as error:
                cancelled = error
    return cancelled


def _ended(task: asyncio.Task[Any]) -> None:
    _running.discard(task)
    if not task.cancelled():
        task.exception()  # looked at: where nobody waits any more, nobody is to be told of it either


_running: Final[set[asyncio.Task[Any]]] = set()  # a loop holds its tasks weakly
