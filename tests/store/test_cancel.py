"""Callers who are cancelled, in every place there is: nobody else notices, and no connection is lost."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest

from tests.servers import admin
from tests.store.conftest import Place, until_blocked
from tiered_cache._errors import StoreUnavailableError
from tiered_cache._sql import SqlStore
from tiered_cache._sql._runners import InThreads, OnLoop
from tiered_cache.testing._entries import A, Emptied, digest, entry

PLACES = pytest.mark.parametrize("place", ["sqlite", "memory", "asyncpg", "async-engine", "psycopg"], indirect=True)
ON_POSTGRES = pytest.mark.parametrize("place", ["asyncpg", "psycopg"], indirect=True)
STEPS = 40


def checked_out(store: SqlStore) -> int:
    runner = store._runner
    if isinstance(runner, OnLoop):
        pool: Any = runner._opened.get().engine.sync_engine.pool
    else:
        assert isinstance(runner, InThreads)
        pool = runner._engine.pool
    return pool.checkedout() if hasattr(pool, "checkedout") else 0


async def own_answers(store: SqlStore) -> None:
    """Everybody is given what belongs to their key, and nothing else."""

    async def ask(i: int) -> None:
        found = await store.read([digest(i)], [])
        assert {key: row.envelope for key, row in found.rows.items()} == {digest(i): b"%d" % i}

    async with anyio.create_task_group() as tasks:
        for i in range(10):
            tasks.start_soon(ask, i)


def calls(store: SqlStore) -> list[Callable[[], Any]]:
    return [
        lambda: store.read([digest(i) for i in range(5)], [A]),
        lambda: store.write([entry("cancelled", b"x" * 1000)]),
        lambda: store.delete([digest("cancelled")]),
        lambda: store.clear(b"elsewhere"),
        lambda: store.reclaim(10, Emptied()),
    ]


@PLACES
async def test_a_cancel_scope_may_close_at_any_moment(place: Place) -> None:
    store = await place.ready()
    await store.write([entry(i, b"%d" % i) for i in range(10)])

    async def cancelled_after(steps: int, call: Callable[[], Any]) -> None:
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(call)
                for _ in range(steps):
                    await anyio.lowlevel.checkpoint()
                scope.cancel()

    for steps in range(STEPS):
        async with anyio.create_task_group() as tasks:
            for call in calls(store):
                tasks.start_soon(cancelled_after, steps, call)
            tasks.start_soon(own_answers, store)
        assert checked_out(store) == 0
    await own_answers(store)


@PLACES
async def test_a_task_may_be_cancelled_at_any_moment(place: Place) -> None:
    """Not by a scope, but as asyncio does it: `Task.cancel`, `wait_for`, `timeout`."""
    store = await place.ready()
    await store.write([entry(i, b"%d" % i) for i in range(10)])
    for steps in range(STEPS):
        tasks = [asyncio.ensure_future(call()) for call in calls(store)]
        others = asyncio.create_task(own_answers(store))
        for _ in range(steps):
            await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        done, _ = await asyncio.wait(tasks)
        assert all(task.cancelled() or task.exception() is None for task in done)
        await others
        assert checked_out(store) == 0
    await own_answers(store)


@ON_POSTGRES
async def test_a_cancelled_writer_leaves_when_its_statement_has_ended(place: Place) -> None:
    """Or it could put its mark away while the change it stands for is still to come."""
    store = await place.ready()
    await store.write([entry("a", b"old")])
    with admin(place.url) as holder:
        holder.execute("BEGIN")
        holder.execute("SELECT 1 FROM tiered_cache_entry FOR UPDATE")
        writer = asyncio.ensure_future(store.write([entry("a", b"new")]))
        await anyio.to_thread.run_sync(until_blocked, place.url, 1)
        for _ in range(3):
            writer.cancel()
            await asyncio.sleep(0)
        assert not writer.done()
        holder.execute("COMMIT")
        await asyncio.wait([writer])
    assert writer.cancelled()
    assert (await store.read([digest("a")], [])).rows[digest("a")].envelope == b"new"


@ON_POSTGRES
async def test_what_has_happened_is_told_even_to_whoever_was_cancelled_meanwhile(place: Place) -> None:
    store = await place.ready()
    (before,) = await store.write([entry("a")])
    versions: list[int] = []
    with admin(place.url) as holder:
        holder.execute("BEGIN")
        holder.execute("SELECT 1 FROM tiered_cache_entry FOR UPDATE")
        async with anyio.create_task_group() as tasks:

            async def write() -> None:
                versions.extend(await store.write([entry("a")]))

            tasks.start_soon(write)
            await anyio.to_thread.run_sync(until_blocked, place.url, 1)
            tasks.cancel_scope.cancel()
            holder.execute("COMMIT")
    assert versions > [before]


@ON_POSTGRES
async def test_a_cancelled_caller_waits_no_longer_than_the_deadline(place: Place) -> None:
    ready = await place.ready()
    store = place.store(timeout=0.3)
    await ready.write([entry("a")])
    with admin(place.url) as holder:
        holder.execute("BEGIN")
        holder.execute("SELECT 1 FROM tiered_cache_entry FOR UPDATE")
        with pytest.raises(TimeoutError):  # asyncio's own, not swallowed and not doubled
            async with asyncio.timeout(0.01):
                await store.write([entry("a")])
        with anyio.move_on_after(0.01) as scope, pytest.raises(StoreUnavailableError):
            await store.write([entry("a")])
        assert scope.cancel_called
        holder.execute("COMMIT")
    await ready.write([entry("a")])
    assert checked_out(store) == 0


@ON_POSTGRES
async def test_deadlines_that_pass_cost_no_connection(place: Place) -> None:
    ready = await place.ready()
    store = place.store(timeout=1.0, pool_size=2)
    await ready.write([entry("a")])
    with admin(place.url) as holder:
        holder.execute("BEGIN")
        holder.execute("SELECT 1 FROM tiered_cache_entry FOR UPDATE")
        for _ in range(3):
            async with anyio.create_task_group() as tasks:
                for _ in range(4):
                    tasks.start_soon(refused, store)
        holder.execute("COMMIT")
    with anyio.fail_after(10):
        while checked_out(store):  # noqa: ASYNC110 (closing a connection tells nobody)
            await anyio.sleep(0.01)
    async with anyio.create_task_group() as tasks:
        for i in range(10):
            tasks.start_soon(store.write, [entry(i)])


async def refused(store: SqlStore) -> None:
    with pytest.raises(StoreUnavailableError):
        await store.write([entry("a")])
