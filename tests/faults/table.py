"""The faults: each a name, a beginning and an end, and what is allowed to be seen of it.

Their names are what a README says of them: "the front frozen", "the store refused".
"""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final, Literal

import psycopg
from redis.exceptions import RedisError
from sqlalchemy.engine import make_url

from tests.faults.load import Verb
from tests.faults.place import Kind, Place
from tests.servers import admin, redis_admin
from tiered_cache.testing import SlowProxy

Course = Callable[[Place], AbstractAsyncContextManager[None]]

_AGAIN_SECONDS: Final = 0.05
_PATIENCE_SECONDS: Final = 20.0


@dataclass(frozen=True)
class Fault:
    name: str
    #: The fault is there within, and gone after.
    course: Course
    tier: Literal["front", "store"]
    #: The counters of `stats()` that must tell of it.
    counted: tuple[str, ...] = ()
    #: Whether the front may lose marks that it has acknowledged: then an older answer is bounded by `front_ttl`.
    forgets: bool = False
    #: What it is known by where it is not counted: half of the calls of that verb take so many seconds or more.
    slower: tuple[Verb, float] | None = None
    kind: Kind = "postgres"
    #: How long it lasts in the everyday suite. Two of them for longer than any call may take, so that one is missed
    #: that would wait for the end.
    seconds: float = 0.4


def repeated(blow: Callable[[Place], Any]) -> Course:
    """A fault of a moment, again and again."""

    @asynccontextmanager
    async def course(place: Place) -> AsyncGenerator[None]:
        async def strike() -> None:
            while True:
                await blow(place)
                await asyncio.sleep(_AGAIN_SECONDS)

        striking = asyncio.create_task(strike())
        try:
            yield
        finally:
            striking.cancel()
            with suppress(asyncio.CancelledError):
                await striking

    return course


def either(begin: Callable[[Place], Any], end: Callable[[Place], Any]) -> Course:
    """A state, entered and left."""

    @asynccontextmanager
    async def course(place: Place) -> AsyncGenerator[None]:
        await begin(place)
        try:
            yield
        finally:
            await end(place)

    return course


# --- by way of the proxies --------------------------------------------------------------------------------------------


def slow(tier: str, seconds: float) -> Course:
    return either(
        lambda place: place.do(_proxy(place, tier).delay, seconds),
        lambda place: place.do(_proxy(place, tier).restore),
    )


def refused(tier: str) -> Course:
    async def begin(place: Place) -> None:
        await place.do(_proxy(place, tier).refuse)
        await place.do(_proxy(place, tier).cut)

    return either(begin, lambda place: place.do(_proxy(place, tier).restore))


def silent(tier: str) -> Course:
    """What is connected hangs, new connections are taken and never answered; at the end all are reset."""

    async def end(place: Place) -> None:
        await place.do(_proxy(place, tier).cut)
        await place.do(_proxy(place, tier).restore)

    return either(lambda place: place.do(_proxy(place, tier).freeze), end)


def _proxy(place: Place, tier: str) -> SlowProxy:
    return place.front_proxy if tier == "front" else place.store_proxy


# --- the server of either tier ----------------------------------------------------------------------------------------


def frozen(tier: str) -> Course:
    return either(
        lambda place: place.do(_server(place, tier).freeze),
        lambda place: place.do(_server(place, tier).thaw),
    )


def killed(tier: str) -> Course:
    return either(
        lambda place: place.do(_server(place, tier).kill),
        lambda place: place.do(_server(place, tier).start),
    )


def _server(place: Place, tier: str) -> Any:
    return place.redis if tier == "front" else place.postgres


# --- Redis ------------------------------------------------------------------------------------------------------------


def told(*command: object) -> Course:
    return repeated(lambda place: place.tell_redis(*command))


