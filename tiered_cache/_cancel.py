"""Work that a cancelled caller does not cut short."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Final, TypeVar

import anyio

T = TypeVar("T")


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
