"""A database that does not answer, answers with an error, or answers too late."""

from __future__ import annotations

import asyncio
import gc
import socket
import sqlite3
import traceback
from collections.abc import Generator
from contextlib import closing
from pathlib import Path
from time import monotonic
from typing import Any

import anyio
import anyio.to_thread
import pytest
from sqlalchemy import create_engine, text

from tests.servers import PostgresServer, admin, left_open, with_driver
from tests.store.conftest import SHARED, Place, until_blocked
from tiered_cache._errors import ConfigurationError, StoreUnavailableError
from tiered_cache._sql import SqlStore, _connect
from tiered_cache.testing._entries import digest, entry

SECRET = "hunter2"
DRIVERS = pytest.mark.parametrize("driver", ["asyncpg", "psycopg"])


def everything_told(error: BaseException) -> str:
    return "".join(traceback.format_exception(error)) + repr(error)


@DRIVERS
async def test_a_server_that_is_not_there_is_unavailable_and_no_password_is_told(driver: str) -> None:
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        port = reserved.getsockname()[1]
        store = SqlStore(f"postgresql+{driver}://someone:{SECRET}@127.0.0.1:{port}/db", timeout=5)
        for call in (store.read([digest("a")], []), store.write([entry("a")]), store.setup(create=True)):
            with pytest.raises(StoreUnavailableError, match="is the server running and reachable") as caught:
                await call
            assert caught.value.outcome_known
            assert caught.value.__cause__ is not None
            assert SECRET not in everything_told(caught.value)
        await store.aclose()


@DRIVERS
async def test_what_the_server_says_on_connecting_becomes_a_hint(postgres_url: str, driver: str) -> None:
    url = with_driver(postgres_url, driver)
    elsewhere, stranger = url.rpartition("/")[0] + "/nowhere", url.replace("//postgres", f"//nobody:{SECRET}")
    for bad, hint in ((elsewhere, "no such database"), (stranger, "refused the user or the password")):
        store = SqlStore(bad)
        with pytest.raises(StoreUnavailableError) as caught:
            await store.setup(create=True)
        # psycopg does not tell why a connection was refused other than in words.
        assert hint in str(caught.value) or driver == "psycopg"
        assert SECRET not in everything_told(caught.value)
        await store.aclose()


async def test_missing_tables_are_unavailable_with_a_hint_and_no_payload_is_told(place: Place) -> None:
    store = place.store()
    secret = SECRET.encode()
    calls = [store.read([secret], []), store.write([entry("a", secret, name=secret)]), store.clear(secret)]
    for call in calls:
        with pytest.raises(StoreUnavailableError, match="make them with setup") as caught:
            await call
        assert caught.value.outcome_known
        assert SECRET not in everything_told(caught.value)
        assert SECRET.encode().hex() not in everything_told(caught.value)


@pytest.mark.parametrize("place", SHARED, indirect=True)
async def test_a_change_that_the_database_refuses_is_known_not_to_have_happened(place: Place) -> None:
    store = await place.ready()
    with place.admin().begin() as conn:
        conn.execute(text("ALTER TABLE tiered_cache_entry RENAME TO elsewhere"))
    secret = SECRET.encode()
    with pytest.raises(StoreUnavailableError) as caught:
        await store.write([entry(i, secret, name=secret) for i in range(3)])
    assert caught.value.outcome_known
    assert SECRET not in everything_told(caught.value)
    assert secret.hex() not in everything_told(caught.value)
    with place.admin().begin() as conn:
        conn.execute(text("ALTER TABLE elsewhere RENAME TO tiered_cache_entry"))
    await store.write([entry("a")])  # nothing is left of the failed one: no lock, no transaction


