"""The part of the store's suite about removing what has expired or was cleared."""

from __future__ import annotations

from collections.abc import Sequence

import anyio

from tiered_cache._errors import FrontUnavailableError
from tiered_cache._tiers import Store

from ._entries import A, B, Emptied, content, digest, drained, entry, left, refused
from ._store_base import StoreTests


class SpaceSuite(StoreTests):
    """Rows that nobody can read any more go, a few at a time, and their cells before them. Part of `StoreSuite`."""

    async def test_expired_rows_leave_in_batches_and_valid_ones_stay(self) -> None:
        async with self.ready() as store:
            await store.write([*(entry(i, ttl=100_000 if self.clock else 1) for i in range(10)), entry("ever")])
            await store.write([entry("long", ttl=200_000)])
            if self.clock is None:
                await self.expired(store, *range(10))
            else:
                assert await store.reclaim(100, Emptied()) == 0
                self.clock.advance(100)
            # Full batches as long as there is enough: whoever gets less than a full one takes it to be the last.
            assert await drained(store, 4) == [4, 4, 2]
            assert await left(store, *range(10), "long", "ever") == {"long", "ever"}

    async def test_cleared_rows_leave_in_batches_and_valid_ones_stay(self) -> None:
        async with self.ready() as store:
            below = [entry((i, "below"), address=A + b"%016d" % i) for i in range(5)]
            await store.write([*(entry(i) for i in range(10)), *below, entry("beside", address=B)])
            await store.clear(A)
            await store.write([entry(0), entry("new")])
            assert await drained(store, 4) == [4, 4, 4, 2]
            assert await left(store, 0, "new", "beside") == {0, "new", "beside"}
            assert await left(store, *range(1, 10), *((i, "below") for i in range(5))) == set()

    async def test_expired_and_cleared_rows_share_the_limit(self) -> None:
        async with self.ready() as store:
            await store.write([*(entry(i, address=B) for i in range(3)), *(entry(i + 10, ttl=1) for i in range(3))])
            await store.clear(B)
            await self.expired(store, 10, 11, 12)
            assert await drained(store, 4) == [4, 2]

    async def test_what_was_reclaimed_can_be_written_and_cleared_again(self) -> None:
        async with self.ready() as store:
            for above in (A, b""):
                await store.write([entry(i) for i in range(5)])
                await store.clear(above)
                assert await drained(store, 100) == [5]

    async def test_of_many_calls_at_once_each_row_is_removed_by_one(self) -> None:
        removed: list[int] = []
        async with self.ready() as store:
            await store.write([entry(i) for i in range(50)])
            await store.clear(A)

            async def reclaim() -> None:
                removed.append(await store.reclaim(10, Emptied()))

            async with anyio.create_task_group() as tasks:
                for _ in range(8):
                    tasks.start_soon(reclaim)
            assert max(removed) <= 10
            assert sum(removed + await drained(store, 10)) == 50

    async def test_cleared_rows_are_emptied_in_the_front_before_they_go(self) -> None:
        async with self.ready() as store:
            await store.write([entry(i) for i in range(3)])
            await store.clear(A)
            emptied = Emptied()
            while await store.reclaim(2, emptied):
                pass
            assert set(emptied.digests) == {digest(i) for i in range(3)}

    async def test_what_cannot_be_emptied_in_the_front_stays(self) -> None:
        async with self.ready() as store:
            await store.write([entry(i) for i in range(3)])
            await store.clear(A)
            emptied = Emptied()
            emptied.error = FrontUnavailableError("planned")
            for call in (lambda: store.reclaim(10, emptied), lambda: store.erase(A, 10, emptied)):
                assert await refused(call, FrontUnavailableError), "the front did not answer, and nobody is told"
            emptied.error = None
            assert await store.erase(A, 10, emptied) == 3

    async def test_a_row_rewritten_after_it_was_found_stays(self) -> None:
        """The front is asked in between; whoever writes then has a newer version than was cleared."""
        async with self.ready() as store, self.another(store) as other:
            for erasing in (False, True):
                rewrite = _Rewriting(other)
                await store.write([entry("a", b"old"), entry("b", b"old")])
                await store.clear(A)
                await (store.erase(A, 10, rewrite) if erasing else store.reclaim(10, rewrite))
                assert rewrite.done
                assert await content(store, "a") == b"new"
                assert await left(store, "b") == set()

    async def test_erasing_removes_all_below_the_watermark_and_nothing_else(self) -> None:
        inside = [entry("a"), entry("b", address=A + B), entry("c", address=A + b"\xff" * 16)]
        beside = [entry("d", address=B), entry("e", address=b""), entry("f", address=b"@" * 16)]
        emptied = Emptied()
        async with self.ready() as store:
            assert await store.erase(A, 10, emptied) == 0
            await store.write([*inside, *beside])
            assert await store.erase(A, 10, emptied) == 0
            await store.clear(A)
            await store.write([entry("a"), entry("later")])
            assert [await store.erase(A, 1, emptied) for _ in range(3)] == [1, 1, 0]
            assert sorted(emptied.digests) == sorted([digest("b"), digest("c")])
            assert await left(store, *"abcdef", "later") == {*"adef", "later"}

    async def test_erasing_the_root_and_the_last_of_all_addresses(self) -> None:
        last = b"\xff" * 16
        emptied = Emptied()
        async with self.ready() as store:
            await store.write([entry("a", address=last), entry("b", address=last + B), entry("c")])
            await store.clear(last)
            assert await store.erase(last, 10, emptied) == 2
            assert set(emptied.digests) == {digest("a"), digest("b")}
            await store.clear(b"")
            assert await store.erase(b"", 10, emptied) == 1
            assert emptied.digests[2:] == [digest("c")]


class _Rewriting:
    """Writes one of the entries whose cells it is to empty."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.done = False

    async def __call__(self, digests: Sequence[bytes]) -> None:
        if digest("a") in digests and not self.done:
            await self._store.write([entry("a", b"new")])
            self.done = True
