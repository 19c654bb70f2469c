"""A tier that is slow, frozen or written by others holds up nobody who does not need it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from time import monotonic
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from tests.doubles import DictStore
from tests.processes import unhurried
from tiered_cache import (
    MISSING,
    ConfigurationError,
    Entry,
    FrontUnavailableError,
    MemoryFront,
    Step,
    StoreUnavailableError,
    TieredCache,
)
from tiered_cache import _access as access_module
from tiered_cache._tiers import Emptying
from tiered_cache.testing import FaultyFront, FaultyStore
from tiered_cache.testing._gates import PATIENCE_SECONDS

pytestmark = pytest.mark.every_backend


class Tiers:
    def __init__(self, **options: Any) -> None:
        self.inner = MemoryFront()
        self.front = FaultyFront(self.inner)
        self.rows = DictStore()
        self.store = FaultyStore(self.rows)
        self.cache = TieredCache(self.front, self.store, **unhurried(**options))
        self.cache.view.shared.engine.on_change = lambda _: None


class TestHitsBesideAFrozenStore:
    async def test_a_hit_does_not_wait_for_a_miss_of_its_batch(self) -> None:
        tiers = Tiers()
        await tiers.cache.set("hit", 1)
        await tiers.cache.get("hit")
        tiers.cache.view.shared.engine._looks._loops.clear()  # or who was alone before would go first by himself
        frozen = tiers.store.stop("read", "before")
        found: list[Any] = []
        answered = anyio.Event()

        async def ask() -> None:
            found.append(await tiers.cache.get("hit"))
            answered.set()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(tiers.cache.get, "miss")
            tasks.start_soon(ask)
            await frozen.reached()
            with anyio.fail_after(PATIENCE_SECONDS):
                await answered.wait()
            frozen.open()
        assert found == [1]
        assert tiers.front.count("get") == 2  # the miss and the hit shared one

    async def test_nor_for_any_number_of_batches_that_wait_for_the_store(self) -> None:
        tiers = Tiers(batches_in_flight=2)
        await tiers.cache.set("hit", 1)
        await tiers.cache.get("hit")
        gates = [tiers.store.stop("read", "before") for _ in range(2)]
        async with anyio.create_task_group() as tasks:
            for i, gate in enumerate(gates):
                tasks.start_soon(tiers.cache.get, f"miss {i}")
                await gate.reached()
            tasks.start_soon(tiers.cache.get, "one more miss, which has to queue")
            await anyio.wait_all_tasks_blocked()
            with anyio.fail_after(PATIENCE_SECONDS):
                assert await tiers.cache.get("hit") == 1
            for gate in gates:
                gate.open()
        assert tiers.store.count("read") == 1 + 3

    async def test_what_two_looks_saw_differently_is_asked_of_the_store(self) -> None:
        """One saw the older cell without its watermark; the other, later, the newer one. Both meet in one fetch."""
        tiers = Tiers(batches_in_flight=1)
        cache = tiers.cache
        await cache.set("k", "older")
        await cache.get("k")
        held_up = tiers.store.stop("read", "before")
        found: list[Any] = []

        async def ask() -> None:
            found.append(await cache.get("k"))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(cache.get, "holds up the fetches")
            await held_up.reached()
            forget_watermarks(tiers)
            tasks.start_soon(ask)
            await anyio.wait_all_tasks_blocked()
            await cache.set("k", "newer")
            forget_watermarks(tiers)
            tasks.start_soon(ask)
            await anyio.wait_all_tasks_blocked()
            held_up.open()
        assert found == ["newer", "newer"]


def forget_watermarks(tiers: Tiers) -> None:
    for digest in tiers.cache.view.scope.watermarks.values():
        tiers.inner._drop(f"tiered_cache:dict:{digest.hex()}".encode())


class TestLimits:
    async def test_many_keys_of_one_call_are_asked_in_parts(self) -> None:
        tiers = Tiers(batch_items=50)
        items = {str(i): i for i in range(120)}
        await tiers.cache.set_many(items)
        assert await tiers.cache.get_many(items) == items
        assert [call.keys for call in tiers.front.calls if call.name == "get"] == [51, 51, 21]

    async def test_large_values_make_small_batches(self) -> None:
        tiers = Tiers(batch_bytes=10_000)
        await tiers.cache.set_many({str(i): "x" * 5_000 for i in range(20)})
        await tiers.cache.get_many(map(str, range(20)))  # learns their size
        tiers.front.calls.clear()
        async with anyio.create_task_group() as tasks:
            for i in range(20):
                tasks.start_soon(tiers.cache.get, str(i))
        assert max(call.keys for call in tiers.front.calls) <= 2 + 1
        async with anyio.create_task_group() as tasks:
            for i in range(20):
                tasks.start_soon(tiers.cache.set, str(i), "y" * 6_000)
        assert [call.keys for call in tiers.store.calls if call.name == "write"][1:] == [1] * 20


class TestErasing:
    async def test_cells_go_before_the_background_removes_their_rows(self) -> None:
        """Afterwards nobody would know where to look for them."""
        tiers = Tiers()
        space = tiers.cache.namespace("n")
        await space.set_many({str(i): "secret" for i in range(10)})
        await space.clear()
        assert held(tiers)
        assert await tiers.cache.reclaim() == 10
        assert not held(tiers)
        assert await space.erase() == 0

    async def test_cleared_rows_stay_while_the_front_does_not_answer_and_expired_ones_go(self) -> None:
        now = [0.0]
        tiers = Tiers()
        tiers.rows._clock = lambda: now[0]
        await tiers.cache.namespace("n").set("k", "secret")
        await tiers.cache.namespace("n").clear()
        await tiers.cache.namespace("o").set("k", 1, ttl=1)
        tiers.front.down = True
        with pytest.raises(FrontUnavailableError):
            await tiers.cache.reclaim()
        assert len(tiers.rows.rows) == 2
        tiers.front.down = False
        now[0] += 1000
        assert await tiers.cache.reclaim() == 2
        assert not held(tiers)

    async def test_a_step_that_is_lost_in_mid_erasure_is_an_error_and_not_forgotten(self) -> None:
        tiers = Tiers(reclaim_rows=3)
        space = tiers.cache.namespace("n")
        await space.set_many({str(i): "secret" for i in range(10)})
        await space.get("0")
        with_steps = [call.name for call in tiers.front.calls].count("settle_write")
        tiers.front.fail("settle_write", "before")  # that of the clear
        for _ in range(2):
            tiers.front.fail("settle_write", "before")
        with pytest.raises(FrontUnavailableError):
            await space.erase()
        assert tiers.front.count("settle_write") > with_steps
        assert held(tiers)
        tiers.front.forget_plans()
        assert await space.erase() == 10
        assert not held(tiers)


def held(tiers: Tiers) -> int:
    return sum(b"secret" in cell.content for cell in tiers.inner._cells.values())


class StrangeFront(MemoryFront):
    """Somebody's front, with a defect."""

    async def get(self, keys: Sequence[bytes]) -> list[bytes | None]:
        raise LookupError("a defect")

    async def apply(self, steps: Sequence[Step], token: bytes, mark_ttl: int) -> list[bool]:
        raise RuntimeError("can't start new thread")


