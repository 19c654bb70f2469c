"""What a store is made with: URLs in their many spellings, and engines that stay their owners'."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, event, text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool, StaticPool

from tests.servers import connections, left_open, with_driver
from tests.store.conftest import Place
from tiered_cache._errors import ConfigurationError, MissingExtraError
from tiered_cache._sql import SqlStore
from tiered_cache._sql._connect import _url
from tiered_cache.testing._entries import Emptied, digest, entry

SPELLINGS = {
    "postgresql://u:p@h/d": "postgresql+asyncpg://u:p@h/d",
    "postgres://u:p@h/d?sslmode=require": "postgresql+asyncpg://u:p@h/d?ssl=require",
    "postgresql+asyncpg://u:p@h/d": "postgresql+asyncpg://u:p@h/d",
    "postgres+psycopg://u:p@h/d?sslmode=require": "postgresql+psycopg://u:p@h/d?sslmode=require",
    "sqlite:///file.db": "sqlite:///file.db",
    "sqlite+aiosqlite:///file.db": "sqlite:///file.db",
    "sqlite+pysqlite:////tmp/file.db": "sqlite+pysqlite:////tmp/file.db",
}


@pytest.mark.parametrize(("given", "meant"), SPELLINGS.items())
def test_every_usual_spelling_of_a_url_is_understood(given: str, meant: str) -> None:
    assert _url(given).render_as_string(hide_password=False) == meant


BAD = {
    "nonsense": "no database URL",
    "": "no database URL",
    "mysql://u:hunter2@h/d": "mysql is not supported",
    "oracle+oracledb://u:hunter2@h/d": "oracle is not supported",
    "redis://:hunter2@h/0": "redis is not supported",
    "sqlite://file.db": "names no host",
    "postgresql+nodriver://u:hunter2@h/d": r"knows no postgresql\+nodriver",
    "postgresql+pg8000://u:hunter2@h/d": "pg8000 is not installed",
    "postgresql://u:hunter2@h:not-a-port/d": "no database URL",
}


@pytest.mark.parametrize(("url", "message"), BAD.items())
def test_a_url_that_cannot_work_is_refused_in_one_line_that_names_the_cure(url: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message) as caught:
        SqlStore(url)
    told = str(caught.value)
    assert "\n" not in told
    assert "hunter2" not in told
    assert "installed" in told or "sqlite:///file.db" in told
    assert caught.value.__cause__ is None or isinstance(caught.value.__cause__, ImportError)


def test_without_asyncpg_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "asyncpg", None)
    with pytest.raises(MissingExtraError, match=r"tiered-cache\[postgres\]"):
        SqlStore("postgresql://localhost/db")


async def test_options_that_the_driver_does_not_know_are_a_configuration_error(postgres_url: str) -> None:
    store = SqlStore(f"{postgres_url}?nonsense=1")
    with pytest.raises(ConfigurationError, match="options"):
        await store.setup(create=True)


SECRETS = {
    "postgresql://u:hunter2@h/d": "postgresql+asyncpg://u:***@h/d",
    "postgresql+psycopg://u@h/d?password=hunter2": "postgresql+psycopg://u@h/d",
    "sqlite:////tmp/x.db": "sqlite:////tmp/x.db",
}


@pytest.mark.parametrize(("url", "shown"), SECRETS.items())
def test_the_repr_says_which_store_and_never_a_password(url: str, shown: str) -> None:
    assert repr(SqlStore(url, table_prefix="x_")) == f"SqlStore({shown!r}, table_prefix='x_', schema=None)"
    engine: Any = create_engine(url) if "asyncpg" not in shown else create_async_engine(shown.replace("***", "hunter2"))
    assert repr(SqlStore(engine)).startswith(f"SqlStore({shown!r}")


def test_databases_in_memory_that_would_not_be_one_are_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"each thread.*sqlite://"):
        SqlStore(create_engine("sqlite://"))
    engine = create_engine("postgresql+asyncpg://localhost/db")
    with pytest.raises(ConfigurationError, match="AsyncEngine"):
        SqlStore(engine)


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:", "sqlite+aiosqlite://"])
async def test_a_database_in_memory_is_one_and_lives_as_long_as_the_store(url: str) -> None:
    store, other = SqlStore(url), SqlStore(url)
    await store.setup(create=True)
    await other.setup(create=True)
    await store.write([entry("a")])
    await store.aclose()
    assert list((await store.read([digest("a")], [])).rows) == [digest("a")]
    assert (await other.read([digest("a")], [])).rows == {}


async def test_a_shared_connection_of_the_users_is_shared_in_turn() -> None:
    engine = create_engine("sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False})
    store = SqlStore(engine)
    await store.setup(create=True)
    await store.write([entry("a")])
    with engine.connect() as conn:
        assert conn.execute(text("SELECT count(*) FROM tiered_cache_entry")).scalar_one() == 1
    engine.dispose()


async def used(store: SqlStore) -> None:
    await store.setup(create=True)
    await store.write([entry("a")])
    await store.clear(b"")
    await store.reclaim(10, Emptied())
    await store.aclose()


@pytest.mark.parametrize("place", ["psycopg-engine", "sqlite-engine", "sqlite-engine-that-begins"], indirect=True)
async def test_an_engine_keeps_its_settings_its_pool_and_the_state_of_its_connections(place: Place) -> None:
    engine = place.source
    assert isinstance(engine, Engine)

    def state() -> dict[str, Any]:
        with engine.connect() as conn:
            driver: Any = conn.connection.driver_connection
            # psycopg calls None what is the server's default; SQLAlchemy names it when it restores it.
            names = ("autocommit", "in_transaction") if place.postgres else ("autocommit", "isolation_level")
            level = conn.get_isolation_level() if place.postgres else None
            return {"level": level, **{name: getattr(driver, name, None) for name in names}}

    before = state(), dict(vars(engine))
    await used(SqlStore(engine))
    assert (state(), vars(engine)) == before
    with engine.connect() as conn:
        conn.execute(text("DELETE FROM tiered_cache_meta"))
        conn.rollback()
        assert conn.execute(text("SELECT count(*) FROM tiered_cache_meta")).scalar_one() > 1


async def test_an_async_engine_lends_its_settings_and_keeps_its_pool(postgres_url: str) -> None:
    engine = create_async_engine(postgres_url, pool_size=2, max_overflow=0)
    heard: list[str] = []
    event.listen(engine.sync_engine, "before_cursor_execute", lambda *args: heard.append(args[2]))
    async with engine.connect() as conn:
        await conn.execute(text("SELECT 1"))
    pool = engine.sync_engine.pool
    store = SqlStore(engine)
    event.listen(engine.sync_engine, "before_cursor_execute", lambda *args: heard.append("later"))
    await used(store)
    assert "later" in heard
    assert any("tiered_cache_entry" in statement for statement in heard)
    assert engine.sync_engine.pool is pool
    assert connections(postgres_url) == 1
    await engine.dispose()
    assert left_open(postgres_url) == 0


async def test_engines_with_options_or_without_a_pool_work_as_well(postgres_url: str) -> None:
    sync_url = with_driver(postgres_url, "psycopg")
    engines: list[Any] = [
        create_async_engine(postgres_url, poolclass=NullPool),
        create_async_engine(postgres_url).execution_options(isolation_level="SERIALIZABLE"),
        create_async_engine(sync_url),
        create_engine(sync_url, poolclass=NullPool),
        create_engine(sync_url, isolation_level="SERIALIZABLE").execution_options(logging_token="x"),
    ]
    for engine in engines:
        await used(SqlStore(engine))
        await engine.dispose() if not isinstance(engine, Engine) else engine.dispose()
    assert left_open(postgres_url) == 0


async def test_a_file_that_is_opened_by_its_url_can_be_read_while_it_is_written(tmp_path: Path) -> None:
    store = SqlStore(f"sqlite:///{tmp_path}/store.db")
    await store.setup(create=True)
    await store.write([entry("a")])
    engine = create_engine(f"sqlite:///{tmp_path}/store.db")
    with engine.connect() as writer:
        writer.exec_driver_sql("BEGIN IMMEDIATE")
        writer.exec_driver_sql("DELETE FROM tiered_cache_entry")
        assert list((await store.read([digest("a")], [])).rows) == [digest("a")]
    engine.dispose()
    await store.aclose()
