"""Changes of which the front could not be told: who sees what until it was, and who tells it."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any, Final
from uuid import uuid4

import anyio
import pytest

from tests.doubles import DictStore
from tests.processes import EVERY_PAIR, Tiers, open_tiers, unhurried
from tiered_cache import MISSING, FrontUnavailableError, MemoryFront, Namespace, StoreUnavailableError, TieredCache
from tiered_cache._doubts import Doubts
from tiered_cache.testing import FaultyFront, FaultyStore
from tiered_cache.testing._gates import PATIENCE_SECONDS

VERBS: Final = {"set": "new", "delete": MISSING, "clear": MISSING, "clear above": MISSING}


@pytest.fixture(scope="module", params=EVERY_PAIR)
async def tiers(request: pytest.FixtureRequest) -> AsyncGenerator[Tiers]:
    for each in open_tiers(request):
        yield each
        await each.aclose()


class Process:
    """One of several, with a namespace that they have in common. What is due in the background is done by hand."""

    def __init__(self, tiers: Tiers, path: tuple[str, ...], **options: Any) -> None:
        self.front = FaultyFront(tiers.front)
        self.store = FaultyStore(tiers.store)
        self.cache = TieredCache(self.front, self.store, **unhurried(**options))
        self.engine = self.cache.view.shared.engine
        self.engine.on_change = lambda _: None
        self.engine.on_use = lambda _: None
        self.above: Namespace = self.cache.namespace(*path[:-1])
        self.space: Namespace = self.cache.namespace(*path)

    async def change(self, verb: str) -> None:
        match verb:
            case "set":
                await self.space.set("k", "new")
            case "delete":
                await self.space.delete("k")
            case "clear":
                await self.space.clear()
            case _:
                await self.above.clear()

    async def get(self) -> Any:
        return await self.space.get("k", MISSING)


@pytest.fixture
async def three(tiers: Tiers) -> list[Process]:
    path = (uuid4().hex, "answers")
    processes = [Process(tiers, path) for _ in range(3)]
    await processes[0].space.set("k", "old")
    assert [await process.get() for process in processes * 2] == ["old"] * 6
    return processes


async def pending(process: Process) -> int:
    return len(await process.store.inner.journal(b"", 1000))


@pytest.mark.parametrize("verb", VERBS)
async def test_what_the_front_was_not_told_is_told_by_any_process_later(three: list[Process], verb: str) -> None:
    writer, other, third = three
    writer.front.down = True
    await writer.change(verb)
    assert await writer.get() == VERBS[verb]
    assert writer.cache.stats().unmarked == 1
    assert await other.get() == "old"  # it has the front, and nobody has told that
    writer.front.down = False
    assert await writer.get() == VERBS[verb]  # it knows better than the front

    assert await other.engine.upkeep.deliver() == 1
    assert [await process.get() for process in three * 2] == [VERBS[verb]] * 6
    assert await pending(other) == 0
    assert await third.engine.upkeep.deliver() == 0
    assert other.cache.stats().delivered == 1


@pytest.mark.parametrize("verb", VERBS)
async def test_of_a_writer_that_died_too(three: list[Process], verb: str) -> None:
    writer, other, _ = three
    writer.front.down = True
    await writer.change(verb)
    del writer
    assert await other.engine.upkeep.deliver() == 1
    assert await other.get() == VERBS[verb]


async def test_the_writer_goes_back_to_the_front_once_it_was_told(three: list[Process]) -> None:
    writer, other, _ = three
    writer.front.down = True
    await writer.change("set")
    writer.front.down = False
    hits = writer.cache.stats().hits_front
    assert [await writer.get() for _ in range(3)] == ["new"] * 3
    assert writer.cache.stats().hits_front == hits
    assert await other.engine.upkeep.deliver() == 1
    assert await writer.engine.upkeep.deliver() == 0  # by another: that is how it learns of it
    assert [await writer.get() for _ in range(3)] == ["new"] * 3
    assert writer.cache.stats().hits_front == hits + 2


async def test_until_the_front_answers_nothing_is_delivered(three: list[Process]) -> None:
    writer, other, _ = three
    writer.front.down = other.front.down = True
    await writer.change("set")
    for _ in range(2):
        with pytest.raises(FrontUnavailableError):
            await other.engine.upkeep.deliver()
    assert await pending(other) == 1
    other.front.down = False
    assert await other.engine.upkeep.deliver() == 1


async def test_a_mark_that_stands_needs_no_journal(three: list[Process]) -> None:
    writer, other, _ = three
    writer.front.fail("settle_write", "before")
    await writer.change("set")
    assert await pending(writer) == 0
    assert [await process.get() for process in (writer, other)] == ["new"] * 2
    assert writer.cache.stats().unmarked == 0


async def test_a_settle_that_arrives_makes_up_for_a_mark_that_did_not(three: list[Process]) -> None:
    writer, other, _ = three
    writer.front.fail("mark_write", "before")
    await writer.change("set")
    assert [await process.get() for process in (other, writer)] == ["new"] * 2
    assert writer.cache.stats().unmarked == 0
    assert not writer.engine.doubtful
    assert await other.engine.upkeep.deliver() == 1  # it was recorded before anybody could know
    assert await pending(other) == 0


async def test_a_commit_of_unknown_outcome_is_in_doubt_as_well(three: list[Process]) -> None:
    writer, other, _ = three
    writer.front.down = True
    writer.store.fail("write", "after", StoreUnavailableError("the connection broke", outcome_known=False))
    with pytest.raises(StoreUnavailableError):
        await writer.change("set")
    writer.front.down = False
    assert await writer.get() == "new"
    assert await other.engine.upkeep.deliver() == 1
    assert await other.get() == "new"


async def test_a_change_that_commits_while_others_deliver_stays_in_doubt(three: list[Process]) -> None:
    """The doubts that end with a delivery are those whose changes were there to be delivered."""
    writer, other, _ = three
    writer.front.down = True
    committing = writer.store.stop("write", "before")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(writer.change, "set")
        await committing.reached()
        assert await other.engine.upkeep.deliver() == 0
        writer.front.down = False
        assert await writer.engine.upkeep.deliver() == 0  # as if nothing were under way
        writer.front.down = True
        committing.open()
    writer.front.down = False
    assert await writer.get() == "new"


async def test_what_is_recorded_again_while_it_is_delivered_is_delivered_again(three: list[Process]) -> None:
    writer, other, third = three
    writer.front.down = True
    await writer.space.set("k", "newer")
    told = other.front.stop("settle_write", "after")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(other.engine.upkeep.deliver)
        await told.reached()
        assert await third.get() == "newer"  # and puts that into the front
        await writer.change("set")
        told.open()
    assert await pending(other) == 1
    assert await other.engine.upkeep.deliver() == 1
    assert [await process.get() for process in (other, third)] == ["new"] * 2


async def test_a_reply_that_is_older_than_the_delivery_is_not_believed(three: list[Process]) -> None:
    """The front was asked after the write had returned, and before it was told; its reply is looked at afterwards."""
    writer, other, _ = three
    writer.front.down = True
    await writer.change("set")
    writer.front.down = False
    found: list[Any] = []

    async def read() -> None:
        found.append(await writer.get())

    asked = writer.front.stop("get", "after")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(read)
        await asked.reached()
        assert await other.engine.upkeep.deliver() == 1
        assert await writer.engine.upkeep.deliver() == 0
        asked.open()
    assert found == ["new"]


async def test_thousands_of_changes_are_delivered_in_pages(tiers: Tiers) -> None:
    path = (uuid4().hex,)
    writer, other = Process(tiers, path), Process(tiers, path)
    items = {str(n): "old" for n in range(1200)}
    await writer.space.set_many(items)
    assert len(await other.space.get_many(items)) == 1200
    writer.front.down = True
    await writer.space.set_many(dict.fromkeys(items, "new"))
    assert await other.engine.upkeep.deliver() == 1200
    assert set((await other.space.get_many(items)).values()) == {"new"}
    assert writer.cache.stats().unmarked == 1200


async def test_after_too_many_changes_the_writer_believes_the_front_nothing(three: list[Process]) -> None:
    writer, other, _ = three
    writer.engine.access.doubts = Doubts(most=1)
    writer.front.down = True
    await writer.space.set_many({"k": "new", "l": 1})
    writer.front.down = False
    assert await writer.get() == "new"
    hits = writer.cache.stats().hits_front
    await writer.cache.get("something else")
    assert writer.cache.stats().hits_front == hits
    assert await other.engine.upkeep.deliver() == 2
    await writer.engine.upkeep.deliver()
    assert [await writer.get() for _ in range(3)] == ["new"] * 3
    assert writer.cache.stats().hits_front == hits + 2


async def test_a_front_of_this_process_alone_needs_no_journal() -> None:
    store = DictStore()
    cache = TieredCache(MemoryFront(max_bytes=1), store)  # which takes no mark
    await cache.set("k", 1)
    await cache.clear()
    assert store.notices == {}
    assert cache.stats().unmarked == 0


class TestInTheBackground:
    async def eventually(self, process: Process, value: Any) -> None:
        with anyio.fail_after(PATIENCE_SECONDS):
            while await process.get() != value:  # noqa: ASYNC110  (another process's background)
                await anyio.sleep(0.01)

    def pair(self, tiers: Tiers) -> tuple[Process, Process]:
        path = (uuid4().hex,)
        one, other = (Process(tiers, path, recovery_interval=0.05, breaker_retry=0.05) for _ in range(2))
        for process in (one, other):
            courier = process.cache._courier
            assert courier is not None
            process.engine.on_use = courier.note
        return one, other

    async def test_within_async_with_another_process_delivers(self, tiers: Tiers) -> None:
        writer, other = self.pair(tiers)
        await writer.space.set("k", "old")
        assert await other.get() == "old"
        writer.front.down = True
        async with other.cache:
            await writer.space.set("k", "new")
            await self.eventually(other, "new")

    async def test_without_it_use_alone_makes_another_process_deliver(self, tiers: Tiers) -> None:
        writer, other = self.pair(tiers)
        await writer.space.set("k", "old")
        assert await other.get() == "old"
        writer.front.down = True
        writer.engine.on_use = lambda _: None
        await writer.space.set("k", "new")
        await self.eventually(other, "new")
        await other.cache.aclose()

    async def test_the_writer_itself_goes_on_until_it_has_told_the_front(self, tiers: Tiers) -> None:
        writer, other = self.pair(tiers)
        other.engine.on_use = lambda _: None
        await writer.space.set("k", "old")
        assert await other.get() == "old"
        writer.front.down = True
        await writer.space.set("k", "new")
        writer.front.down = False
        with anyio.fail_after(PATIENCE_SECONDS):
            while writer.engine.doubtful:  # noqa: ASYNC110  (the portal's thread)
                await anyio.sleep(0.01)
        assert await other.get() == "new"
        await writer.cache.aclose()


class TestDoubts:
    def test_what_was_added_again_is_not_settled(self) -> None:
        doubts = Doubts()
        doubts.add([b"a", b"b"])
        before = doubts.now()
        doubts.add([b"b"])
        doubts.settle(before)
        assert list(doubts.tickets) == [b"b"]
        doubts.settle(doubts.now())
        assert not doubts

    def test_beyond_so_many_everything_is_doubtful_until_all_is_settled(self) -> None:
        doubts = Doubts(most=2)
        added = doubts.add([b"a", b"b"])
        assert not doubts.everything
        doubts.add([b"c"])
        doubts.settle(added)
        assert doubts.everything
        before = doubts.now()
        doubts.add([b"d"])
        doubts.settle(before)
        assert doubts.everything
        doubts.settle(doubts.now())
        assert not doubts