@pytest.fixture
def locked(tmp_path: Path) -> Generator[sqlite3.Connection]:
    """A connection of somebody else who is writing to tmp_path/store.db."""
    connection = sqlite3.connect(tmp_path / "store.db", isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("BEGIN IMMEDIATE")
    yield connection
    connection.close()


async def test_a_file_that_is_being_read_is_switched_to_a_write_ahead_log_as_soon_as_it_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = sqlite3.connect(tmp_path / "store.db", isolation_level=None, check_same_thread=False)
    reader.execute("CREATE TABLE other (x)")
    reader.execute("BEGIN")
    reader.execute("SELECT * FROM other").fetchall()
    waited: list[float] = []

    def wait(seconds: float) -> None:
        waited.append(seconds)
        if reader.in_transaction:
            reader.execute("ROLLBACK")

    monkeypatch.setattr(_connect, "sleep", wait)
    store = SqlStore(f"sqlite:///{tmp_path}/store.db")
    await store.setup(create=True)
    assert waited
    reader.close()
    with closing(sqlite3.connect(tmp_path / "store.db")) as look:
        assert look.execute("PRAGMA journal_mode").fetchall() == [("wal",)]
    await store.aclose()


async def test_a_file_that_another_process_writes_to_for_too_long_is_unavailable(
    tmp_path: Path, locked: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_connect, "_DATABASES_SHARE", 0.01)
    locked.execute("ROLLBACK")
    store = SqlStore(f"sqlite:///{tmp_path}/store.db", timeout=20)
    await store.setup(create=True)
    locked.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreUnavailableError, match="another process is writing") as caught:
        await store.write([entry("a")])
    assert caught.value.outcome_known
    assert await store.read([digest("a")], []) == ({}, {})
    locked.execute("ROLLBACK")
    await store.write([entry("a")])
    await store.aclose()


async def test_what_was_given_up_is_never_committed_later(tmp_path: Path, locked: sqlite3.Connection) -> None:
    """An engine of the user's waits for the lock longer than the store does, and has it in the end."""
    locked.execute("ROLLBACK")
    engine = create_engine(f"sqlite:///{tmp_path}/store.db", connect_args={"timeout": 60})
    patient, hasty = SqlStore(engine), SqlStore(engine, timeout=0.2)
    await patient.setup(create=True)
    locked.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreUnavailableError, match="no answer within the timeout") as caught:
        await hasty.write([entry("a")])
    assert not caught.value.outcome_known
    with pytest.raises(StoreUnavailableError) as caught:
        await hasty.write([entry("b")])  # waits for the other thread, and does nothing when its time has come
    assert caught.value.outcome_known
    locked.execute("ROLLBACK")
    patient_too = SqlStore(engine)
    patient_too._runner = hasty._runner
    await patient_too.write([entry("c")])  # its turn comes after theirs
    assert list((await patient.read([digest(x) for x in "abc"], [])).rows) == [digest("c")]
    engine.dispose()


@pytest.mark.parametrize(
    ("file", "hint"),
    [("missing/folder/store.db", "is its directory there"), ("text.db", "is no SQLite database")],
)
async def test_a_file_that_cannot_be_used_is_unavailable_with_a_hint(tmp_path: Path, file: str, hint: str) -> None:
    (tmp_path / "text.db").write_text("not a database, " * 100)
    store = SqlStore(f"sqlite:///{tmp_path / file}")
    with pytest.raises(StoreUnavailableError, match=hint):
        await store.setup(create=True)
    await store.aclose()


@DRIVERS
async def test_a_frozen_server_is_unavailable_at_the_deadline_and_works_when_it_thaws(
    spare_postgres: PostgresServer, spare_postgres_url: str, driver: str
) -> None:
    store = SqlStore(with_driver(spare_postgres_url, driver), timeout=0.5)
    await SqlStore(with_driver(spare_postgres_url, driver)).setup(create=True)
    await store.write([entry("a")])
    spare_postgres.freeze()
    started = monotonic()
    for call in (store.write([entry("a")]), store.read([digest("a")], []), store.clear(b"")):
        with pytest.raises(StoreUnavailableError, match="no answer within the timeout"):
            await call
    assert monotonic() - started < 5
    spare_postgres.thaw()
    await eventually(store)
    await store.aclose()


@DRIVERS
def test_a_loop_ends_and_its_connections_with_it_while_the_server_is_frozen(
    spare_postgres: PostgresServer, spare_postgres_url: str, driver: str
) -> None:
    store = SqlStore(with_driver(spare_postgres_url, driver))

    async def use() -> None:
        await store.setup(create=True)
        async with anyio.create_task_group() as tasks:
            for i in range(20):
                tasks.start_soon(store.write, [entry(i)])
        spare_postgres.freeze()

    started = monotonic()
    asyncio.run(use())
    asyncio.run(store.aclose())
    assert monotonic() - started < 10
    gc.collect()  # would warn of what is still open
    spare_postgres.thaw()
    assert left_open(spare_postgres_url) == 0


async def eventually(store: SqlStore) -> None:
    """The store works again, at the latest when the connections that hung are gone."""
    with anyio.fail_after(30):
        while True:
            try:
                await store.write([entry("a")])
            except StoreUnavailableError:
                await anyio.sleep(0.01)
            else:
                return