class StrangeStore(DictStore):
    """Somebody's store: it fails with what it likes, or hangs."""

    def __init__(self) -> None:
        super().__init__()
        self.strange: Callable[[], Awaitable[None]] | None = None

    async def _pass(self) -> None:
        if self.strange is not None:
            await self.strange()

    async def write(self, entries: Sequence[Entry], journal: Sequence[bytes] = ()) -> Sequence[int]:
        await self._pass()
        return await super().write(entries, journal)

    async def reclaim(self, limit: int, empty: Emptying) -> int:
        await self._pass()
        return await super().reclaim(limit, empty)


async def fail() -> None:
    raise RuntimeError("can't start new thread")


class TestTiersOfOthers:
    async def test_whatever_a_front_raises_is_an_event(self) -> None:
        cache = TieredCache(StrangeFront(), DictStore())
        await cache.set("k", 1)
        assert await cache.get("k") == 1
        assert cache.stats().front_errors == 3  # mark, settle, get: and then it is not asked to take a mark

    async def test_whatever_a_store_raises_is_a_store_that_does_not_answer(self) -> None:
        store = StrangeStore()
        cache = TieredCache(MemoryFront(), store)
        store.strange = fail
        with pytest.raises(StoreUnavailableError, match="RuntimeError") as caught:
            await cache.set("k", 1)
        assert not caught.value.outcome_known
        assert cache.stats().store_errors == 1

    async def test_it_ends_nobodys_work_from_the_background(self) -> None:
        store, failed = StrangeStore(), anyio.Event()

        async def fail_and_tell() -> None:
            failed.set()
            await fail()

        async with TieredCache(MemoryFront(), store, reclaim_interval=0.001) as cache:
            await cache.set("k", 1)
            store.strange = fail_and_tell
            with anyio.fail_after(PATIENCE_SECONDS):
                await failed.wait()
            await anyio.lowlevel.checkpoint()
            assert await cache.get("k") == 1
        assert cache.stats().store_errors >= 1

    async def test_a_store_that_hangs_is_given_up(self) -> None:
        store = StrangeStore()
        cache = TieredCache(MemoryFront(), store, store_timeout=0.01)
        store.strange = anyio.sleep_forever
        with anyio.fail_after(PATIENCE_SECONDS):
            with pytest.raises(StoreUnavailableError, match="no answer within"):
                await cache.set("k", 1)

    async def test_a_wrong_setting_stays_one(self) -> None:
        store = FaultyStore(DictStore())
        cache = TieredCache(MemoryFront(), store)
        store.fail("read", "before", ConfigurationError("wrong driver"))
        with pytest.raises(ConfigurationError, match="wrong driver"):
            await cache.get("k")


