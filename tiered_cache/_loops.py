"""What belongs to an event loop (connections, above all) is opened on it, kept for it, and closed when it ends."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from concurrent.futures import wait
from contextlib import suppress
from typing import Generic, TypeVar
from weakref import finalize

import anyio.to_thread

from ._errors import ConfigurationError
from ._fork import forget_after_fork

T = TypeVar("T")

Keeper = AsyncGenerator[None, None]

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
        self._held: dict[asyncio.AbstractEventLoop, tuple[T, Keeper]] = {}
        forget_after_fork(self)
        finalize(self, _release, self._held).atexit = False

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

    def _open_on(self, loop: asyncio.AbstractEventLoop) -> tuple[T, Keeper]:
        resource = self._open()
        keeper = _keep(self._held, loop, resource, self._close)
        with suppress(StopIteration):
            keeper.__anext__().send(None)  # runs it to its yield, which is where the loop learns of it
        with self._lock:
            for ended in [known for known in list(self._held) if known.is_closed()]:
                # Closed without finalizing its generators: nothing can be awaited there any more.
                _keepers.discard(self._held.pop(ended)[1])
            self._held[loop] = (resource, keeper)
            _keepers.add(keeper)
        return resource, keeper

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


async def _keep(
    held: dict[asyncio.AbstractEventLoop, tuple[T, Keeper]],
    loop: asyncio.AbstractEventLoop,
    resource: T,
    close: Callable[[T], Awaitable[None]],
) -> Keeper:
    try:
        yield
    finally:
        _, keeper = held.pop(loop, (None, None))
        _keepers.discard(keeper)
        await close(resource)


def _release(held: Mapping[asyncio.AbstractEventLoop, tuple[object, Keeper]]) -> None:
    """What the loops held for an owner that is no more."""
    for loop, (_, keeper) in list(held.items()):
        if not loop.is_closed():
            asyncio.run_coroutine_threadsafe(_finish(keeper), loop)


async def _finish(keeper: Keeper) -> None:
    await keeper.aclose()


# Alive until they have closed what they hold. Left to the garbage collector together with their owner, they would find
# connections that it has begun to take apart.
_keepers: set[Keeper | None] = set()

_of_the_parent: list[object] = []  # kept alive: finalizers would talk to servers on the parent's connections
