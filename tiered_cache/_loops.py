"""What belongs to an event loop (connections, above all) is opened on it, kept for it, and closed when it ends."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable
from concurrent.futures import wait
from contextlib import suppress
from typing import Generic, TypeVar

import anyio.to_thread

from ._errors import ConfigurationError
from ._fork import forget_after_fork

T = TypeVar("T")

_CLOSE_ELSEWHERE_SECONDS = 1.0


class PerLoop(Generic[T]):
    """One `T` for every asyncio loop that asks.

    A loop that ends in the ordinary way (`asyncio.run`, a Runner, a server) finalizes its asynchronous generators
    before it closes; one such generator holds each `T` and closes it then, on the loop that it belongs to. So nobody
    has to call `aclose` for connections to be gone when their loop is.
    """

    def __init__(self, open: Callable[[], T], close: Callable[[T], Awaitable[None]]) -> None:  # noqa: A002
        self._open = open
        self._close = close
        self._lock = threading.Lock()
        self._held: dict[asyncio.AbstractEventLoop, tuple[T, AsyncGenerator[None, None]]] = {}
        forget_after_fork(self)

    def get(self) -> T:
        """This loop's `T`. Raises ConfigurationError where no asyncio loop runs (on trio, above all)."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            raise ConfigurationError(
                "redis-py and the asynchronous database drivers need asyncio; "
                "on trio use the embedded tiers: memory:// and sqlite:///file.db"
            ) from None
        held = self._held.get(loop)
        if held is None:
            held = self._open_on(loop)
        return held[0]

    def _open_on(self, loop: asyncio.AbstractEventLoop) -> tuple[T, AsyncGenerator[None, None]]:
        resource = self._open()
        keeper = self._keep(loop, resource)
        with suppress(StopIteration):
            keeper.__anext__().send(None)  # runs it to its yield, which is where the loop learns of it
        with self._lock:
            for ended in [known for known in self._held if known.is_closed()]:
                del self._held[ended]  # closed without finalizing its generators: nothing can be awaited there any more
            self._held[loop] = (resource, keeper)
        return self._held[loop]

    async def _keep(self, loop: asyncio.AbstractEventLoop, resource: T) -> AsyncGenerator[None, None]:
        try:
            yield
        finally:
            with self._lock:
                self._held.pop(loop, None)
            await self._close(resource)

    async def aclose(self) -> None:
        """Closes every `T`: this loop's at once, those of other running loops there, within a second."""
        with self._lock:
            held = list(self._held.items())
        try:
            here = asyncio.get_running_loop()
        except RuntimeError:
            here = None
        # This loop's before anything is awaited, so that nobody else closes it at the same time.
        for loop, (_, keeper) in sorted(held, key=lambda item: item[0] is not here):
            if loop is here:
                await keeper.aclose()
            elif loop.is_running():
                closing = asyncio.run_coroutine_threadsafe(_finish(keeper), loop)
                await anyio.to_thread.run_sync(wait, [closing], _CLOSE_ELSEWHERE_SECONDS)

    def forget(self) -> None:
        """After a fork, in the child: what was open belongs to the parent and must be neither used nor closed."""
        self._lock = threading.Lock()
        _of_the_parent.append(self._held)
        self._held = {}


async def _finish(keeper: AsyncGenerator[None, None]) -> None:
    await keeper.aclose()


_of_the_parent: list[object] = []  # kept alive: finalizers would talk to servers on the parent's connections
