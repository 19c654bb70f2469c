"""One suite over every way to reach a database.

    place           runs a test over each of KINDS, or what @pytest.mark.parametrize("place", ..., indirect=True) says:
                    place.store(...) makes one more store on the same data
    store           a store in that place, made ready
    clock           an injected clock in seconds: clock.advance(5)

Stores and engines made through a place are closed after the test.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from time import monotonic
from typing import Any, Final, Self

import pytest
from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from tests.servers import admin, with_driver
from tiered_cache._sql import SqlStore
from tiered_cache.testing import ManualClock

SQLITE: Final = (
    *("sqlite", "memory", "sqlite-engine", "sqlite-engine-that-begins"),
    *(("sqlite-engine-never-in-autocommit", "sqlite-engine-in-autocommit") if sys.version_info >= (3, 12) else ()),
)
POSTGRES: Final = ("asyncpg", "async-engine", "psycopg", "psycopg-engine")
KINDS: Final = (*SQLITE, *POSTGRES)
#: Where two stores can meet: in memory, a store is the whole database.
SHARED: Final = tuple(kind for kind in KINDS if kind != "memory")


class Place:
    """A database, and one way to reach it."""

    def __init__(self, kind: str, url: str, exits: AsyncExitStack) -> None:
        self.kind = kind
        #: For a look at what is in it, by an engine of the tests' own.
        self.url = url
        self._exits = exits
        self._source: str | Engine | AsyncEngine | None = None

    @property
    def postgres(self) -> bool:
        return self.kind in POSTGRES

    @property
    def source(self) -> str | Engine | AsyncEngine:
        """What a store is made with: the same for all stores of a place."""
        if self._source is None:
            self._source = self._make_source()
        return self._source

    def store(self, **options: Any) -> SqlStore:
        options.setdefault("timeout", 30.0)  # a busy machine is no fault
        store = SqlStore(self.source, **options)
        self._exits.push_async_callback(store.aclose)
        return store

    async def ready(self, **options: Any) -> SqlStore:
        store = self.store(**options)
        await store.setup(create=True)
        return store

    def admin(self) -> Engine:
        """A plain engine on the same database. There is none for a database in memory."""
        assert self.kind != "memory"
        engine = create_engine(self.url)
        self._exits.callback(engine.dispose)
        return engine

    def _make_source(self) -> str | Engine | AsyncEngine:
        match self.kind:
            case "asyncpg":
                return with_driver(self.url, "asyncpg")
            case "async-engine":
                engine = create_async_engine(with_driver(self.url, "asyncpg"), pool_size=4)
                self._exits.push_async_callback(engine.dispose)
                return engine
            case "sqlite-engine" | "psycopg-engine":
                return self.admin()
            case "sqlite-engine-never-in-autocommit" | "sqlite-engine-in-autocommit":
                engine = create_engine(self.url, connect_args={"autocommit": "never" not in self.kind})
                self._exits.callback(engine.dispose)
                return engine
            case "sqlite-engine-that-begins":
                return self._beginning(self.admin())
            case _:
                return self.url

    def _beginning(self, engine: Engine) -> Engine:
        """As SQLAlchemy's documentation advises for SQLite: the driver begins nothing, an event does."""

        def connected(connection: Any, _: object) -> None:
            connection.isolation_level = None

        def begun(connection: Connection) -> None:
            connection.exec_driver_sql("BEGIN")

        event.listen(engine, "connect", connected)
        event.listen(engine, "begin", begun)
        return engine


@pytest.fixture(params=KINDS)
async def place(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncGenerator[Place]:
    if request.param == "memory":
        url = "sqlite://"
    elif request.param in SQLITE:
        url = f"sqlite:///{tmp_path / 'store.db'}"
    else:
        url = with_driver(request.getfixturevalue("postgres_url"), "psycopg")
    async with AsyncExitStack() as exits:
        yield Place(request.param, url, exits)


@pytest.fixture
async def store(place: Place) -> SqlStore:
    return await place.ready()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


class Statements:
    """Every statement that any engine executes while this is entered."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        #: Called with each text before it is executed.
        self.before: Callable[[str], None] = lambda _: None

    def __enter__(self) -> Self:
        event.listen(Engine, "before_cursor_execute", self._see)
        return self

    def __exit__(self, *_: object) -> None:
        event.remove(Engine, "before_cursor_execute", self._see)

    def _see(self, _conn: object, _cursor: object, text: str, *_: object) -> None:
        self.before(text)
        self.texts.append(text)


def until_blocked(url: str, sessions: int) -> None:
    """Returns once so many sessions wait for a lock in this PostgreSQL database."""
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    deadline = monotonic() + 20
    with admin(url) as look:
        while look.execute(waiting).fetchall()[0][0] < sessions:
            assert monotonic() < deadline, "nobody waits for a lock"
