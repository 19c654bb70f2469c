"""The part of the store's suite about what outlasts a fault: the journal, and rows in their time of grace."""

from __future__ import annotations

from typing import Final

import anyio

from tiered_cache._tiers import Notice, Row, Store

from ._entries import A, Emptied, digest, drained, entry
from ._store_base import StoreTests

_CELLS: Final = [b"front:aa", b"front:bb"]


async def _cells(store: Store, prefix: bytes = b"", limit: int = 10_000) -> list[bytes]:
    return sorted(notice.cell for notice in await store.journal(prefix, limit))


class JournalSuite(StoreTests):
    """What the front could not be told of stays on record until it is acknowledged. Part of `StoreSuite`."""

    async def test_every_change_can_be_recorded(self) -> None:
        async with self.ready() as store:
            assert list(await store.journal(b"", 9)) == []
            await store.write([entry("a")], [b"written"])
            await store.delete([digest("a")], [b"deleted"])
            watermark = await store.clear(A, [b"cleared"])
            await store.write([entry("b")])
            assert await _cells(store) == [b"cleared", b"deleted", b"written"]
            found = await store.read([digest("a")], [A])
            assert found == ({}, {A: watermark})

    async def test_what_is_recorded_twice_is_listed_once_with_a_higher_version(self) -> None:
        async with self.ready() as store:
            await store.write([entry("a")], _CELLS)
            before = dict(await store.journal(b"", 100))
            await store.write([entry("a")], _CELLS[:1])
            after = dict(await store.journal(b"", 100))
            assert len(await store.journal(b"", 100)) == len(after)
            assert sorted(after) == _CELLS
            assert after[_CELLS[0]] > before[_CELLS[0]]
            assert after[_CELLS[1]] == before[_CELLS[1]]

    async def test_a_notice_that_was_recorded_again_outlives_its_acknowledgement(self) -> None:
        async with self.ready() as store, self.another(store) as other:
            await store.write([entry("a")], _CELLS)
            seen = await other.journal(b"", 100)
            await store.delete([digest("a")], _CELLS[1:])
            await other.acknowledge(seen)
            assert await _cells(store) == _CELLS[1:]
            await store.acknowledge(await store.journal(b"", 100))
            await store.acknowledge([Notice(b"nobody", 1)])
            await store.acknowledge([])
            assert await _cells(store) == []

    async def test_a_notice_recorded_after_an_acknowledgement_is_newer_than_the_acknowledged(self) -> None:
        """So that a late acknowledgement of the older one does not remove it."""
        async with self.ready() as store:
            await store.clear(A, _CELLS)
            older = await store.journal(b"", 100)
            await store.acknowledge(older)
            await store.clear(A, _CELLS)
            await store.acknowledge(older)
            newer = dict(await store.journal(b"", 100))
            assert sorted(newer) == _CELLS
            assert all(newer[cell] > version for cell, version in older)

    async def test_only_what_begins_with_the_prefix_is_listed_and_no_more_than_asked_for(self) -> None:
        names = [b"a:1", b"a:2", b"a:3", b"a;", b"a", b"b:1", b"A:1", b"a%", b"\xff\xff", b"\xff", b"\0"]
        async with self.ready() as store:
            await store.write([entry("a")], names)
            assert await _cells(store, b"a:") == [b"a:1", b"a:2", b"a:3"]
            assert len(await _cells(store, b"a:", 2)) == 2
            assert set(await _cells(store, b"a:", 2)) < {b"a:1", b"a:2", b"a:3"}
            assert await _cells(store, b"a%") == [b"a%"]
            assert await _cells(store, b"\xff") == [b"\xff", b"\xff\xff"]
            assert await _cells(store) == sorted(names)

    async def test_acknowledging_page_by_page_comes_to_an_end(self) -> None:
        many = [b"front:%05d" % n for n in range(3000)]
        listed: list[bytes] = []
        async with self.ready() as store:
            await store.delete([digest("a")], many)
            assert await _cells(store, b"front:") == many
            while page := await store.journal(b"front:", 1000):
                assert len(page) <= 1000
                listed += [notice.cell for notice in page]
                await store.acknowledge(page)
        assert sorted(listed) == many

    async def test_recording_and_acknowledging_at_once_never_deadlock(self) -> None:
        """In any order of cells: a deadlock would be a change that fails."""
        many = [b"front:%02d" % n for n in range(40)]
        async with self.ready() as store, self.another(store) as other:

            async def record(step: int) -> None:
                for n in range(15):
                    await store.write([entry(i) for i in range(8)], many[::step])
                    await other.delete([digest(n)], many[::-step])

            async def acknowledge() -> None:
                for _ in range(15):
                    await other.acknowledge(list(reversed(await store.journal(b"", 100))))

            async with anyio.create_task_group() as tasks:
                for step in (1, -1, 2):
                    tasks.start_soon(record, step)
                    tasks.start_soon(acknowledge)
            await store.acknowledge(await store.journal(b"", 100))
            assert await _cells(store) == []

    # --- grace --------------------------------------------------------------------------------------------------------

    async def test_in_its_time_of_grace_a_row_is_there_for_those_who_take_stale_ones(self) -> None:
        async with self.ready() as store:
            clock, asked = self.clock, [digest("a")]
            if clock is None:
                return
            (version,) = await store.write([entry("a", ttl=1000, name=b"sa")._replace(grace=500)])
            assert (await store.read(asked, [])).rows == {digest("a"): Row(version, 1000, b"envelope")}
            assert (await store.read(asked, [], stale=True)).rows == {digest("a"): Row(version, 1000, b"envelope")}
            clock.advance(1.2)
            assert (await store.read(asked, [])).rows == {}
            assert list(await store.names(A, b"", b"", 9)) == []
            assert (await store.read(asked, [], stale=True)).rows == {digest("a"): Row(version, -200, b"envelope")}
            assert await store.reclaim(10, Emptied()) == 0
            clock.advance(0.3)
            assert (await store.read(asked, [], stale=True)).rows == {}
            assert await store.reclaim(10, Emptied()) == 1

    async def test_an_expired_row_is_stale_only_by_its_own_grace(self) -> None:
        """By whatever clock: a millisecond to live, and then an hour of grace, or none."""
        async with self.ready() as store:
            brief = [entry(name, ttl=1) for name in ("grace", "none", "again")]
            await store.write([brief[0]._replace(grace=3_600_000), brief[1], brief[2]._replace(grace=3_600_000)])
            await store.write([brief[2]])  # writing again ends the grace of the row before
            await store.write([entry("ever")._replace(grace=1)])
            keys = [digest(name) for name in ("grace", "none", "again", "ever")]
            await self.expired(store, "grace", "none", "again")
            rows = (await store.read(keys, [], stale=True)).rows
            assert set(rows) == {digest("grace"), digest("ever")}
            left = rows[digest("grace")].left
            assert left is not None
            assert left <= 0
            assert sum(await drained(store, 10)) == 2
            assert set((await store.read(keys, [], stale=True)).rows) == {digest("grace"), digest("ever")}