class Silence:
    """Keeps the next call of a name waiting, and then leaves it without an answer."""

    def __init__(self, tier: FaultyFront | FaultyStore, *names: str, error: Exception | None = None) -> None:
        self._noticed, self._over = anyio.Event(), anyio.Event()
        self._error = error or TimeoutError()
        for name in names:
            tier.plan(name, "before", self._keep_waiting)

    async def _keep_waiting(self) -> None:
        self._noticed.set()
        await self._over.wait()
        raise self._error

    async def begins(self) -> None:
        with anyio.fail_after(PATIENCE_SECONDS):
            await self._noticed.wait()

    async def ends(self) -> None:
        """When all that can go on has done so."""
        await anyio.wait_all_tasks_blocked()
        self._over.set()


class TestWhoHasWaitedOnce:
    """In a crowd, a batch may have to wait for the one before it; but not for the same silence once more."""

    async def ask(self, tiers: Tiers, silence: Silence, verb: Callable[[str], Awaitable[Any]]) -> dict[str, Any]:
        """What two callers got: one who is kept waiting, and one who has to wait for him."""
        got: dict[str, Any] = {}

        async def ask(key: str) -> None:
            try:
                got[key] = await verb(key)
            except StoreUnavailableError as error:
                got[key] = error

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ask, "a")
            await silence.begins()
            tasks.start_soon(ask, "b")
            await silence.ends()
        return got

    async def tiers(self) -> Tiers:
        tiers = Tiers(batches_in_flight=1)
        await tiers.cache.set_many({"a": 1, "b": 2})
        await tiers.cache.get_many("ab")
        tiers.front.calls.clear()
        tiers.store.calls.clear()
        return tiers

    @pytest.mark.parametrize("error", [TimeoutError(), FrontUnavailableError("no answer", failure="timeout")])
    async def test_reads_go_on_without_the_front(self, error: Exception) -> None:
        tiers = await self.tiers()
        assert await self.ask(tiers, Silence(tiers.front, "get", error=error), tiers.cache.get) == {"a": 1, "b": 2}
        assert (tiers.front.count("get"), tiers.store.count("read")) == (1, 1)  # in which they meet
        assert tiers.cache.stats().front_spared == 1
        assert await tiers.cache.get("b") == 2
        assert (tiers.front.count("get"), tiers.store.count("read")) == (2, 1)  # who comes later asks it

    async def test_nor_do_they_take_marks(self) -> None:
        tiers = await self.tiers()
        await tiers.front.vanish(list(tiers.inner._cells))
        assert await self.ask(tiers, Silence(tiers.front, "mark_read"), tiers.cache.get) == {"a": 1, "b": 2}
        assert (tiers.front.count("mark_read"), tiers.store.count("read")) == (1, 2)

    async def test_changes_are_told_later(self) -> None:
        tiers = await self.tiers()
        silence = Silence(tiers.front, "mark_write", "settle_write")
        told: list[bool] = []
        tiers.cache.view.shared.engine.on_use = told.append
        assert await self.ask(tiers, silence, tiers.cache.delete) == {"a": None, "b": None}
        assert told == [True, True]  # so that it is delivered soon
        assert (tiers.front.count("mark_write"), tiers.front.count("settle_write")) == (1, 1)
        assert tiers.store.count("delete") == 2
        assert tiers.cache.stats().unmarked == 2
        assert await tiers.cache.get_many("ab") == {}
        other = TieredCache(tiers.inner, tiers.rows)
        assert await other.get_many("ab") == {"a": 1, "b": 2}  # as if the front had been away
        await tiers.cache.view.shared.engine.upkeep.deliver()
        assert await other.get_many("ab") == {}

    async def test_whose_mark_alone_got_no_answer_still_empties_the_cell(self) -> None:
        """A deadline missed by a busy process must not leave the others with what was."""
        tiers = await self.tiers()
        assert await self.ask(tiers, Silence(tiers.front, "mark_write"), tiers.cache.delete) == {"a": None, "b": None}
        assert tiers.cache.stats().unmarked == 0
        assert await TieredCache(tiers.inner, tiers.rows).get_many("ab") == {}

    async def test_reads_do_not_ask_the_store(self) -> None:
        tiers = await self.tiers()
        got = await self.ask(tiers, Silence(tiers.store, "read"), lambda key: tiers.cache.get(f"not {key}"))
        assert all(isinstance(error, StoreUnavailableError) for error in got.values())
        assert (tiers.store.count("read"), tiers.cache.stats().store_spared) == (1, 1)
        assert await tiers.cache.get("not a") is None
        assert tiers.front.count("mark_read") == 2  # nobody left a mark for a question that he did not ask

    @pytest.mark.parametrize("verb", ["write", "delete"])
    async def test_changes_are_refused_before_they_begin(self, verb: str) -> None:
        tiers = await self.tiers()

        async def change(key: str) -> None:
            await (tiers.cache.set(key, "new") if verb == "write" else tiers.cache.delete(key))

        got = await self.ask(tiers, Silence(tiers.store, verb), change)
        assert [error.outcome_known for error in got.values()] == [False, True]
        assert tiers.store.count(verb) == 1
        assert tiers.front.count("mark_write") == 1
        assert await tiers.cache.get("b") == 2
        assert tiers.store.count("read") == 0  # what it would have changed is served as before
        await change("b")
        assert tiers.store.count(verb) == 2

    async def test_silence_ends_with_an_answer(self) -> None:
        tiers = await self.tiers()
        store = tiers.cache.view.shared.engine.access.store
        asked = monotonic()
        tiers.store.fail("read", "before", TimeoutError())
        with pytest.raises(StoreUnavailableError):
            await store.read([], [])
        with pytest.raises(StoreUnavailableError, match="waited for its turn"):
            store.spare("read", asked)
        store.spare("change", asked)
        store.spare("read", monotonic() + 1)
        await store.read([], [])
        store.spare("read", asked)

    async def test_what_fails_at_once_is_asked_by_all(self) -> None:
        tiers = await self.tiers()
        engine, asked = tiers.cache.view.shared.engine, monotonic()
        tiers.store.fail("read", "before")
        with pytest.raises(StoreUnavailableError):
            await engine.access.store.read([], [])
        engine.access.store.spare("read", asked)
        tiers.front.fail("get", "before", FrontUnavailableError("refused", failure="refused"))
        assert await engine.access.front.get([b"k"]) is None
        assert await engine.access.front.get([b"k"], asked) == [None]