def crowded(policy: str, share: float) -> Course:
    """Memory for such a share of what it holds."""

    async def begin(place: Place) -> None:
        memory = await place.tell_redis("INFO", "memory")
        without = memory["used_memory"] - memory["used_memory_dataset"]
        await place.tell_redis("CONFIG", "SET", "maxmemory-policy", policy)
        await place.tell_redis("CONFIG", "SET", "maxmemory", int(without + share * memory["used_memory_dataset"]))

    async def end(place: Place) -> None:
        await place.tell_redis("CONFIG", "SET", "maxmemory", 0)

    return either(begin, end)


@asynccontextmanager
async def demoted(place: Place) -> AsyncGenerator[None]:
    """Another is promoted, and the cache's Redis becomes its read-only replica; at the end a primary again."""
    other = place.servers.other_redis
    await place.do(other.start)

    def tell_other(*command: object) -> Any:
        with redis_admin(other.url) as client:
            return client.execute_command(*command)

    await place.do(tell_other, "REPLICAOF", "127.0.0.1", str(place.redis.port))
    await _until_linked(place, tell_other)
    await place.do(tell_other, "REPLICAOF", "NO", "ONE")
    await place.tell_redis("REPLICAOF", "127.0.0.1", str(other.port))
    try:
        yield
    finally:
        await place.tell_redis("REPLICAOF", "NO", "ONE")
        await place.do(other.kill)


async def _until_linked(place: Place, tell: Callable[..., Any]) -> None:
    async with asyncio.timeout(_PATIENCE_SECONDS):
        while True:
            if (await place.do(tell, "INFO", "replication")).get("master_link_status") == "up":
                return
            await asyncio.sleep(0.01)


@asynccontextmanager
async def busy(place: Place) -> AsyncGenerator[None]:
    """A script of somebody else's that does not end: everybody else is told BUSY."""
    await place.tell_redis("CONFIG", "SET", "lua-time-limit", 1)

    def run_for_ever() -> None:
        with suppress(RedisError):  # it is killed
            _tell_for_long(place.redis.url, "EVAL", "while true do end", "0")

    running = asyncio.create_task(place.do(run_for_ever))
    try:
        yield
    finally:
        async with asyncio.timeout(_PATIENCE_SECONDS):
            while not running.done():
                with suppress(RedisError):
                    await place.tell_redis("SCRIPT", "KILL")
                await asyncio.sleep(0.01)
        await running


def _tell_for_long(url: str, *command: object) -> None:
    with redis_admin(url) as client:
        client.execute_command(*command)


# --- PostgreSQL -------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def used_up(place: Place) -> AsyncGenerator[None]:
    """All connections are others'."""
    others: list[psycopg.Connection[Any]] = []
    plain = make_url(place.postgres.url).set(drivername="postgresql").render_as_string(hide_password=False)

    def take_all() -> None:
        first = psycopg.connect(plain, autocommit=True)
        others.append(first)
        quiet = 0
        while quiet < 3:  # the cache's own are ended, and theirs taken before it can have them again
            first.execute(_END_ALL)
            try:
                while True:
                    others.append(psycopg.connect(plain, autocommit=True, application_name="tests"))
                    quiet = 0
            except psycopg.OperationalError:
                quiet += 1

    def give_back() -> None:
        for connection in others:
            connection.close()

    try:
        await place.do(take_all)
        yield
    finally:
        await place.do(give_back)


_END_ALL: Final = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
    " WHERE backend_type = 'client backend' AND pid <> pg_backend_pid() AND application_name <> 'tests'"
)


async def end_all(place: Place) -> None:
    def end() -> None:
        with admin(place.postgres.url) as connection:
            connection.execute(_END_ALL)

    await place.do(end)


def _read_only(place: Place, how: str) -> None:
    with admin(place.postgres.url) as connection:
        connection.execute("SET default_transaction_read_only = off")
        connection.execute(f"ALTER SYSTEM {how}")  # pyright: ignore[reportArgumentType, reportCallIssue]
        connection.execute("SELECT pg_reload_conf()")


read_only: Final = either(
    lambda place: place.do(_read_only, place, "SET default_transaction_read_only = on"),
    lambda place: place.do(_read_only, place, "RESET default_transaction_read_only"),
)


