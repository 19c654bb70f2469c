"""One store for every loop, every thread and every process, that leaves nothing open behind it."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
from collections.abc import Awaitable, Callable, Generator
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest
from sqlalchemy import create_engine
from sqlalchemy.ext.asyncio import create_async_engine

from tests.servers import admin, connections, left_open, with_driver
from tests.store.conftest import until_blocked
from tiered_cache._sql import SqlStore
from tiered_cache._sql._runners import InThreads
from tiered_cache.testing._entries import Emptied, digest, entry

KINDS = ("sqlite", "memory", "asyncpg", "async-engine", "psycopg")

pytestmark = pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")


def make(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> SqlStore:
    if kind == "sqlite":
        return SqlStore(f"sqlite:///{tmp_path}/store.db")
    if kind == "memory":
        return SqlStore("sqlite://")
    url = request.getfixturevalue("postgres_url")
    return SqlStore(create_async_engine(url) if kind == "async-engine" else with_driver(url, kind))


@pytest.fixture(params=KINDS)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> SqlStore:
    store = make(request.param, request, tmp_path)
    run(lambda: store.setup(create=True))
    return store


def run(call: Callable[[], Awaitable[Any]]) -> Any:
    """In a loop of its own, as `asyncio.run` does it."""

    async def main() -> Any:
        return await call()

    return asyncio.run(main())


async def some_work(store: SqlStore, who: object, n: int = 5) -> None:
    async def one(i: int) -> None:
        await store.write([entry((who, i), b"%d" % i)])
        assert (await store.read([digest((who, i))], [])).rows[digest((who, i))].envelope == b"%d" % i

    async with anyio.create_task_group() as tasks:
        for i in range(n):
            tasks.start_soon(one, i)


def test_one_loop_after_another(store: SqlStore) -> None:
    for i in range(4):
        run(lambda i=i: some_work(store, i))
    run(store.aclose)


@pytest.mark.parametrize("kind", ["asyncpg", "async-engine"])
def test_a_loop_that_ends_takes_its_connections_with_it(kind: str, postgres_url: str) -> None:
    engine = create_async_engine(postgres_url) if kind == "async-engine" else postgres_url
    store = SqlStore(engine)
    for _ in range(3):
        run(lambda: store.setup(create=True))
        run(lambda: some_work(store, "a"))
        assert left_open(postgres_url) == 0


def test_a_store_that_is_dropped_without_being_closed_closes_what_it_opened(postgres_url: str) -> None:
    def use_and_drop() -> None:
        store = SqlStore(with_driver(postgres_url, "psycopg"))
        run(lambda: store.setup(create=True))
        assert connections(postgres_url) == 1

    use_and_drop()
    gc.collect()
    assert left_open(postgres_url) == 0


def test_closing_closes_everything_and_the_store_can_be_used_again(store: SqlStore, request: Any) -> None:
    async def use() -> None:
        await some_work(store, "a")
        await store.aclose()
        await store.aclose()
        await some_work(store, "b")
        await store.aclose()

    run(use)
    if "postgres_url" in request.fixturenames:
        assert left_open(request.getfixturevalue("postgres_url")) == 0


@pytest.mark.parametrize("driver", ["asyncpg", "psycopg"])
async def test_a_statement_under_way_ends_in_peace_and_its_connection_is_closed_then(
    postgres_url: str, driver: str
) -> None:
    store = SqlStore(with_driver(postgres_url, driver))
    await store.setup(create=True)
    await store.write([entry("a")])
    with admin(postgres_url) as holder:
        holder.execute("BEGIN")
        holder.execute("SELECT 1 FROM tiered_cache_entry FOR UPDATE")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(store.write, [entry("a")])
            await anyio.to_thread.run_sync(until_blocked, postgres_url, 1)
            await store.aclose()
            holder.execute("COMMIT")
    gc.collect()  # would warn of what is still open
    assert await anyio.to_thread.run_sync(left_open, postgres_url) == 0


async def test_closing_reaches_connections_of_other_loops(postgres_url: str) -> None:
    store = SqlStore(postgres_url)
    await store.setup(create=True)
    working, leave = threading.Event(), anyio.Event()
    elsewhere: list[asyncio.AbstractEventLoop] = []

    async def other() -> None:
        await some_work(store, "other")
        elsewhere.append(asyncio.get_running_loop())
        working.set()
        await leave.wait()

    thread = threading.Thread(target=run, args=(other,))
    thread.start()
    await anyio.to_thread.run_sync(working.wait)
    await store.aclose()
    assert await anyio.to_thread.run_sync(left_open, postgres_url) == 0
    elsewhere[0].call_soon_threadsafe(leave.set)
    await anyio.to_thread.run_sync(thread.join)


@pytest.fixture(params=["sqlite", "memory", "sqlite-engine"])
def embedded(request: pytest.FixtureRequest, tmp_path: Path) -> Generator[SqlStore]:
    if request.param == "sqlite-engine":
        engine = create_engine(f"sqlite:///{tmp_path}/store.db")
        yield SqlStore(engine)
        engine.dispose()
    else:
        yield make(request.param, request, tmp_path)


@pytest.mark.every_backend
async def test_every_event_loop_is_served_by_worker_threads(embedded: SqlStore, no_blocking_calls: None) -> None:
    store = embedded
    await store.setup(create=True)
    await some_work(store, "a", 20)
    version = await store.clear(b"")
    assert (await store.read([], [b""])).watermarks == {b"": version}
    assert await store.reclaim(100, Emptied()) == 20
    with anyio.move_on_after(0):
        await store.write([entry("cancelled")])
    await some_work(store, "b", 20)
    await store.aclose()


# -- forks


def in_a_child(work: Callable[[], None]) -> None:
    """Runs `work` in a forked child and fails if it did."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            work()
            status = 0
        except BaseException as error:  # noqa: BLE001 (the child must not return into pytest)
            os.write(2, repr(error).encode())
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_a_forked_child_and_its_parent_do_not_share_connections(store: SqlStore) -> None:
    run(lambda: some_work(store, "before"))

    def work() -> None:
        run(lambda: some_work(store, "child", 20))

    for _ in range(2):
        in_a_child(work)
    run(lambda: some_work(store, "after", 20))
    run(store.aclose)