class TestAStoreNeverSeen:
    async def test_readers_are_spared_as_long_as_the_last_attempt_took(self, monkeypatch: pytest.MonkeyPatch) -> None:
        now = [100.0]
        monkeypatch.setattr(access_module, "monotonic", lambda: now[0])
        tiers = Tiers(serve_miss=True)

        async def slowly() -> None:
            now[0] += 5
            raise StoreUnavailableError("no answer within 5 s")

        async def get() -> Any:
            return await tiers.cache.get("k", MISSING)

        tiers.store.plan("setup", "before", slowly)
        assert await get() is MISSING
        now[0] += 4.9
        assert await get() is MISSING
        assert tiers.store.count("setup") == 1
        now[0] += 0.2
        assert await get() is MISSING
        assert tiers.store.count("setup") == 2

    async def test_a_writer_tries_at_once(self) -> None:
        tiers = Tiers()
        tiers.store.fail("setup", "before")
        with pytest.raises(StoreUnavailableError):
            await tiers.cache.get("k")
        await tiers.cache.set("k", 1)
        assert await tiers.cache.get("k") == 1


async def test_one_error_for_a_whole_batch_does_not_collect_the_tracebacks_of_all() -> None:
    tiers = Tiers()
    await tiers.cache.setup()
    tiers.store.down = True
    errors: list[StoreUnavailableError] = []

    async def ask(call: Callable[..., Awaitable[Any]], *args: Any) -> None:
        with pytest.raises(StoreUnavailableError) as caught:
            await call(*args)
        errors.append(caught.value)

    async with anyio.create_task_group() as tasks:
        for i in range(100):
            tasks.start_soon(ask, tiers.cache.get, str(i))
            tasks.start_soon(ask, tiers.cache.set, str(i), 1)
    for error in errors:
        frames, traceback = 0, error.__traceback__
        while traceback is not None:
            frames, traceback = frames + 1, traceback.tb_next
        assert frames < 30
