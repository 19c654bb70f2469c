"""Where a call is stopped until a test lets it go on; between any event loops and threads."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

import anyio

PATIENCE_SECONDS: Final = 20.0


class _Signal:
    """An event that any thread may set, and that tasks of any loop may wait for."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._set = False
        self._waiting: list[Callable[[], None]] = []

    def set(self) -> None:
        with self._lock:
            self._set = True
            waiting, self._waiting = self._waiting, []
        for wake in waiting:
            wake()

    async def wait(self) -> None:
        event = anyio.Event()
        with self._lock:
            if self._set:
                event.set()
            else:
                self._waiting.append(_waker(event))
        await event.wait()


def _waker(event: anyio.Event) -> Callable[[], None]:
    loop, call_there = _here()

    def wake() -> None:
        if _here()[0] is loop:
            event.set()
        else:
            with suppress(RuntimeError):  # that loop has ended, and who waited with it
                call_there(event.set)

    return wake


def _here() -> tuple[object, Callable[[Callable[[], None]], Any]]:
    """The loop of this thread, if there is one, and how to call something on it from another thread."""
    with suppress(RuntimeError):
        loop = asyncio.get_running_loop()
        return loop, loop.call_soon_threadsafe
    with suppress(KeyError, RuntimeError):
        token = sys.modules["trio"].lowlevel.current_trio_token()
        return token, token.run_sync_soon
    return None, lambda call: call()


class Gate:
    """Stops the call that comes to it until it is opened.

    gate = store.stop("read", "after")
    ...                                 # somebody reads
    await gate.reached()
    gate.open()
    """

    def __init__(self) -> None:
        self._reached = _Signal()
        self._opened = _Signal()

    async def reached(self) -> None:
        """Returns once a call has come to it. Raises TimeoutError after 20 seconds."""
        with anyio.fail_after(PATIENCE_SECONDS):
            await self._reached.wait()

    def open(self) -> None:
        """Lets the call go on, from any thread."""
        self._opened.set()

    async def wait(self) -> None:
        """What the stopped call does."""
        self._reached.set()
        await self._opened.wait()
