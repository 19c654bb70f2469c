"""Making the tables: once, whoever comes first, and never over what is somebody else's."""

from __future__ import annotations

import multiprocessing
import threading
from multiprocessing.pool import Pool
from zlib import crc32

import anyio
import anyio.to_thread
import pytest
from sqlalchemy import Engine, inspect, text

from tests.servers import admin, with_driver
from tests.store.conftest import SHARED, Place, until_blocked
from tiered_cache._errors import ConfigurationError, SchemaError
from tiered_cache._sql import SqlStore, ddl
from tiered_cache.testing._entries import Emptied, digest, entry

shared = pytest.mark.parametrize("place", SHARED, indirect=True)
one_of_each = pytest.mark.parametrize("place", ["sqlite", "asyncpg"], indirect=True)


def tables(engine: Engine, schema: str | None = None) -> set[str]:
    return set(inspect(engine).get_table_names(schema))


@one_of_each
async def test_no_two_stores_have_one_identity(place: Place) -> None:
    """Not even in one database, and not where one script was applied to both."""
    script = place.store(table_prefix="x_").ddl()
    with place.admin().begin() as conn:
        for part in (script, script.replace("x_", "y_")):
            for statement in part.split(";\n"):
                if statement:
                    conn.exec_driver_sql(statement)
    stores = [place.store(table_prefix=prefix) for prefix in ("x_", "y_", "z_")]
    identities = {await store.setup(create=True) for store in stores}
    assert len(identities) == 3
    assert {len(identity) for identity in identities} == {12}


@shared
async def test_stores_under_other_prefixes_know_nothing_of_each_other(place: Place) -> None:
    one, other = await place.ready(table_prefix="one_"), await place.ready(table_prefix="Other")
    await one.write([entry("a")])
    await one.clear(b"")
    assert await other.read([digest("a")], [b""]) == ({}, {})
    await other.write([entry("a", b"other")])
    assert (await one.read([digest("a")], [])).rows[digest("a")].envelope == b"envelope"


@pytest.mark.parametrize("place", ["asyncpg", "psycopg"], indirect=True)
@pytest.mark.parametrize("schema", ["elsewhere", "Else_Where"])
async def test_tables_go_to_the_schema_that_is_asked_for(place: Place, schema: str) -> None:
    store = await place.ready(schema=schema)
    await store.write([entry("a")])
    assert len((await store.read([digest("a")], [])).rows) == 1
    await store.clear(b"")
    assert await store.reclaim(10, Emptied()) == 1
    assert len(tables(place.admin(), schema)) == 4
    assert not tables(place.admin())
    with pytest.raises(SchemaError):
        await place.store().setup(create=False)


@shared
async def test_without_tables_and_leave_to_make_them_the_error_says_what_to_do(place: Place) -> None:
    with pytest.raises(SchemaError, match=r"no tables named tiered_cache_\*.*ddl"):
        await place.store().setup(create=False)
    assert not tables(place.admin())


@shared
async def test_the_printed_ddl_is_all_that_is_needed_and_can_be_applied_twice(place: Place) -> None:
    store = place.store()
    script = store.ddl()
    with place.admin().begin() as conn:
        for statement in (script + script).split(";\n"):
            if statement:
                conn.exec_driver_sql(statement)
    await store.setup(create=False)
    await store.write([entry("a", ttl=1000, name=b"sa")])
    assert await store.clear(b"") == 2
    made = inspect(place.admin())
    assert len(made.get_indexes("tiered_cache_entry")) == 2


def test_ddl_is_printed_without_a_database_or_its_driver() -> None:
    assert "CREATE SEQUENCE" in ddl("postgresql", schema="app")
    assert "app.cache_entry" in ddl("postgresql", table_prefix="cache_", schema="app")
    assert "BLOB" in ddl("sqlite")
    with pytest.raises(ConfigurationError, match="oracle"):
        ddl("oracle")


@shared
async def test_tables_of_a_newer_release_are_refused(place: Place) -> None:
    store = await place.ready()
    with place.admin().begin() as conn:
        conn.execute(text("UPDATE tiered_cache_meta SET value = '99' WHERE name = 'schema'"))
    for create in (True, False):
        with pytest.raises(SchemaError, match=r"newer release \(schema 99.*upgrade"):
            await store.setup(create=create)


FOREIGN = {
    "another table of that name": "CREATE TABLE tiered_cache_entry (id INTEGER, body TEXT)",
    "another meta": "CREATE TABLE tiered_cache_meta (name TEXT, value TEXT)",
}


@shared
@pytest.mark.parametrize("statement", FOREIGN.values(), ids=FOREIGN)
async def test_tables_of_somebody_else_are_refused_and_left_alone(place: Place, statement: str) -> None:
    engine = place.admin()
    with engine.begin() as conn:
        conn.execute(text(statement))
    before = tables(engine)
    for create in (True, False):
        with pytest.raises(SchemaError, match=r"tiered_cache_.*table_prefix"):
            await place.store().setup(create=create)
    assert tables(engine) == before


@shared
async def test_tables_that_do_not_say_whose_they_are_are_refused(place: Place) -> None:
    store = await place.ready()
    with place.admin().begin() as conn:
        conn.execute(text("DELETE FROM tiered_cache_meta WHERE name = 'identity'"))
    with pytest.raises(SchemaError, match=r"tiered_cache_meta does not say"):
        await store.setup(create=True)


