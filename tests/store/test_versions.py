"""Versions order what happens to a key, and to an address, as it was committed."""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import anyio.to_thread
import psycopg
import pytest

from tests.servers import admin
from tests.store.conftest import POSTGRES, SHARED, Place, until_blocked
from tiered_cache._sql import SqlStore
from tiered_cache.testing._entries import digest, entry


async def together(n: int, call: Callable[[int], Any]) -> None:
    async with anyio.create_task_group() as tasks:
        for i in range(n):
            tasks.start_soon(call, i)


@pytest.mark.parametrize("place", SHARED, indirect=True)
async def test_writers_in_other_stores_and_threads_do_no_harm(place: Place) -> None:
    """Each thread has a loop and a store of its own, so nothing but the database keeps them apart."""
    await place.ready()
    stores = [place.store() for _ in range(4)]
    written: set[int] = set()

    async def several(store: SqlStore) -> None:
        async def write(i: int) -> None:
            written.update(await store.write([entry("a", b"%d" % i), entry(i)]))

        await together(10, write)
        await store.aclose()

    threads = [threading.Thread(target=anyio.run, args=(several, store)) for store in stores]
    for thread in threads:
        thread.start()
    for thread in threads:
        await anyio.to_thread.run_sync(thread.join)
    assert len(written) == 4 * 10 * 2
    assert max(written) >= (await stores[0].read([digest("a")], [])).rows[digest("a")].version


# Draws a version before the row is locked, as `excluded.version` is.
NAIVE = """
    INSERT INTO tiered_cache_entry (digest, address, version, envelope)
    VALUES (%s, '', nextval('tiered_cache_version'), '')
    ON CONFLICT (digest) DO UPDATE SET version = excluded.version RETURNING version
"""


def naive(connection: psycopg.Connection[Any]) -> int:
    row = connection.execute(NAIVE, [digest("a")]).fetchone()
    assert row is not None
    return row[0]


async def overtaken(place: Place, late: Callable[[], Awaitable[int]]) -> tuple[int, int]:
    """Somebody locks a row, `late` begins to write it and waits, the row is written and committed, `late` goes on.

    Returns the version of the one in between and that of the one who was late.
    """
    last: list[int] = []
    between = 0

    async def write() -> None:
        last.append(await late())

    with admin(place.url) as holder:
        holder.execute("BEGIN")
        holder.execute("SELECT 1 FROM tiered_cache_entry WHERE digest = %s FOR UPDATE", [digest("a")])
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(write)
            await anyio.to_thread.run_sync(until_blocked, place.url, 1)
            between = naive(holder)
            holder.execute("COMMIT")
    return between, last[0]


@pytest.mark.parametrize("place", POSTGRES, indirect=True)
async def test_a_writer_who_had_to_wait_has_the_higher_version(place: Place) -> None:
    store = await place.ready()
    await store.write([entry("a")])

    async def late() -> int:
        (version,) = await store.write([entry("a")])
        return version

    between, last = await overtaken(place, late)
    assert between < last
    assert (await store.read([digest("a")], [])).rows[digest("a")].version == last


@pytest.mark.parametrize("place", ["psycopg"], indirect=True)
async def test_a_version_drawn_before_the_lock_would_go_backwards(place: Place) -> None:
    """The naive upsert under the same gate."""
    store = await place.ready()
    await store.write([entry("a")])

    def late() -> int:
        with admin(place.url) as connection:
            return naive(connection)

    between, last = await overtaken(place, lambda: anyio.to_thread.run_sync(late))
    assert last < between
