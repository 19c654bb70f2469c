"""The part of the store's suite about many at once: versions, batches, loops, threads and cancelled callers."""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable, Coroutine
from itertools import pairwise
from typing import Any

import anyio
import anyio.lowlevel
import anyio.to_thread

from tiered_cache._errors import StoreUnavailableError
from tiered_cache._tiers import Notice, Store

from ._entries import A, Emptied, content, digest, entry, refused
from ._store_base import StoreTests


async def _together(n: int, call: Callable[[int], Coroutine[Any, Any, object]]) -> None:
    async with anyio.create_task_group() as tasks:
        for i in range(n):
            tasks.start_soon(call, i)


class ChangeSuite(StoreTests):
    """Versions in the order of commits, batches whole or not at all. Part of `StoreSuite`."""

    async def test_versions_go_up_with_every_change_whatever_it_is(self) -> None:
        async with self.ready() as store:
            seen = [*await store.write([entry("a")]), *await store.write([entry("a")])]
            await store.delete([digest("a")])
            seen += await store.write([entry("a")])
            seen += [await store.clear(A)]
            seen += await store.write([entry("a", ttl=1)])
            seen += [await store.clear(A), await store.clear(b"")]
            await store.erase(A, 10, Emptied())
            seen += await store.write([entry("a")])
            assert seen == sorted(set(seen))

    async def test_many_writers_of_one_key_leave_one_row_with_the_highest_version(self) -> None:
        written: dict[int, bytes] = {}
        async with self.ready() as store:

            async def write(i: int) -> None:
                (version,) = await store.write([entry("a", b"%d" % i)])
                written[version] = b"%d" % i

            await _together(80, write)
            assert len(written) == 80
            row = (await store.read([digest("a")], [])).rows[digest("a")]
            assert (row.version, row.envelope) == max(written.items())

    async def test_batches_with_the_same_keys_in_opposite_order_never_deadlock(self) -> None:
        entries = [entry(i) for i in range(100)]
        async with self.ready() as one, self.another(one) as other:

            async def work(i: int) -> None:
                keys = entries if i % 2 else entries[::-1]
                store = one if i % 4 < 2 else other
                if i % 5:
                    await store.write(keys)
                else:
                    await store.delete([e.digest for e in keys])

            for _ in range(5):
                await _together(16, work)
            await one.write(entries)
            assert len((await one.read([e.digest for e in entries], [])).rows) == 100

    async def test_clears_at_once_give_each_a_version_and_keep_the_highest(self) -> None:
        versions: list[int] = []
        async with self.ready() as store:

            async def clear(_: int) -> None:
                versions.append(await store.clear(A))

            await _together(20, clear)
            assert len(set(versions)) == 20
            assert (await store.read([], [A])).watermarks == {A: max(versions)}

    async def test_a_batch_is_written_whole_or_not_at_all(self) -> None:
        """No reader sees some of a batch: each envelope names the batch it came with."""
        keys = [digest(i) for i in range(10)]
        seen: list[set[bytes]] = []
        done = anyio.Event()

        async with self.ready() as store:

            async def read() -> None:
                while not done.is_set():
                    rows = (await store.read(keys, [])).rows
                    seen.append({row.envelope for row in rows.values()})
                    assert len(rows) in (0, 10)
                    await anyio.lowlevel.checkpoint()

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(read)
                for batch in range(30):
                    await store.write([entry(i, b"%d" % batch) for i in range(10)])
                    await anyio.lowlevel.checkpoint()
                done.set()
        assert all(len(envelopes) <= 1 for envelopes in seen)
        firsts = [int(next(iter(envelopes))) for envelopes in seen if envelopes]
        assert all(earlier <= later for earlier, later in pairwise(firsts))

    async def test_many_may_set_it_up_at_once(self) -> None:
        identities: list[str] = []
        async with self.store() as one, self.another(one) as other:

            async def set_up(i: int) -> None:
                identities.append(await (one, other)[i % 2].setup(create=True))

            await _together(8, set_up)
            assert len(identities) == 8
            assert len(set(identities)) == 1

    async def test_loops_in_several_threads_share_it_and_each_gets_its_own_answers(self) -> None:
        wrong: list[object] = []

        async with self.ready() as store:

            async def one(who: int, i: int) -> None:
                name, envelope = (who, i), b"%d of %d" % (i, who)
                await store.write([entry(name, envelope)])
                found = (await store.read([digest(name), digest("nobody")], [])).rows
                if [(key, row.envelope) for key, row in found.items()] != [(digest(name), envelope)]:
                    wrong.append(found)

            async def main(who: int) -> None:
                await _together(10, lambda i: one(who, i))

            threads = [threading.Thread(target=anyio.run, args=(main, who)) for who in range(4)]
            for thread in threads:
                thread.start()
            await main(4)
            for thread in threads:
                await anyio.to_thread.run_sync(thread.join)
            assert wrong == []
            assert len((await store.read([digest((w, i)) for w in range(5) for i in range(10)], [])).rows) == 50

    async def test_a_cancelled_caller_harms_nobody_and_writes_all_or_nothing(self) -> None:
        async with self.ready() as store:
            await store.write([entry("a", b"kept")])
            for steps in range(20):
                async with anyio.create_task_group() as calls:
                    calls.start_soon(_kept, store)
                    async with anyio.create_task_group() as hasty:
                        hasty.start_soon(store.write, [entry((steps, i)) for i in range(3)])
                        hasty.start_soon(store.read, [digest("a")], [A])
                        for _ in range(steps):
                            await anyio.lowlevel.checkpoint()
                        hasty.cancel_scope.cancel()
                rows = (await store.read([digest((steps, i)) for i in range(3)], [])).rows
                assert len(rows) in (0, 3)

    async def test_it_can_be_used_again_after_closing(self) -> None:
        async with self.ready() as store:
            await store.write([entry("a", b"kept")])
            await store.aclose()
            await store.aclose()
            await _kept(store)
            await store.aclose()

    async def test_without_its_database_every_call_says_so(self) -> None:
        store = self.unreachable()
        if store is None:
            return
        calls: list[Callable[[], Awaitable[object]]] = [
            lambda: store.setup(create=True),
            lambda: store.read([digest("a")], [A]),
            lambda: store.write([entry("a")]),
            lambda: store.delete([digest("a")], [b"cell"]),
            lambda: store.clear(A),
            lambda: store.journal(b"", 9),
            lambda: store.acknowledge([Notice(b"cell", 1)]),
            lambda: store.names(A, b"", b"", 9),
            lambda: store.reclaim(9, Emptied()),
            lambda: store.erase(A, 9, Emptied()),
        ]
        for call in calls:
            assert await refused(call, StoreUnavailableError)
        await store.aclose()


async def _kept(store: Store) -> None:
    assert await content(store, "a") == b"kept"
