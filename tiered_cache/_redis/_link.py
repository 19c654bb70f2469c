"""Commands to one Redis, from any event loop, over a few connections of redis-py that are kept.

redis-py's own pools and clients are passed by. What matters here differs between its releases, or is not promised:
a call cancelled or timed out at any point costs its connection and nothing else, one deadline covers an exchange with
all that belongs to it, and nothing is retried but once, where the server had closed a connection that was kept.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol, cast

import anyio
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import InvalidResponse, NoScriptError, RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from tiered_cache._cancel import within
from tiered_cache._errors import ConfigurationError, FrontFailure, FrontUnavailableError
from tiered_cache._loops import PerLoop
from tiered_cache._slots import Slots

from ._source import resolve

_CONNECT_SECONDS: Final = 2.0
_CLOSE_SECONDS: Final = 1.0

# By what is found in the class or the text of an error.
_HINTS: Final = (
    (("connecting to",), "is it running, and is that its address?"),
    (("closed", "reset"), "did it restart?"),
    (("Authentication", "NOAUTH", "WRONGPASS"), "check the user and the password"),
    (
        ("NOPERM", "NoPermission"),
        "the user needs MGET, GET, SET, DEL, PTTL, EVAL and EVALSHA on the keys of the prefix",
    ),
    (("OOM", "OutOfMemory"), "it is full: it needs a maxmemory-policy that evicts, such as allkeys-lru"),
    (("READONLY", "ReadOnly"), "it is a replica: connect to the primary"),
    (("MOVED", "Moved", "CROSSSLOT", "CrossSlot"), "it is a Redis Cluster, which is not supported"),
    (("InvalidResponse", "Protocol Error"), "what answers there does not speak the protocol of Redis"),
)


# What a server says that is there and cannot, by the same.
_BUSY: Final = (
    *("OOM", "OutOfMemory", "READONLY", "ReadOnly", "BUSY", "LOADING", "BusyLoading"),
    *("MISCONF", "MASTERDOWN", "NOREPLICAS", "CLUSTERDOWN", "TRYAGAIN"),
)


class Connection(Protocol):
    """What is used of redis-py's connections."""

    @property
    def is_connected(self) -> bool: ...

    async def connect(self) -> None: ...

    async def send_packed_command(self, command: bytes) -> None: ...

    async def read_response(self) -> Any: ...

    async def disconnect(self, nowait: bool = False) -> None: ...


class RedisLink:
    """Runs commands for any loop; opens at most `max_connections` on each. `timeout` is in seconds."""

    def __init__(self, source: object, *, max_connections: int, timeout: float) -> None:
        found = resolve(source)
        self.place = found.place
        self._timeout = timeout

        def open_one() -> Connection:
            return cast("Connection", found.connection_class(**found.settings))

        self._open_one = open_one
        try:
            open_one()  # not connected yet: this finds what redis-py has no setting for
        except (TypeError, ValueError, RedisError) as error:
            raise ConfigurationError(f"Redis at {self.place} cannot be connected to as configured: {error}") from error
        self._pools = PerLoop(lambda: _Pool(open_one, max_connections), _Pool.aclose)

    async def run(self, *command: bytes) -> Any:
        """The reply to a command. Raises FrontUnavailableError where there is none in time, or it is an error."""
        pool = self._pools.get()
        return (await self._in_time(lambda progress: pool.run([command], progress)))[0]

    async def run_all(self, commands: Sequence[tuple[bytes, ...]]) -> list[Any]:
        """The replies to commands that are sent together, each taken for itself. Raises the same."""
        pool = self._pools.get()
        return await self._in_time(lambda progress: pool.run(commands, progress))

    async def run_script(self, script: bytes, script_id: bytes, *arguments: bytes) -> Any:
        """The same for a script, which is sent along only where the server does not know it yet."""
        pool = self._pools.get()

        async def exchange(progress: _Progress) -> Any:
            try:
                return await pool.run([(b"EVALSHA", script_id, *arguments)], progress)
            except NoScriptError:
                return await pool.run([(b"EVAL", script, *arguments)], progress)

        return (await self._in_time(exchange))[0]

    async def connected(self) -> Connection:
        """A connection beside those of the pool, on the loop that runs and the caller's to disconnect.

        Raises FrontUnavailableError where there is none to be had.
        """
        connection = self._open_one()
        try:
            await _connect(connection)
        except BaseException as error:
            await dropped(connection)
            if isinstance(error, RedisError | OSError):
                raise unavailable(self.place, error) from error
            raise
        return connection

    async def aclose(self) -> None:
        await self._pools.aclose()

    async def _in_time(self, exchange: Callable[[_Progress], Any]) -> Any:
        progress = _Progress()
        try:
            with within(self._timeout):
                return await exchange(progress)
        except TimeoutError as error:
            if not progress.begun:
                text = f"no connection to Redis at {self.place} became free within {self._timeout} s"
                raise FrontUnavailableError(text, failure="pool_wait") from error
            text = f"Redis at {self.place} did not answer within {self._timeout} s"
            raise FrontUnavailableError(text, failure="timeout") from error
        except (RedisError, OSError) as error:
            raise unavailable(self.place, error) from error


