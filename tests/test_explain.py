"""`explain`: where a key would be found, and why not, for everything that a tier can hold for it."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any

import anyio
import anyio.to_thread
import pytest

from tests.doubles import Computation, DictStore
from tests.processes import unhurried
from tests.worlds import World
from tiered_cache import MISSING, Entry, Explanation, MemoryFront, RawCodec, Step, TieredCache, freshness
from tiered_cache._cells import value_cell
from tiered_cache._keys import front_key
from tiered_cache._rule import MARK_WRITE, SETTLE_WRITE
from tiered_cache._sql import SqlStore
from tiered_cache.testing import FaultyFront, FaultyStore, Gate, ManualClock

SECRET = "what the user asked"


class Place:
    """A cache in one world, whose tiers can be watched and broken."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.clock = ManualClock()
        self.rows = SqlStore(world.store, clock=self.clock)
        self.store = FaultyStore(self.rows)
        self.cache = TieredCache(world.front, self.store, clock=self.clock, **unhurried())
        self.space = self.cache.namespace("a", "b")
        self.inner = self.cache.view.shared.engine.access.front._front

    def another(self) -> TieredCache:
        return TieredCache(self.world.other_front(), FaultyStore(self.rows), clock=self.clock, **unhurried())

    async def explain(self) -> Explanation:
        """Explained, and found to be what a read comes to; it counts as none and changes nothing."""
        before = self.cache.stats()
        cells = await self._cells()
        said = await self.space.explain(SECRET)
        after = self.cache.stats()
        assert (before.hits, before.misses, before.promotions) == (after.hits, after.misses, after.promotions)
        assert before.corrupt == after.corrupt
        assert cells in (None, await self._cells())
        assert SECRET not in str(said)
        assert said.reason in str(said)
        return said

    async def read(self) -> tuple[Any, str | None]:
        """The value, and who answered."""
        before = self.cache.stats()
        value = await self.space.get(SECRET, MISSING)
        after = self.cache.stats()
        tiers = {"front": after.hits_front - before.hits_front, "store": after.hits_store - before.hits_store}
        return value, next((tier for tier, hits in tiers.items() if hits), None)

    async def put(self, cell: bytes) -> None:
        """Somebody puts it into the front."""
        key = await self.cache.view.shared.engine.access.front_key(self.space.view.scope.key(SECRET))
        for step in (Step(MARK_WRITE, key), Step(SETTLE_WRITE, key, cell, 600_000)):
            await self.inner.apply([step], b"somebody" + bytes(8), 60_000)

    async def mark(self) -> None:
        key = await self.cache.view.shared.engine.access.front_key(self.space.view.scope.key(SECRET))
        await self.inner.apply([Step(MARK_WRITE, key)], bytes(16), 60_000)

    async def _cells(self) -> Any:
        prefix = self.cache.view.shared.engine.access.prefix
        key = self.space.view.scope.key(SECRET)
        digests = (key.digest, *key.scope.watermarks)
        return None if prefix is None else await self.inner.get([front_key(prefix, digest) for digest in digests])


@pytest.fixture
async def place(world: World) -> AsyncIterator[Place]:
    made = Place(world)
    yield made
    made.store.down = False
    await made.cache.aclose()
    await made.rows.aclose()


async def test_a_value_in_both_tiers_is_a_hit_in_the_front(place: Place) -> None:
    await place.space.set(SECRET, {"a": 42}, ttl=100)
    place.clock.advance(40)
    said = await place.explain()
    assert (said.found, said.front, said.store) == ("front", "value", "value")
    assert said.version is not None
    assert said.size is not None
    assert said.age is not None
    assert 40 <= said.age < 40.2
    assert said.ttl == 60
    assert said.codec_matches is True
    assert said.cleared_by is None
    assert str(said) == (
        "a hit in the front: the front has it\n"
        f"front: value; store: value, version {said.version}, {said.size} bytes, {said.age:.1f} s old, 60.0 s left"
    )
    assert await place.read() == ({"a": 42}, "front")
    assert await anyio.to_thread.run_sync(place.space.sync.explain, SECRET) == said


async def test_a_value_that_the_front_lost_is_a_hit_in_the_store(place: Place) -> None:
    await place.space.set(SECRET, 1)
    place.world.lose_front()
    said = await place.explain()
    assert (said.found, said.front, said.store, said.ttl) == ("store", "empty", "value", math.inf)
    assert "nothing" in said.reason
    assert await place.read() == (1, "store")


async def test_a_key_that_was_never_set_and_one_that_was_deleted_are_absent(place: Place) -> None:
    said = await place.explain()
    assert (said.found, said.front, said.store) == (None, "empty", "absent")
    assert (said.version, said.size, said.age, said.ttl, said.codec_matches) == (None,) * 5
    await place.space.set(SECRET, 1)
    await place.space.delete(SECRET)
    said = await place.explain()
    assert (said.found, said.front, said.store) == (None, "empty", "absent")
    assert await place.read() == (MISSING, None)


