"""From what a user names (a URL, an engine) to where statements run and what they are written in."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from copy import copy
from math import ceil
from time import monotonic, sleep
from typing import Any, Final, NamedTuple

from sqlalchemy import URL, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, InvalidatePoolError, NoSuchModuleError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry, SingletonThreadPool, StaticPool

from tiered_cache._errors import ConfigurationError, require_extra

from ._runners import InThreads, OnLoop, Runner

Source = str | URL | Engine | AsyncEngine

_CURE: Final = (
    "the store is a SQLite file (sqlite:///file.db, four slashes before an absolute path), a PostgreSQL "
    "(postgresql+asyncpg://user:password@host/database), or a SQLAlchemy engine for one of the two"
)
_OWN_MEMORY: Final = "gives {} an in-memory SQLite of its own: pass the URL sqlite:// instead"
_DATABASES: Final = ("postgresql", "sqlite")

#: The share of the timeout that the database is given. It gives up a little earlier than this side does, and says so:
#: then it is known that a change was not made.
_DATABASES_SHARE: Final = 0.9

#: Connections that were idle for longer than this many seconds are asked for a sign of life before they are used:
#: firewalls and servers drop them without saying so.
_IDLE_SECONDS = 10.0


class Connected(NamedTuple):
    runner: Runner
    #: One of `_DATABASES`.
    database: str
    #: Without a password.
    shown: str


def connect(source: Source, *, pool_size: int, timeout: float) -> Connected:
    """Opens nothing yet. Raises ConfigurationError or MissingExtraError for what cannot work."""
    if isinstance(source, AsyncEngine):
        url = source.url
        runner = _given_async(source, _database(url))
    elif isinstance(source, Engine):
        url = source.url
        runner = _given(source, _database(url), pool_size)
    else:
        url = _url(source)
        runner = (_sqlite if _database(url) == "sqlite" else _postgres)(url, pool_size, timeout)
    # Some keep a password in the query.
    return Connected(runner, _database(url), url.set(query={}).render_as_string(hide_password=True))


# -- engines that are passed in


def _given_async(engine: AsyncEngine, database: str) -> Runner:
    if database == "sqlite" and _is_memory(engine.url):
        raise ConfigurationError(f"an AsyncEngine {_OWN_MEMORY.format('each loop')}")

    def open_one() -> AsyncEngine:
        return AsyncEngine(_discreet(_twin(engine.sync_engine)))

    return OnLoop(open_one, one_writer=database == "sqlite", options=_options(database))


def _given(engine: Engine, database: str, threads: int) -> Runner:
    if engine.dialect.is_async:
        raise ConfigurationError("an engine with an asynchronous driver is passed as the AsyncEngine it belongs to")
    if isinstance(engine.pool, SingletonThreadPool):
        raise ConfigurationError(f"this engine {_OWN_MEMORY.format('each thread')}")
    return InThreads(
        _discreet(engine),
        threads=threads,
        one_writer=database == "sqlite",
        owned=False,
        lone=isinstance(engine.pool, StaticPool),
        memory=database == "sqlite" and _is_memory(engine.url),
        options=_options(database),
    )


def _options(database: str) -> Mapping[str, str]:
    # SQLite's driver would not only take this setting for a while, it would leave another than it found.
    return {} if database == "sqlite" else {"isolation_level": "AUTOCOMMIT"}


def _discreet(engine: Engine) -> Engine:
    """The same engine, except that no parameter, so nothing of what is stored, gets into the text of an error."""
    ours = engine.execution_options()
    ours.hide_parameters = True
    return ours


def _twin(engine: Engine) -> Engine:
    """The same engine with a pool of its own: an asynchronous connection belongs to the loop it was made on."""
    pool = engine.pool.recreate()
    if "pool" not in vars(engine):  # made by execution_options(), it has only that of the engine it was made from
        return Engine(pool, engine.dialect, engine.url, execution_options=engine.get_execution_options())
    _ = engine.dispatch  # made on first use; now both have the same, and listeners added later are heard by both
    twin = copy(engine)
    twin.pool = pool
    return twin


# -- engines made from a URL


def _sqlite(url: URL, pool_size: int, timeout: float) -> Runner:
    if url.host:  # two slashes, and then the file
        raise ConfigurationError(f"a SQLite URL names no host; {_CURE}")
    memory = _is_memory(url)
    pool: dict[str, Any] = {"pool_size": pool_size, "max_overflow": 0, "pool_timeout": timeout}
    engine = create_engine(
        url,
        isolation_level="AUTOCOMMIT",
        hide_parameters=True,
        connect_args={"check_same_thread": False},
        **({"poolclass": StaticPool} if memory else pool),
    )

    def prepare(connection: sqlite3.Connection, _: object) -> None:
        _use_wal(connection, timeout * _DATABASES_SHARE)
        # With a write-ahead log this is safe whatever process crashes. Where the machine itself does, the very last
        # commits may be lost; the file stays sound.
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("PRAGMA journal_size_limit = 67108864")

    event.listen(engine, "connect", prepare)
    return InThreads(engine, threads=pool_size, one_writer=True, owned=True, lone=memory, memory=memory)


def _use_wal(connection: sqlite3.Connection, timeout: float) -> None:
    """Waits for those who use the file just now: here SQLite itself waits in some cases and in others it does not."""
    deadline = monotonic() + timeout
    connection.execute("PRAGMA busy_timeout = 0")
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL").fetchone()
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or monotonic() > deadline:
                raise
            sleep(0.01)
        else:
            break
    connection.execute(f"PRAGMA busy_timeout = {ceil(timeout * 1000)}")


def _postgres(url: URL, pool_size: int, timeout: float) -> Runner:
    options: dict[str, Any] = {
        "isolation_level": "AUTOCOMMIT",
        "hide_parameters": True,
        "pool_size": pool_size,
        "max_overflow": 0,
        "pool_timeout": timeout,
        "pool_use_lifo": True,
        "connect_args": _connect_args(url, timeout),
    }
    driver = url.drivername.partition("+")[2]
    try:
        if not url.get_dialect().is_async:
            engine = create_engine(url, **options)
            _ask_after_idling(engine)
            return InThreads(engine, threads=pool_size, one_writer=False, owned=True)
        template = create_async_engine(url, **options)
    except NoSuchModuleError:
        raise ConfigurationError(f"SQLAlchemy knows no {url.drivername}: {_CURE}") from None
    except ImportError as error:
        if driver == "asyncpg":
            raise require_extra("asyncpg", "postgres") from error
        raise ConfigurationError(f"{error.name or driver} is not installed, which {url.drivername} needs") from error
    _ask_after_idling(template.sync_engine)
    return OnLoop(lambda: AsyncEngine(_twin(template.sync_engine)), one_writer=False)


def _connect_args(url: URL, timeout: float) -> Mapping[str, object]:
    """Deadlines, the server's own among them: what it went on doing for a client that gave up would come too late."""
    driver = url.drivername.partition("+")[2]
    milliseconds = str(ceil(timeout * _DATABASES_SHARE * 1000))
    if driver == "asyncpg":
        return {"timeout": timeout, "server_settings": {"statement_timeout": milliseconds}}
    if driver.startswith("psycopg"):
        given = url.query.get("options", "")
        options = f"{given if isinstance(given, str) else ' '.join(given)} -c statement_timeout={milliseconds}"
        return {"connect_timeout": ceil(timeout), "options": options.strip()}
    return {}


