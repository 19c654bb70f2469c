"""Versions order what happens to a key, and to an address, as it was committed."""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable
from itertools import pairwise
from typing import Any

import anyio
import anyio.to_thread
import psycopg
import pytest

from tests.servers import admin
from tests.store.conftest import POSTGRES, SHARED, A, Emptied, Place, digest, entry, until_blocked
from tiered_cache._sql import SqlStore

WRITERS = 80


async def together(n: int, call: Callable[[int], Any]) -> None:
    async with anyio.create_task_group() as tasks:
        for i in range(n):
            tasks.start_soon(call, i)


async def test_versions_go_up_with_every_change_whatever_it_is(store: SqlStore) -> None:
    seen = [*await store.write([entry("a")]), *await store.write([entry("a")])]
    await store.delete([digest("a")])
    seen += await store.write([entry("a")])
    seen += [await store.clear(A)]
    seen += await store.write([entry("a", ttl=1)])
    seen += [await store.clear(A), await store.clear(b"")]
    await store.erase(A, 10, Emptied())
    seen += await store.write([entry("a")])
    assert seen == sorted(set(seen))


async def test_many_writers_of_one_key_leave_one_row_with_the_highest_version(store: SqlStore) -> None:
    written: dict[int, bytes] = {}

    async def write(i: int) -> None:
        (version,) = await store.write([entry("a", b"%d" % i)])
        written[version] = b"%d" % i

    await together(WRITERS, write)
    assert len(written) == WRITERS
    row = (await store.read([digest("a")], [])).rows[digest("a")]
    assert (row.version, row.envelope) == max(written.items())


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


async def test_batches_with_the_same_keys_in_opposite_order_never_deadlock(place: Place) -> None:
    one, other = await place.ready(), place.store()
    if place.kind == "memory":
        other = one
    entries = [entry(i) for i in range(100)]

    async def work(i: int) -> None:
        keys = entries if i % 2 else entries[::-1]
        store = one if i % 4 < 2 else other
        if i % 5:
            await store.write(keys)
        else:
            await store.delete([e.digest for e in keys])

    for _ in range(5):
        await together(16, work)
    await one.write(entries)
    assert len((await one.read([e.digest for e in entries], [])).rows) == 100


async def test_clears_at_once_give_each_a_version_and_keep_the_highest(store: SqlStore) -> None:
    versions: list[int] = []

    async def clear(_: int) -> None:
        versions.append(await store.clear(A))

    await together(20, clear)
    assert len(set(versions)) == 20
    assert (await store.read([], [A])).watermarks == {A: max(versions)}


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


async def test_a_batch_is_written_whole_or_not_at_all(store: SqlStore) -> None:
    """No reader sees some of a batch: each envelope names the batch it came with."""
    keys = [digest(i) for i in range(10)]
    seen: list[set[bytes]] = []
    done = anyio.Event()

    async def read() -> None:
        while not done.is_set():
            rows = (await store.read(keys, [])).rows
            seen.append({row.envelope for row in rows.values()})
            assert len(rows) in (0, 10)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(read)
        for batch in range(30):
            await store.write([entry(i, b"%d" % batch) for i in range(10)])
        done.set()
    assert all(len(envelopes) <= 1 for envelopes in seen)
    firsts = [int(next(iter(envelopes))) for envelopes in seen if envelopes]
    assert all(earlier <= later for earlier, later in pairwise(firsts))