@DRIVERS
async def test_a_connection_lost_during_a_write_leaves_its_outcome_unknown(postgres_url: str, driver: str) -> None:
    store = SqlStore(with_driver(postgres_url, driver))
    await store.setup(create=True)
    await store.write([entry("a")])
    errors: list[StoreUnavailableError] = []

    async def write() -> None:
        with pytest.raises(StoreUnavailableError) as caught:
            await store.write([entry("a")])
        errors.append(caught.value)

    with admin(postgres_url) as holder:
        holder.execute("BEGIN")
        holder.execute("SELECT 1 FROM tiered_cache_entry FOR UPDATE")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(write)
            await anyio.to_thread.run_sync(until_blocked, postgres_url, 1)
            terminate(holder)
    assert not errors[0].outcome_known
    await store.write([entry("a")])
    await store.aclose()


def terminate(connection: Any) -> None:
    connection.execute(
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = current_database()"
        " AND pid <> pg_backend_pid() AND application_name <> 'tests'"
    )


@DRIVERS
async def test_the_server_gives_up_a_statement_that_takes_too_long(postgres_url: str, driver: str) -> None:
    """So that nothing is committed long after the caller was told that it was not."""
    store = SqlStore(with_driver(postgres_url, driver), timeout=1)
    await store.setup(create=True)
    await store.write([entry("a", b"old")])
    with admin(postgres_url) as holder:
        holder.execute("BEGIN")
        holder.execute("SELECT 1 FROM tiered_cache_entry FOR UPDATE")
        with pytest.raises(StoreUnavailableError):
            await store.write([entry("a", b"new")])
        holder.execute("COMMIT")
    assert (await store.read([digest("a")], [])).rows[digest("a")].envelope == b"old"
    await store.aclose()


@DRIVERS
async def test_connections_dropped_while_idle_are_replaced_before_anybody_notices(
    postgres_url: str, driver: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_connect, "_IDLE_SECONDS", 0.0)
    store = SqlStore(with_driver(postgres_url, driver))
    await store.setup(create=True)
    async with anyio.create_task_group() as tasks:
        for i in range(20):
            tasks.start_soon(store.write, [entry(i)])
    with admin(postgres_url) as connection:
        terminate(connection)
    async with anyio.create_task_group() as tasks:
        for i in range(20):
            tasks.start_soon(store.write, [entry(i)])
    await store.aclose()


@DRIVERS
async def test_after_a_restart_of_the_server_at_most_one_call_for_each_connection_fails(
    spare_postgres: PostgresServer, spare_postgres_url: str, driver: str
) -> None:
    store = SqlStore(with_driver(spare_postgres_url, driver), pool_size=1)
    await store.setup(create=True)
    spare_postgres.restart()
    with pytest.raises(StoreUnavailableError):
        await store.write([entry("a")])
    await store.write([entry("a")])
    await store.aclose()


async def test_more_callers_than_connections_wait_for_their_turn_or_their_deadline(postgres_url: str) -> None:
    store = SqlStore(postgres_url, pool_size=1, timeout=0.5)
    await store.setup(create=True)
    await store.write([entry("a"), entry("b")])
    errors: list[StoreUnavailableError] = []

    async def write() -> None:
        with pytest.raises(StoreUnavailableError) as caught:
            await store.write([entry("a")])
        errors.append(caught.value)

    with admin(postgres_url) as holder:
        holder.execute("BEGIN")
        holder.execute("SELECT 1 FROM tiered_cache_entry FOR UPDATE")
        async with anyio.create_task_group() as tasks:
            for _ in range(3):
                tasks.start_soon(write)
        holder.execute("COMMIT")
    # One had the connection; of the others nothing was sent.
    assert [error.outcome_known for error in errors].count(True) >= 2
    await store.aclose()


@pytest.mark.parametrize("anyio_backend", ["trio"])
async def test_on_trio_an_asynchronous_driver_is_refused_and_threads_work(postgres_url: str) -> None:
    with pytest.raises(ConfigurationError, match="asyncio"):
        await SqlStore(postgres_url).setup(create=True)
    store = SqlStore(with_driver(postgres_url, "psycopg"))
    await store.setup(create=True)
    await store.write([entry("a")])
    assert len((await store.read([digest("a")], [])).rows) == 1
    await store.aclose()
