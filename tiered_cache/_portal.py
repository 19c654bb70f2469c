"""One event loop in one thread of its own, for callers that have none: synchronous ones, and work in the background.

Started by the first that needs it. A synchronous call from a thread that runs an event loop works as well: it blocks
that loop until it returns, as any synchronous call does, and cannot deadlock, since this loop never waits for that one.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import Future
from contextlib import suppress
from contextvars import Context
from typing import Any, TypeVar

import anyio
from anyio.from_thread import BlockingPortal

T = TypeVar("T")

_STOP_SECONDS = 5.0


class _Thread:
    """The running portal."""

    def __init__(self) -> None:
        self._ready: Future[BlockingPortal] = Future()
        self._thread = threading.Thread(target=self._run, name="tiered_cache", daemon=True)
        self._thread.start()
        self.portal = self._ready.result()

    def _run(self) -> None:
        try:
            anyio.run(self._serve)
        except Exception as error:
            if self._ready.done():
                raise
            # Out of file descriptors, it may be. Whoever started it is waiting.
            self._ready.set_exception(RuntimeError(f"no event loop could be started in a thread: {error}"))

    async def _serve(self) -> None:
        async with BlockingPortal() as portal:
            self.loop = asyncio.get_running_loop()
            self._ready.set_result(portal)
            await portal.sleep_until_stopped()

    def stop(self) -> None:
        self.portal.start_task_soon(self.portal.stop, True)
        self._thread.join(_STOP_SECONDS)


_lock = threading.Lock()
_running: _Thread | None = None


def _get() -> _Thread:
    global _running
    thread = _running
    if thread is None:
        with _lock:
            thread = _running = _running or _Thread()
    return thread


def call(work: Callable[..., Awaitable[T]], *args: Any) -> T:
    """Runs `work(*args)` there and returns its result."""
    future = _get().portal.start_task_soon(work, *args)
    try:
        return future.result()
    except BaseException:  # interrupted, it may be: what nobody waits for must not take the lead of a flight
        future.cancel()
        raise


def submit(work: Callable[..., Coroutine[Any, Any, T]], *args: Any) -> Future[T]:
    """Starts `work(*args)` there, from any thread, its own included, and without waiting for its loop to turn.

    Raises RuntimeError where no thread, or no loop, can be started just now.
    """
    # In a context of its own: that of a caller on trio would make anyio take the loop there for trio's.
    loop = _get().loop
    call = work(*args)
    try:
        return Context().run(asyncio.run_coroutine_threadsafe, call, loop)
    except RuntimeError:  # the loop has ended, with the program
        call.close()
        raise


def soon(work: Callable[[], object]) -> None:
    """Calls `work()` on that loop, soon, where it is running; for finalizers: takes no lock and starts no thread."""
    thread = _running
    if thread is not None:
        with suppress(RuntimeError):  # the loop has ended, with the program
            thread.loop.call_soon_threadsafe(work, context=Context())


def _stop() -> None:
    global _running
    thread, _running = _running, None
    if thread is not None:
        thread.stop()


def _forget() -> None:
    """After a fork, in the child: the thread stayed in the parent."""
    global _running, _lock
    _running = None
    _lock = threading.Lock()


atexit.register(_stop)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