def unavailable(place: str, error: Exception) -> FrontUnavailableError:
    """What a failure of redis-py is to the caller. Its text stays in the cause: a server may quote arguments in it."""
    kind = type(error).__name__
    text = f"{kind} {error}"
    hint = next((f": {hint}" for signs, hint in _HINTS if any(sign in text for sign in signs)), "")
    return FrontUnavailableError(f"Redis at {place} failed ({kind}){hint}", failure=_failure(error))


def _failure(error: Exception) -> FrontFailure:
    text = f"{type(error).__name__} {error}"
    if any(sign in text for sign in _BUSY):
        return "busy"
    if isinstance(error, RedisTimeoutError):
        return "timeout"
    if isinstance(error, InvalidResponse) or "Protocol Error" in text:
        return "protocol"
    return "refused" if isinstance(error, RedisConnectionError | OSError) else "other"


@dataclass(slots=True)
class _Progress:
    """How far an exchange came: whether it had its turn, or was still waiting for one."""

    begun: bool = False


class _Pool:
    """The connections of one event loop."""

    def __init__(self, open_one: Callable[[], Connection], size: int) -> None:
        self._open_one = open_one
        self._slots = Slots(size)
        self._idle: list[Connection] = []
        # Being opened for callers that were cancelled, or ran out of time, before it was done: for those who come next.
        # Were they given up as well, a handshake slower than the callers' patience would never come to an end.
        self._opening: list[asyncio.Task[Connection]] = []
        self._closed = False

    async def run(self, commands: Sequence[tuple[bytes, ...]], progress: _Progress) -> list[Any]:
        async with self._slots:
            progress.begun = True
            if self._opening:
                self._collect()
            if self._idle:
                try:
                    return await self._exchange(self._idle.pop(), commands)
                except (RedisConnectionError, OSError):
                    await self._drop_idle(nowait=True)  # what closed this one has probably closed them all
            return await self._exchange(await self._opened(), commands)

    async def _exchange(self, connection: Connection, commands: Sequence[tuple[bytes, ...]]) -> list[Any]:
        try:
            await connection.send_packed_command(b"".join(map(packed, commands)))
            replies = [await _reply(connection) for _ in commands]
        except BaseException:
            # Its reply, or a part of it, may still be on its way: nobody else may read it.
            await dropped(connection)
            raise
        if self._closed or not connection.is_connected:
            await dropped(connection)
        else:
            self._idle.append(connection)
        for reply in replies:
            if isinstance(reply, ResponseError):
                raise reply
        return replies

    async def _opened(self) -> Connection:
        task = self._opening.pop(0) if self._opening else asyncio.ensure_future(self._open())
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if self._closed:
                task.cancel()
            elif not task.cancelled():
                self._opening.append(task)
            raise

    def _collect(self) -> None:
        """Takes over what was opened meanwhile, and forgets what failed."""
        done = [task for task in self._opening if task.done()]
        self._idle += [task.result() for task in done if not task.cancelled() and task.exception() is None]
        self._opening = [task for task in self._opening if not task.done()]

    async def _open(self) -> Connection:
        connection = self._open_one()
        try:
            await _connect(connection)
        except BaseException:
            await dropped(connection)
            raise
        return connection

    async def _drop_idle(self, *, nowait: bool) -> None:
        while self._idle:
            await self._idle.pop().disconnect(nowait=nowait)

    async def aclose(self) -> None:
        self._closed = True
        with anyio.move_on_after(_CLOSE_SECONDS, shield=True):
            if self._opening:
                for task in self._opening:
                    task.cancel()
                await asyncio.wait(self._opening)
            self._collect()
            await self._drop_idle(nowait=False)
        await self._drop_idle(nowait=True)


async def _reply(connection: Connection) -> Any:
    try:
        return await connection.read_response()
    except ResponseError as error:  # a reply as well, and read to its end
        return error


async def _connect(connection: Connection) -> None:
    try:
        with anyio.fail_after(_CONNECT_SECONDS):
            await connection.connect()
    except TimeoutError as error:
        raise RedisConnectionError(f"connecting to it took more than {_CONNECT_SECONDS} s") from error
    except (RedisError, OSError):
        raise
    except Exception as error:  # a credential provider is called in there, and raises what it likes
        raise RedisConnectionError(f"{type(error).__name__} while connecting") from error


async def dropped(connection: Connection) -> None:
    with anyio.CancelScope(shield=True):
        await connection.disconnect(nowait=True)


def packed(command: tuple[bytes, ...]) -> bytes:
    """What redis-py's `pack_command` makes of it, in a fifth of the time for the hundreds of keys of a batch."""
    return b"*%d\r\n%b" % (len(command), b"".join([b"$%d\r\n%b\r\n" % (len(part), part) for part in command]))