def test_a_child_is_not_stopped_by_locks_that_the_parent_holds(tmp_path: Path) -> None:
    store = SqlStore(f"sqlite:///{tmp_path}/store.db")
    run(lambda: store.setup(create=True))
    runner = store._runner
    assert isinstance(runner, InThreads)
    assert store._sweeping.acquire()
    with runner._lock:
        in_a_child(lambda: run(lambda: some_work(store, "child")))
        in_a_child(lambda: run(lambda: reclaimed(store)))
    store._sweeping.release()
    run(lambda: some_work(store, "parent"))
    run(store.aclose)


async def reclaimed(store: SqlStore) -> None:
    await store.clear(b"")
    assert await store.reclaim(100, Emptied()) == 5


def test_a_database_in_memory_goes_along_as_a_copy() -> None:
    store = SqlStore("sqlite://")
    run(lambda: store.setup(create=True))
    run(lambda: store.write([entry("a", b"before")]))

    async def seen() -> bytes:
        return (await store.read([digest("a")], [])).rows[digest("a")].envelope

    def work() -> None:
        assert run(seen) == b"before"
        run(lambda: store.write([entry("a", b"child")]))

    in_a_child(work)
    assert run(seen) == b"before"


def test_an_engine_of_the_users_is_used_on_both_sides_of_a_fork(postgres_url: str) -> None:
    engine = create_engine(with_driver(postgres_url, "psycopg"))
    store = SqlStore(engine)
    run(lambda: store.setup(create=True))
    in_a_child(lambda: run(lambda: some_work(store, "child")))
    run(lambda: some_work(store, "parent"))
    engine.dispose()
    assert left_open(postgres_url) == 0