def _ask_after_idling(engine: Engine) -> None:
    def returned(_: object, entry: ConnectionPoolEntry) -> None:
        entry.info["returned"] = monotonic()

    def taken(connection: Any, entry: ConnectionPoolEntry, _: object) -> None:
        if monotonic() - entry.info.get("returned", monotonic()) < _IDLE_SECONDS:
            return
        try:
            engine.dialect.do_ping(connection)
        except engine.dialect.loaded_dbapi.Error as error:
            raise InvalidatePoolError from error  # the others have been idle for as long: all are made anew

    event.listen(engine, "checkin", returned)
    event.listen(engine, "checkout", taken)


# -- URLs


def _url(source: str | URL) -> URL:
    try:
        url = make_url(source)
    except (ArgumentError, ValueError):
        raise ConfigurationError(f"this is no database URL; {_CURE}") from None  # the cause may show a password
    backend, _, driver = url.drivername.partition("+")
    if backend in ("postgres", "postgresql"):
        url = url.set(drivername=f"postgresql+{driver or 'asyncpg'}")
        if not driver and "sslmode" in url.query:  # libpq's name for it, in URLs that hosting providers hand out
            url = url.difference_update_query(["sslmode"]).update_query_dict({"ssl": url.query["sslmode"]})
    elif url.drivername == "sqlite+aiosqlite":
        url = url.set(drivername="sqlite")  # one hop to a thread instead of one for each step of a statement
    return url


def _database(url: URL) -> str:
    database = url.drivername.partition("+")[0]
    if database not in _DATABASES:
        raise ConfigurationError(f"{database} is not supported: {_CURE}")
    return database


def _is_memory(url: URL) -> bool:
    file = url.database or ":memory:"
    return file.startswith((":memory:", "file::memory:")) or url.query.get("mode") == "memory"
