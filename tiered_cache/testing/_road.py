"""One connection by way of the proxy, and what all of them are told."""

from __future__ import annotations

import asyncio
import random
import socket
import struct
from contextlib import suppress
from typing import Final

_PIECE_BYTES: Final = 1 << 16
_PIECES_UNDER_WAY: Final = 1024
#: When they are due, and what they hold; an empty one is the end.
Pieces = asyncio.Queue[tuple[float, bytes]]

_WITH_A_RESET: Final = struct.pack("ii", 1, 0)


class Traffic:
    """What holds for every connection just now. Plain values may be set from any thread."""

    def __init__(self, dice: random.Random) -> None:
        self.accepted = 0
        self.received = 0
        self.delay = (0.0, 0.0)
        self.split = False
        self.silent = False
        self.flowing = asyncio.Event()
        self._dice = dice

    def seconds(self) -> float:
        """How long the next piece of an answer is held back."""
        return self._dice.uniform(*self.delay)

    def parts(self, piece: bytes) -> list[bytes]:
        """What a piece of an answer comes in."""
        if not self.split:
            return [piece]
        middle = self._dice.randrange(len(piece) + 1)
        return [part for part in (piece[:middle], piece[middle:]) if part]


class Road:
    """A connection of a client, and the one that is made to the server for it."""

    def __init__(self, client: socket.socket, traffic: Traffic) -> None:
        self.silent = traffic.silent
        self._client = client
        self._server: socket.socket | None = None
        self._traffic = traffic

    def reset(self) -> None:
        """Both ends are told of a broken connection when it is closed, and not of one that was ended in order."""
        for end in (self._client, self._server):
            if end is not None:
                with suppress(OSError):
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _WITH_A_RESET)

    async def serve(self, host: str, port: int) -> None:
        """Carries both ways until both ends have closed, or either breaks off."""
        self._client.setblocking(False)
        try:
            if self.silent:
                await self._swallow()
                return
            self._server = await _connected(host, port)
            pieces: Pieces = asyncio.Queue(_PIECES_UNDER_WAY)
            async with asyncio.TaskGroup() as ways:
                ways.create_task(self._up(self._server))
                ways.create_task(self._down(self._server, pieces))
                ways.create_task(self._hand_over(pieces))
        except* OSError:
            self.reset()
        finally:
            for end in (self._client, self._server):
                if end is not None:
                    end.close()

    async def _swallow(self) -> None:
        while await self._from_client():
            pass

    async def _from_client(self) -> bytes:
        piece = await asyncio.get_running_loop().sock_recv(self._client, _PIECE_BYTES)
        self._traffic.received += len(piece)
        return piece

    async def _up(self, server: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while piece := await self._from_client():
            await self._traffic.flowing.wait()
            await loop.sock_sendall(server, piece)
        await self._traffic.flowing.wait()
        server.shutdown(socket.SHUT_WR)

    async def _down(self, server: socket.socket, pieces: Pieces) -> None:
        loop = asyncio.get_running_loop()
        while piece := await loop.sock_recv(server, _PIECE_BYTES):
            for part in self._traffic.parts(piece):
                await pieces.put((loop.time() + self._traffic.seconds(), part))
        await pieces.put((loop.time(), b""))

    async def _hand_over(self, pieces: Pieces) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due, piece = await pieces.get()
            await asyncio.sleep(due - loop.time())
            await self._traffic.flowing.wait()
            if not piece:
                self._client.shutdown(socket.SHUT_WR)
                return
            await loop.sock_sendall(self._client, piece)


async def _connected(host: str, port: int) -> socket.socket:
    loop = asyncio.get_running_loop()
    failure = OSError(f"no address for {host}")
    for family, kind, protocol, _, address in await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        server = socket.socket(family, kind, protocol)
        server.setblocking(False)
        try:
            await loop.sock_connect(server, address)
            return server
        except OSError as error:
            failure = error
            server.close()
        except BaseException:
            server.close()
            raise
    raise failure


def port_holder(port: int) -> socket.socket:
    """A socket on this port of 127.0.0.1 (0: a free one), which others of this process may listen on beside it.

    As long as nobody listens connections are refused, and the port is nobody else's.
    """
    holder = socket.socket()
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    holder.setblocking(False)
    holder.bind(("127.0.0.1", port))
    return holder