async def test_what_has_expired_says_since_when_as_long_as_it_is_there(place: Place) -> None:
    await place.space.set(SECRET, 1, ttl=100)
    place.clock.advance(130)
    place.world.lose_front()
    said = await place.explain()
    assert (said.found, said.store, said.ttl) == (None, "expired", -30)
    assert said.reason == "it expired 30.0 s ago"
    assert await place.read() == (MISSING, None)
    assert await place.cache.reclaim() == 1
    said = await place.explain()
    assert (said.found, said.store, said.ttl) == (None, "absent", None)
    assert "expired" in said.reason


async def test_what_is_in_its_time_of_grace_is_a_miss_that_get_or_compute_may_return(place: Place) -> None:
    await place.space.get_or_compute(SECRET, Computation(1), ttl=100, grace=1000)
    place.clock.advance(130)
    place.world.lose_front()
    said = await place.explain()
    assert (said.found, said.store, said.ttl) == (None, "in grace", -30)
    assert "grace" in said.reason
    assert await place.read() == (MISSING, None)
    place.clock.advance(1000)
    assert (await place.explain()).store == "expired"


@pytest.mark.parametrize("depth", [0, 1, 2])
@pytest.mark.parametrize("lost", [False, True])
async def test_what_was_cleared_names_the_namespace_that_was(place: Place, depth: int, lost: bool) -> None:
    place.cache.view.shared.engine.on_change = lambda _: None
    await place.space.set(SECRET, 1)
    await place.cache.namespace("a", "sibling").clear()
    path = ("a", "b")[:depth]
    await (place.cache.namespace(*path) if path else place.cache).clear()
    if lost:
        place.world.lose_front()
    said = await place.explain()
    assert (said.found, said.front, said.store) == (None, "empty" if lost else "cleared", "cleared")
    assert said.cleared_by == path
    assert repr(path) in said.reason
    assert await place.read() == (MISSING, None)
    await place.space.set(SECRET, 2)
    said = await place.explain()
    assert (said.found, said.cleared_by) == ("front", None)


async def test_somebodys_mark_sends_a_read_to_the_store(place: Place) -> None:
    await place.space.set(SECRET, 1)
    await place.mark()
    said = await place.explain()
    assert (said.found, said.front, said.store) == ("store", "marked", "value")
    assert "mark" in said.reason
    assert await place.read() == (1, "store")


@pytest.mark.parametrize("world", ["servers", "fake"], indirect=True)
async def test_a_lease_is_told_from_other_marks(place: Place) -> None:
    gate = Gate()
    other = place.another()
    async with anyio.create_task_group() as tasks:
        space = other.namespace("a", "b")
        tasks.start_soon(partial(space.get_or_compute, SECRET, Computation(1, gate)))
        await gate.reached()
        said = await place.explain()
        assert (said.found, said.front, said.store) == (None, "leased", "absent")
        gate.open()
    assert (await place.explain()).found == "front"
    await other.aclose()


@pytest.mark.parametrize("junk", [b"junk", b"V" + bytes(30)])
async def test_a_damaged_cell_sends_a_read_to_the_store(place: Place, junk: bytes) -> None:
    await place.space.set(SECRET, 1)
    await place.put(junk)
    said = await place.explain()
    assert (said.found, said.front, said.store) == ("store", "unreadable", "value")
    assert await place.read() == (1, "store")


async def test_a_damaged_row_is_a_miss(place: Place) -> None:
    await place.cache.setup()
    key = place.space.view.scope.key(SECRET)
    await place.rows.write([Entry(key.digest, key.scope.address, b"damaged")])
    said = await place.explain()
    assert (said.found, said.front, said.store) == (None, "empty", "unreadable")
    assert said.size is None
    assert await place.read() == (MISSING, None)


async def test_what_another_codec_wrote_is_a_miss_that_says_so(place: Place) -> None:
    await place.cache.namespace("a", "b", codec=RawCodec()).set(SECRET, b"raw")
    said = await place.explain()
    assert (said.found, said.front, said.store, said.codec_matches) == (None, "unreadable", "unreadable", False)
    assert f"codec {RawCodec.id} wrote" in said.reason
    assert await place.read() == (MISSING, None)