# --- SQLite -----------------------------------------------------------------------------------------------------------

_HOLDER: Final = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=20)
connection.execute("BEGIN IMMEDIATE")
print("mine", flush=True)
sys.stdin.read()
"""


@asynccontextmanager
async def locked(place: Place) -> AsyncGenerator[None]:
    """Another process is in the middle of a change."""
    holder = await asyncio.create_subprocess_exec(
        *(sys.executable, "-I", "-S", "-c", _HOLDER, str(place.file.path)),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert holder.stdin is not None
    assert holder.stdout is not None
    try:
        await holder.stdout.readline()
        yield
    finally:
        holder.stdin.close()
        await holder.wait()


def restricted(name: str, within: Callable[[Place], int], without: int) -> Course:
    @asynccontextmanager
    async def course(place: Place) -> AsyncGenerator[None]:
        place.file.pragmas[name] = within(place)
        try:
            yield
        finally:
            place.file.pragmas[name] = without

    return course


def _pages(place: Place) -> int:
    connection = sqlite3.connect(place.file.path)
    try:
        return int(connection.execute("PRAGMA page_count").fetchone()[0])
    finally:
        connection.close()


# --- the table --------------------------------------------------------------------------------------------------------

_FRONT: Final = ("front_errors",)
_STORE: Final = ("store_errors", "adapter_errors")

FAULTS: Final = (
    Fault("front frozen", frozen("front"), "front", _FRONT),
    Fault("front killed and restarted", killed("front"), "front", _FRONT),
    Fault("front 5 ms slower", slow("front", 0.005), "front", slower=("read", 0.005)),
    Fault("front 100 ms slower", slow("front", 0.1), "front", _FRONT),
    Fault("front 5 s slower", slow("front", 5.0), "front", _FRONT),
    Fault("front refused", refused("front"), "front", _FRONT),
    Fault("front half-open", silent("front"), "front", _FRONT, seconds=1.8),
    Fault("front flushed", told("FLUSHALL"), "front", ("hits_store",)),
    Fault("front evicting", crowded("allkeys-lru", 0.6), "front", ("hits_store",)),
    Fault("front full", crowded("noeviction", 0.5), "front", _FRONT),
    Fault("front's clients killed", told("CLIENT", "KILL", "TYPE", "normal"), "front"),
    Fault("front a replica", demoted, "front", _FRONT, forgets=True),
    Fault("front's scripts flushed", told("SCRIPT", "FLUSH"), "front"),
    Fault("front busy", busy, "front", _FRONT),
    Fault("store frozen", frozen("store"), "store", _STORE, seconds=1.0),
    Fault("store killed and restarted", killed("store"), "store", _STORE),
    Fault("store 5 ms slower", slow("store", 0.005), "store", slower=("write", 0.005)),
    Fault("store 100 ms slower", slow("store", 0.1), "store", slower=("write", 0.1)),
    Fault("store 5 s slower", slow("store", 5.0), "store", _STORE, seconds=1.0),
    Fault("store refused", refused("store"), "store", _STORE),
    Fault("store half-open", silent("store"), "store", _STORE, seconds=2.8),
    Fault("store out of connections", used_up, "store", _STORE),
    Fault("store's connections terminated", repeated(end_all), "store"),
    Fault("store read-only", read_only, "store", _STORE),
    Fault("SQLite locked", locked, "store", _STORE, kind="sqlite", seconds=1.0),
    Fault("SQLite read-only", restricted("query_only", lambda _: 1, 0), "store", _STORE, kind="sqlite"),
    Fault("SQLite disk full", restricted("max_page_count", _pages, 1 << 30), "store", _STORE, kind="sqlite"),
)
#: By tier, those that can befall one Redis and one PostgreSQL.
ON_SERVERS: Final = {
    tier: [f for f in FAULTS if f.tier == tier and f.kind == "postgres"] for tier in ("front", "store")
}
BY_NAME: Final = {fault.name: fault for fault in FAULTS}
