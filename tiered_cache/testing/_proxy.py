"""A road to a server that can be made slow, silent, broken or closed without touching the server."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from contextlib import suppress
from contextvars import Context
from socket import socket
from typing import Any, Final, Self, TypeVar
from urllib.parse import urlsplit, urlunsplit

import anyio
import anyio.to_thread

from ._road import Road, Traffic, port_holder

T = TypeVar("T")

_PATIENCE_SECONDS: Final = 20.0
_DEFAULT_PORTS: Final = {"redis": 6379, "rediss": 6379, "postgresql": 5432, "postgres": 5432}


class SlowProxy:
    """A TCP proxy on 127.0.0.1, in a thread of its own, for `with` and `async with`.

        with SlowProxy.to("redis://localhost:6379/0") as road:
            front_url = road.url("redis://localhost:6379/0")     # the same, by way of the proxy
            road.delay(0.05)         # every piece of an answer comes so much later
            road.freeze()            # connections stay and new ones are taken, but nothing passes until `thaw`
            road.half_open()         # new connections are taken and never answered; those there are go on
            road.cut()               # every connection breaks off
            road.refuse()            # the port takes no connection any more; those there are go on
            road.restore()           # as in the beginning

    What a method says is so when it returns. That takes a moment only, so that they can be called from coroutines as
    well as from any thread.
    """

    def __init__(self, host: str, port: int, *, seed: int = 0) -> None:
        """The way to this server. `seed` is that of uneven delays."""
        #: Where the proxy listens, the same from entering to leaving it.
        self.port: int = 0
        self._target = (host, port)
        self._dice = random.Random(seed)  # noqa: S311 (repeatable, not secret)

    @classmethod
    def to(cls, url: str, *, seed: int = 0) -> Self:
        """The way to the server that a URL of Redis or PostgreSQL names. Raises ValueError where it names none."""
        parts = urlsplit(url)
        port = parts.port or _DEFAULT_PORTS.get(parts.scheme.partition("+")[0])
        if parts.hostname is None or port is None:
            raise ValueError("a proxy needs a URL with a host and a port")
        return cls(parts.hostname, port, seed=seed)

    def url(self, url: str) -> str:
        """The same URL, by way of this proxy."""
        parts = urlsplit(url)
        login, at, _ = parts.netloc.rpartition("@")
        return urlunsplit(parts._replace(netloc=f"{login}{at}127.0.0.1:{self.port}"))

    # --- what can be seen ---------------------------------------------------------------------------------------------

    @property
    def accepted(self) -> int:
        """How many connections it has taken."""
        return self._traffic.accepted

    @property
    def connections(self) -> int:
        """How many of them there still are."""
        return len(self._roads)

    @property
    def received(self) -> int:
        """How many bytes have come from clients, passed on or not."""
        return self._traffic.received

    # --- what can be done ---------------------------------------------------------------------------------------------

    def delay(self, seconds: float, most: float | None = None, *, split: bool = False) -> None:
        """Each piece of an answer comes so much later, or (`most`) by any time between the two.

        With `split`, each comes in two parts, cut anywhere and delayed each for itself. Order is kept.
        """
        self._traffic.delay = (seconds, seconds if most is None else most)
        self._traffic.split = split

    def freeze(self) -> None:
        """Nothing passes, not even that a connection was closed. New connections are taken."""
        self._call(self._set_flowing(flowing=False))

    def thaw(self) -> None:
        """What was held up by `freeze` passes."""
        self._call(self._set_flowing(flowing=True))

    def half_open(self) -> None:
        """New connections are taken, and nobody ever answers on them."""
        self._traffic.silent = True

    def cut(self) -> None:
        """Every connection breaks off, with a reset; new ones are taken."""
        self._call(self._cut())

    def refuse(self) -> None:
        """New connections are refused."""
        self._call(self._stop_listening())

    def restore(self) -> None:
        """As in the beginning: prompt, flowing, listening. What was cut stays so, half-open connections are ended."""
        self._traffic.delay, self._traffic.split, self._traffic.silent = (0.0, 0.0), False, False
        self._call(self._restore())

    # --- its life -----------------------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        self._traffic = Traffic(self._dice)
        self._roads: dict[Road, asyncio.Task[None]] = {}
        self._listener: socket | None = None
        self._holder = port_holder(0)
        self.port = self._holder.getsockname()[1]
        ready: Future[asyncio.AbstractEventLoop] = Future()
        # In a context of its own: that of a caller on trio would be taken for the loop's.
        run = (asyncio.run, self._run(ready))
        self._thread = threading.Thread(target=Context().run, args=run, name="SlowProxy", daemon=True)
        self._thread.start()
        self._loop = ready.result(_PATIENCE_SECONDS)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join(_PATIENCE_SECONDS)
        self._holder.close()

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(self, *_: object) -> None:
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(self.__exit__)

    def _call(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(_PATIENCE_SECONDS)

    # All that follows runs on the proxy's own loop.

    async def _run(self, ready: Future[asyncio.AbstractEventLoop]) -> None:
        self._over = asyncio.Event()
        self._traffic.flowing.set()
        await self._listen()
        ready.set_result(asyncio.get_running_loop())
        await self._over.wait()
        await self._stop_listening()
        await self._cut()

    async def _listen(self) -> None:
        listener = self._listener = port_holder(self.port)
        listener.listen(128)
        asyncio.get_running_loop().add_reader(listener, self._accept, listener)

    def _accept(self, listener: socket) -> None:
        """At once, not in a task: one that is cancelled may hold a connection that nobody would close."""
        try:
            client, _ = listener.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return
        client.setblocking(False)
        self._traffic.accepted += 1
        road = Road(client, self._traffic)

        def over(_: object) -> None:
            self._roads.pop(road, None)
            client.close()  # it does so itself, unless it was ended before it began

        task = self._roads[road] = asyncio.create_task(road.serve(*self._target))
        task.add_done_callback(over)

    async def _stop_listening(self) -> None:
        listener, self._listener = self._listener, None
        if listener is not None:
            asyncio.get_running_loop().remove_reader(listener)
            listener.close()

    async def _cut(self, *, silent_only: bool = False) -> None:
        for road, task in list(self._roads.items()):
            if road.silent or not silent_only:
                road.reset()
                await _ended(task)

    async def _set_flowing(self, *, flowing: bool) -> None:
        if flowing:
            self._traffic.flowing.set()
        else:
            self._traffic.flowing.clear()

    async def _restore(self) -> None:
        await self._set_flowing(flowing=True)
        await self._cut(silent_only=True)
        if self._listener is None:
            await self._listen()


async def _ended(task: asyncio.Task[None]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