BAD_PREFIXES = ["", "1a", "a-b", 'a"; DROP TABLE x; --', "a b", "a" * 33, "ä_", "a\n"]


@pytest.mark.parametrize("prefix", BAD_PREFIXES)
def test_a_prefix_that_is_no_identifier_is_refused(prefix: str) -> None:
    with pytest.raises(ConfigurationError, match="table_prefix"):
        SqlStore("sqlite://", table_prefix=prefix)
    with pytest.raises(ConfigurationError, match="schema"):
        SqlStore("postgresql://localhost/db", schema=prefix * 2)


def test_sqlite_takes_no_schema() -> None:
    with pytest.raises(ConfigurationError, match="SQLite has no schemas"):
        SqlStore("sqlite://", schema="app")


@shared
async def test_many_threads_may_set_up_at_once(place: Place) -> None:
    stores = [place.store(timeout=30) for _ in range(8)]
    start = threading.Barrier(len(stores))
    identities: set[str] = set()

    async def setup(store: SqlStore) -> None:
        start.wait()
        identities.add(await store.setup(create=True))
        await store.aclose()

    threads = [threading.Thread(target=anyio.run, args=(setup, store)) for store in stores]
    for thread in threads:
        thread.start()
    for thread in threads:
        await anyio.to_thread.run_sync(thread.join)
    assert len(identities) == 1


def _set_up(url: str) -> str:
    async def setup() -> str:
        store = SqlStore(url, timeout=60)
        try:
            return await store.setup(create=True)
        finally:
            await store.aclose()

    return anyio.run(setup)


@one_of_each
async def test_many_processes_may_set_up_at_once(place: Place) -> None:
    url = with_driver(place.url, "asyncpg") if place.postgres else place.url
    with multiprocessing.get_context("spawn").Pool(8) as pool:
        identities = await anyio.to_thread.run_sync(_all_at_once, pool, url)
    assert len(set(identities)) == 1
    assert len(identities) == 20


def _all_at_once(pool: Pool, url: str) -> list[str]:
    return pool.map(_set_up, [url] * 20, chunksize=1)


#: What the first release made of the tables, before there were a journal and a time of grace.
SCHEMA_1 = (
    "ALTER TABLE tiered_cache_entry DROP COLUMN stale",
    "DROP TABLE tiered_cache_journal",
    "UPDATE tiered_cache_meta SET value = '1' WHERE name = 'schema'",
)


async def as_of_schema_1(place: Place) -> tuple[str, int]:
    """Tables of schema 1 with an entry in them; their identity, and its version."""
    store = await place.ready()
    (version,) = await store.write([entry("a")])
    with place.admin().begin() as conn:
        for statement in SCHEMA_1:
            conn.exec_driver_sql(statement)
        identity = conn.exec_driver_sql("SELECT value FROM tiered_cache_meta WHERE name = 'identity'").scalar_one()
    return identity, version


@shared
async def test_older_tables_are_brought_up_to_date_with_all_that_is_in_them(place: Place) -> None:
    identity, version = await as_of_schema_1(place)
    store = place.store()
    assert await store.setup(create=True) == identity
    assert (await store.read([digest("a")], [])).rows[digest("a")].version == version
    await store.write([entry("a", ttl=1000)._replace(grace=1000)], [b"cell"])
    assert [notice.cell for notice in await store.journal(b"", 9)] == [b"cell"]
    assert await place.store().setup(create=False) == identity


@one_of_each
async def test_older_tables_may_be_brought_up_to_date_by_hand_as_the_error_says(place: Place) -> None:
    identity, _ = await as_of_schema_1(place)
    with pytest.raises(SchemaError, match="older release") as raised:
        await place.store().setup(create=False)
    statement = str(raised.value).split("`")[1]
    with place.admin().begin() as conn:
        for part in (statement, *place.store().ddl().split(";\n")):
            if part:
                conn.exec_driver_sql(part)
    assert await place.store().setup(create=False) == identity


@shared
async def test_many_who_bring_older_tables_up_to_date_at_once_agree(place: Place) -> None:
    identity, _ = await as_of_schema_1(place)
    stores = [place.store() for _ in range(4)]
    found: list[str] = []

    async def set_up(store: SqlStore) -> None:
        found.append(await store.setup(create=True))

    async with anyio.create_task_group() as tasks:
        for store in stores:
            tasks.start_soon(set_up, store)
    assert found == [identity] * 4


@pytest.mark.parametrize("place", ["asyncpg", "psycopg"], indirect=True)
async def test_setup_that_comes_second_does_not_wait_for_those_who_write(place: Place) -> None:
    """Two processes begin over an empty database. The first is writing when the second gets the lock of setup."""
    second = place.store(timeout=5)
    lock = crc32(b"None.tiered_cache_")
    with admin(place.url) as first, admin(place.url) as writer:
        first.execute("SELECT pg_advisory_lock(%s)", [lock])
        async with anyio.create_task_group() as tasks:
            # It has seen no tables, and waits for whoever is making them.
            tasks.start_soon(lambda: second.setup(create=True))
            await anyio.to_thread.run_sync(until_blocked, place.url, 1)
            for statement in ddl("postgresql").split(";\n"):
                if statement.strip():
                    first.execute(statement.encode())
            writer.execute("BEGIN")
            writer.execute(
                "INSERT INTO tiered_cache_entry (digest, address, version, envelope) VALUES ('a', '', 1, '')"
            )
            first.execute("SELECT pg_advisory_unlock(%s)", [lock])
        writer.execute("ROLLBACK")
