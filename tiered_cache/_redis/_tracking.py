"""Being told by Redis which keys change: CLIENT TRACKING in broadcast mode, on a connection that does nothing else.

The connection is redirected to itself and subscribed to where Redis then says it, in RESP2, where all of it is plain
arrays to every release of redis-py. What push messages of RESP3 become depends on the release and on the parser.
Redis 6.2 and later allow it, and answer a PING in its turn: whatever had changed before it was sent has been told
before it is answered.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple, cast

import anyio
from redis.exceptions import RedisError, ResponseError

from tiered_cache._errors import FrontUnavailableError

from ._link import Connection, RedisLink, dropped, packed, unavailable

_CHANNEL: Final = b"__redis__:invalidate"
_SETUP_SECONDS: Final = 2.0


class Changed(NamedTuple):
    """Keys that may hold something else now; None: any key may."""

    keys: Sequence[bytes] | None


class Tracking:
    """Hears of every change of the keys that begin with a prefix, by whomever. Belongs to the loop that opened it."""

    def __init__(self, connection: Connection, place: str) -> None:
        self._connection = connection
        self._place = place

    async def ping(self) -> None:
        """Asks for an answer, to be heard in its turn. Raises FrontUnavailableError where the connection is gone."""
        try:
            await self._connection.send_packed_command(packed((b"PING",)))
        except (RedisError, OSError) as error:
            raise unavailable(self._place, error) from error

    async def hear(self) -> Changed | None:
        """Waits for the next message; None is the answer to a ping.

        Raises FrontUnavailableError where the connection is gone, or makes no sense.
        """
        try:
            message = await self._connection.read_response()
        except (RedisError, OSError) as error:
            raise unavailable(self._place, error) from error
        match message:
            case [b"message", _, None]:
                return Changed(None)
            case [b"message", _, [*keys]]:
                return Changed(cast("list[bytes]", keys))
            case [b"pong", _]:
                return None
            case _:
                raise FrontUnavailableError(f"Redis at {self._place} said what nobody had asked", failure="protocol")

    async def aclose(self) -> None:
        await dropped(self._connection)


async def track(link: RedisLink, prefix: bytes) -> Tracking:
    """Raises FrontUnavailableError where Redis is not there, or refuses."""
    connection = await link.connected()
    try:
        with anyio.fail_after(_SETUP_SECONDS):
            mine: int = await _ask(connection, b"CLIENT", b"ID")
            options = (b"REDIRECT", b"%d" % mine, b"BCAST", b"PREFIX", prefix)
            await _ask(connection, b"CLIENT", b"TRACKING", b"ON", *options)
            await _ask(connection, b"SUBSCRIBE", _CHANNEL)
    except BaseException as error:
        await dropped(connection)
        if isinstance(error, ResponseError):
            raise FrontUnavailableError(
                f"Redis at {link.place} does not say which keys change ({type(error).__name__}): that takes 6.2 or "
                f"later with CLIENT TRACKING, and a user with CLIENT, PING, and SUBSCRIBE of {_CHANNEL.decode()}"
            ) from error
        if isinstance(error, RedisError | OSError):  # TimeoutError is an OSError
            raise unavailable(link.place, error) from error
        raise
    return Tracking(connection, link.place)


async def _ask(connection: Connection, *command: bytes) -> Any:
    await connection.send_packed_command(packed(command))
    return await connection.read_response()