async def test_what_the_codec_cannot_read_is_a_miss_that_says_so(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(codec: object, payload: bytes) -> Any:
        raise KeyError(SECRET)

    await place.space.set(SECRET, 1)
    monkeypatch.setattr(type(place.space.view.settings.codec), "decode", fail)
    said = await place.explain()
    assert (said.found, said.front, said.codec_matches) == (None, "unreadable", True)
    assert "KeyError" in said.reason
    assert await place.read() == (MISSING, None)


async def test_while_the_store_is_away_the_front_is_judged_by_what_was_seen_last(place: Place) -> None:
    await place.space.set(SECRET, 1)
    await place.space.get(SECRET)
    place.store.down = True
    said = await place.explain()
    assert (said.found, said.front, said.store, said.ttl) == ("front", "value", "unreachable", None)
    assert await place.read() == (1, "front")
    await place.mark()
    said = await place.explain()
    assert (said.found, said.front, said.store) == (None, "marked", "unreachable")
    assert "only the store could tell" in said.reason


async def test_a_value_that_nobody_can_judge_is_said_to_be_that(place: Place) -> None:
    await place.space.set(SECRET, 1)
    other = place.another()
    await other.setup()
    store = other.view.shared.engine.access.store._store
    assert isinstance(store, FaultyStore)
    store.down = True
    said = await other.namespace("a", "b").explain(SECRET)
    assert (said.found, said.front, said.store) == (None, "unjudged", "unreachable")
    await other.aclose()


async def test_a_cache_that_never_reached_its_store_knows_nothing_of_the_front(place: Place) -> None:
    place.store.down = True
    said = await place.explain()
    assert (said.found, said.front, said.store) == (None, "unknown", "unreachable")


async def test_what_is_too_old_for_what_is_said_round_the_call_is_a_miss(place: Place) -> None:
    await place.space.set(SECRET, 1)
    place.clock.advance(50)
    for how, found in (({"max_age": 60}, "front"), ({"max_age": 40}, None), ({"refresh": True}, None)):
        with freshness(**how):  # pyright: ignore[reportArgumentType]
            said = await place.explain()
            assert said.found == found
            assert said.front == "value"
            assert await place.read() == ((1, "front") if found else (MISSING, None))


class Embedded:
    """A front that can be broken over a store in a dict; `other` is another process's front."""

    def __init__(self) -> None:
        self.inner = MemoryFront()
        self.front, self.store = FaultyFront(self.inner), FaultyStore(DictStore())
        self.cache = TieredCache(self.front, self.store, **unhurried(breaker_retry=0.01, recovery_interval=1000.0))
        self.cache.view.shared.engine.on_use = lambda _: None


@pytest.mark.every_backend
class TestOnEveryLoop:
    async def test_a_front_that_does_not_answer_is_unreachable(self) -> None:
        embedded = Embedded()
        await embedded.cache.set("k", 1)
        embedded.front.down = True
        said = await embedded.cache.explain("k")
        assert (said.found, said.front, said.store) == ("store", "unreachable", "value")

    async def test_a_front_that_could_not_be_told_is_not_believed(self) -> None:
        embedded = Embedded()
        await embedded.cache.set("k", 1)
        embedded.front.down = True
        await embedded.cache.set("k", 2)
        embedded.front.down = False
        await anyio.sleep(0.02)
        said = await embedded.cache.explain("k")
        assert (said.found, said.front, said.store) == ("store", "doubtful", "value")
        assert await embedded.cache.get("k") == 2

    async def test_both_away_is_said_and_not_raised(self) -> None:
        embedded = Embedded()
        await embedded.cache.set("k", 1)
        embedded.front.down = embedded.store.down = True
        said = await embedded.cache.explain("k")
        assert (said.found, said.front, said.store) == (None, "unreachable", "unreachable")

    async def test_a_cell_of_another_version_than_the_row_says_nothing_of_its_expiry(self) -> None:
        embedded = Embedded()
        await embedded.cache.set("k", 1, ttl=100)
        said = await embedded.cache.explain("k")
        assert said.ttl == 100
        key = await embedded.cache.view.shared.engine.access.front_key(embedded.cache.view.scope.key("k"))
        (cell,) = await embedded.inner.get([key])
        assert cell is not None
        digest = embedded.cache.view.scope.key("k").digest
        assert said.version is not None
        newer = value_cell(digest, said.version + 1, cell[13:])
        for step in (Step(MARK_WRITE, key), Step(SETTLE_WRITE, key, newer, 600_000)):
            await embedded.inner.apply([step], bytes(16), 60_000)
        said = await embedded.cache.explain("k")
        assert (said.found, said.ttl) == ("front", None)

    @pytest.mark.parametrize("wrong", [1, None])
    async def test_a_key_that_is_none_raises(self, wrong: Any) -> None:
        with pytest.raises(ValueError, match="str or bytes"):
            await Embedded().cache.explain(wrong)


def test_every_state_has_its_sentence() -> None:
    make: Callable[..., Explanation] = Explanation
    said = make(found=None, reason="because", front="empty", store="absent")
    assert str(said) == "a miss: because\nfront: empty; store: absent"
    with pytest.raises(AttributeError):
        said.reason = "else"  # pyright: ignore[reportAttributeAccessIssue]
