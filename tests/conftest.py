"""Fixtures shared by all suites.

Async tests and fixtures are anyio's (its plugin runs in auto mode): plain `async def test_...` and
`@pytest.fixture async def ...`, also in the classes of langchain-tests; nothing of pytest-asyncio.
Each directory below tests/ needs an `__init__.py`.

Event loops
    anyio_backend       asyncio, unless the test says otherwise (module scope, as in anyio)
    every_backend       a marker: `pytestmark = pytest.mark.every_backend` runs async tests on asyncio, uvloop and trio.
                        redis-py and asyncpg need asyncio, so only embedded tiers can be used with it.

Tiers
    world               three runs of the test: "embedded", "servers", "fake"; TieredCache(world.front, world.store)
                        One of them: @pytest.mark.parametrize("world", ["servers"], indirect=True)
                        world.other_front() for a second cache on the same data, world.lose_front() empties the front
    aged                in tests/langchain and tests/langgraph: a cache on these tiers, and the clock its values age by
    sqlite_url          sqlite:///<tmp_path>/store.db, not created yet
    redis_url           a real Redis, flushed before the test
    postgres_url        a real PostgreSQL (postgresql+asyncpg://...), its database emptied before the test;
                        `with_driver(postgres_url, "psycopg")` gives the same for a blocking engine
    store_url           two runs: the SQLite file and the PostgreSQL database

Servers that a test may stop, kill, freeze and restart (shared ones must stay up)
    spare_redis         RedisServer, running and empty:
                        .url .socket_url .stop() .start() .kill() .restart() .freeze() .thaw()
    spare_postgres      PostgresServer: the same; `spare_postgres_url` is a fresh database on it
    others              RedisServer("--maxmemory", "2mb") in a `with`, see tests/servers.py

Looking at a server (from tests.servers)
    connections(url)    how many connections the application holds to this Redis or this database just now
    left_open(url)      the same after the cache was closed: waits a moment for zero
    redis_calls(url)    Counter of commands run, those in scripts too: `after - before`, or after["KEYS"] == 0
    admin(url), redis_admin(url)    a blocking psycopg connection / redis-py client for looking and meddling
    fresh_database(postgres_url)    one more empty database, as a context manager

no_blocking_calls       the test fails if tiered_cache blocks the event loop (blockbuster)

TIERED_CACHE_TEST_REDIS and TIERED_CACHE_TEST_POSTGRES name servers to use for `redis_url` and `postgres_url` instead of
private ones: that Redis is FLUSHED, and in that PostgreSQL a database is made and dropped.
A server that cannot be had is an error, never a skip.
"""

from __future__ import annotations

import os
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
from blockbuster import blockbuster_ctx

from tests import worlds
from tests.servers import (
    Given,
    PostgresServer,
    RedisServer,
    empty_database,
    fresh_database,
    redis_admin,
)
from tests.worlds import WORLDS, World

# So that an assert of the suites says what it compared.
pytest.register_assert_rewrite("tiered_cache.testing")

BACKENDS: dict[str, tuple[str, dict[str, Any]]] = {
    "asyncio": ("asyncio", {}),
    "uvloop": ("asyncio", {"use_uvloop": True}),
    "trio": ("trio", {}),
}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if metafunc.definition.get_closest_marker("every_backend") and "anyio_backend" in metafunc.fixturenames:
        metafunc.parametrize("anyio_backend", list(BACKENDS.values()), ids=list(BACKENDS), scope="module")


@pytest.fixture(scope="module")
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return BACKENDS["asyncio"]


@pytest.fixture
def no_blocking_calls() -> Generator[None]:
    with blockbuster_ctx("tiered_cache"):
        yield


# --- servers ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def redis_server() -> Generator[RedisServer | Given]:
    """The shared Redis. It stays up; see `spare_redis`."""
    given = os.environ.get("TIERED_CACHE_TEST_REDIS")
    if given:
        yield Given(given)
        return
    with RedisServer() as server:
        yield server


@pytest.fixture(scope="session")
def postgres_server() -> Generator[PostgresServer | Given]:
    """The shared PostgreSQL. It stays up; see `spare_postgres`."""
    given = os.environ.get("TIERED_CACHE_TEST_POSTGRES")
    if given:
        yield Given(given)
        return
    with PostgresServer() as server:
        yield server


@pytest.fixture(scope="session")
def _database(postgres_server: PostgresServer | Given) -> Generator[str]:
    with fresh_database(postgres_server.url) as url:
        yield url


@pytest.fixture
def redis_url(redis_server: RedisServer | Given) -> str:
    with redis_admin(redis_server.url) as client:
        client.flushdb()
    return redis_server.url


@pytest.fixture
def postgres_url(_database: str) -> str:
    empty_database(_database)
    return _database


@pytest.fixture(scope="session")
def _spare_redis() -> Generator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.fixture
def spare_redis(_spare_redis: RedisServer) -> RedisServer:
    """Running and empty at the start of each test, whatever the one before did to it."""
    if _spare_redis.running:
        _spare_redis.thaw()
        _spare_redis.kill()  # forgets settings as well as data
    _spare_redis.start()
    return _spare_redis


@pytest.fixture(scope="session")
def _spare_postgres() -> Generator[PostgresServer]:
    with PostgresServer() as server:
        yield server


@pytest.fixture
def spare_postgres(_spare_postgres: PostgresServer) -> PostgresServer:
    """Running at the start of each test, whatever the one before did to it."""
    if _spare_postgres.running:
        _spare_postgres.thaw()
    _spare_postgres.start()
    return _spare_postgres


@pytest.fixture
def spare_postgres_url(spare_postgres: PostgresServer) -> Generator[str]:
    with fresh_database(spare_postgres.url) as url:
        yield url
        if spare_postgres.running:
            spare_postgres.thaw()
        spare_postgres.start()


# --- worlds -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'store.db'}"


@pytest.fixture(params=["sqlite", "postgres"])
def store_url(request: pytest.FixtureRequest) -> str:
    return request.getfixturevalue(f"{request.param}_url")


@pytest.fixture(params=WORLDS)
def world(request: pytest.FixtureRequest) -> World:
    # Asked for by name, so that an embedded run starts no server.
    match request.param:
        case "embedded":
            return worlds.embedded(request.getfixturevalue("sqlite_url"))
        case "servers":
            return worlds.servers(request.getfixturevalue("redis_url"), request.getfixturevalue("postgres_url"))
        case "fake":
            return worlds.fake(request.getfixturevalue("sqlite_url"))
        case other:
            raise ValueError(f"no such world: {other!r}")
