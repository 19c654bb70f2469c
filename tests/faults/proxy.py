"""A TCP proxy on the loop of the test: makes a server slow, silent or unreachable without touching it.

async with Proxy("127.0.0.1", 6379) as proxy:       proxy.port
    proxy.delay = 0.1       every reply comes so much later
    proxy.hush()            connections stay, new ones are taken, nothing passes
    proxy.resume()
    await proxy.refuse()    all connections are reset, and new ones refused
    await proxy.accept()    again, on the same port
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from types import TracebackType
from typing import Final, Self

_CHUNK: Final = 1 << 16


class Proxy:
    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._server: asyncio.Server | None = None
        self._relays: set[asyncio.Task[None]] = set()
        self._passing = asyncio.Event()
        self._passing.set()
        self.port = 0
        self.delay = 0.0

    async def __aenter__(self) -> Self:
        await self.accept()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.refuse()

    @property
    def relays(self) -> int:
        """How many connections pass through it."""
        return len(self._relays)

    def hush(self) -> None:
        self._passing.clear()

    def resume(self) -> None:
        self._passing.set()

    async def accept(self) -> None:
        """Takes connections; the first time on a free port."""
        if self._server is None:
            self._server = await asyncio.start_server(self._relay, "127.0.0.1", self.port)
            self.port = self._server.sockets[0].getsockname()[1]

    async def refuse(self) -> None:
        """Returns when no connection is left."""
        server, self._server = self._server, None
        if server is not None:
            server.close()
        relays = list(self._relays)
        for relay in relays:
            relay.cancel()
        if relays:
            await asyncio.wait(relays)

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._relays.add(task)
        far: asyncio.StreamWriter | None = None
        # Cancelled by `refuse` alone, which waits for it; asyncio's server would report a cancelled one.
        with suppress(OSError, asyncio.CancelledError):
            try:
                await self._passing.wait()
                far_reader, far = await asyncio.open_connection(*self._target)
                there = asyncio.create_task(self._copy(reader, far, late=False))
                back = asyncio.create_task(self._copy(far_reader, writer, late=True))
                try:
                    await asyncio.wait((there, back), return_when=asyncio.FIRST_COMPLETED)
                finally:
                    there.cancel()
                    back.cancel()
                    await asyncio.wait((there, back))
            finally:
                self._relays.discard(task)
                for end in (writer, far):
                    if end is not None:
                        end.transport.abort()

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, late: bool) -> None:
        """Ends with its connection; who waits for it asks no more than that."""
        loop = asyncio.get_running_loop()
        due = 0.0
        with suppress(OSError, asyncio.CancelledError):
            while data := await reader.read(_CHUNK):
                await self._passing.wait()
                due = max(due, loop.time() + (self.delay if late else 0.0))  # in order, however the delay changes
                if due > loop.time():
                    loop.call_at(due, _write, writer, data)
                else:
                    writer.write(data)
                    await writer.drain()


def _write(writer: asyncio.StreamWriter, data: bytes) -> None:
    if not writer.transport.is_closing():
        writer.write(data)
