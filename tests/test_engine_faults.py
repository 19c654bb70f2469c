"""When a tier is away or holds damaged data: what is served, what is raised, what is counted, and what is logged."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Callable
from typing import Any, Final

import anyio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.doubles import DictStore
from tests.processes import EVERY_PAIR, OurProcess, Stage, Tiers, open_tiers, unhurried
from tiered_cache import (
    MISSING,
    FrontUnavailableError,
    MemoryFront,
    PlainCodec,
    Step,
    StoreUnavailableError,
    TieredCache,
    _guard,
)
from tiered_cache._cells import read_value, seal, value_cell
from tiered_cache._rule import MARK_WRITE, SETTLE_WRITE
from tiered_cache.testing import FaultyFront, FaultyStore


class Pair:
    """Watched tiers, and caches over them."""

    def __init__(self) -> None:
        self.inner = MemoryFront()
        self.front = FaultyFront(self.inner)
        self.rows = DictStore()
        self.store = FaultyStore(self.rows)

    def cache(self, **options: Any) -> TieredCache:
        cache = TieredCache(self.front, self.store, **unhurried(**options))
        cache.view.shared.engine.on_change = lambda _: None  # no background: its exchanges would be counted, too
        return cache


@pytest.fixture
def pair() -> Pair:
    return Pair()


@pytest.mark.every_backend
class TestStoreAway:
    async def test_what_the_front_holds_is_served_and_the_rest_is_an_error(self, pair: Pair) -> None:
        cache = pair.cache()
        await cache.set_many({"a": 1, "b": 2})
        await cache.get("a")
        pair.store.down = True
        assert await cache.get_many(["a", "b"]) == {"a": 1, "b": 2}
        for call in (cache.get("absent"), cache.get_many(["a", "absent"])):
            with pytest.raises(StoreUnavailableError):
                await call
        assert await cache.get("a") == 1

    async def test_a_lost_watermark_is_taken_as_last_seen_and_never_guessed(self, pair: Pair) -> None:
        cache = pair.cache()
        space = cache.namespace("n")
        await space.set("old", 1)
        await space.clear()
        await space.set("new", 2)
        assert await space.get_many(["old", "new"]) == {"new": 2}
        stranger = pair.cache()
        await stranger.setup()
        for digest in space.view.scope.watermarks.values():
            pair.inner._drop(f"tiered_cache:dict:{digest.hex()}".encode())
        pair.store.down = True
        assert await space.get("new") == 2
        with pytest.raises(StoreUnavailableError):
            await space.get("old")
        with pytest.raises(StoreUnavailableError):  # it has never seen one
            await stranger.namespace("n").get("new")

    async def test_with_serve_miss_a_read_is_a_miss_and_a_write_an_error(self, pair: Pair) -> None:
        cache = pair.cache(serve_miss=True)
        await cache.set("a", 1)
        await cache.get("a")
        pair.store.down = True
        assert await cache.get("absent", MISSING) is MISSING
        assert await cache.get_many(["a", "absent"]) == {"a": 1}
        for call in (cache.set("a", 2), cache.delete("a"), cache.clear(), cache.erase()):
            with pytest.raises(StoreUnavailableError):
                await call
        pair.store.down = False
        assert await cache.get("a") == 1

    async def test_a_store_that_was_away_from_the_beginning_is_found_when_it_comes(self, pair: Pair) -> None:
        cache, patient = pair.cache(), pair.cache(serve_miss=True)
        pair.store.down = True
        with pytest.raises(StoreUnavailableError):
            await cache.get("a")
        with pytest.raises(StoreUnavailableError):
            await cache.set("a", 1)
        assert await patient.get("a", MISSING) is MISSING
        pair.store.down = False
        await cache.set("a", 1)
        with anyio.fail_after(20):
            # It is spared another attempt for as long as the last one took.
            while await patient.get("a", MISSING) != 1:  # noqa: ASYNC110
                await anyio.sleep(0.001)

    async def test_what_fails_now_and_then_is_logged_once(self, pair: Pair, caplog: pytest.LogCaptureFixture) -> None:
        cache = pair.cache(serve_miss=True)
        await cache.setup()
        with caplog.at_level(logging.DEBUG, "tiered_cache"):
            for _ in range(20):
                pair.store.fail("read", "before")
                await cache.get("a")
                await cache.get("b")
        assert cache.stats().store_errors == 20
        assert [record.levelname for record in caplog.records] == ["WARNING"]

    async def test_it_is_counted_each_time_and_logged_once_per_change(
        self, pair: Pair, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(_guard, "STEADY_SECONDS", 0)
        cache = pair.cache(serve_miss=True)
        await cache.setup()
        with caplog.at_level(logging.DEBUG, "tiered_cache"):
            for _ in range(2):
                pair.store.down = True
                for _ in range(5):
                    await cache.get("a")
                pair.store.down = False
                await cache.get("a")
        assert cache.stats().store_errors == 10
        assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"] * 2
        assert "the store" in caplog.records[0].getMessage()

    async def test_no_mark_is_left_behind(self, pair: Pair) -> None:
        cache = pair.cache(serve_miss=True)
        await cache.set("a", 1)
        pair.inner.forget()
        pair.store.down = True
        await cache.get("a")
        with pytest.raises(StoreUnavailableError):
            await cache.set("a", 2)
        assert not pair.inner._cells
        pair.store.down = False
        await cache.get("a")
        await cache.get("a")
        assert (cache.stats().promotions, cache.stats().hits_front) == (1, 1)


@pytest.mark.every_backend
class TestFrontAway:
    async def test_every_verb_works_from_the_store_alone(
        self, pair: Pair, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(_guard, "STEADY_SECONDS", 0)
        cache = pair.cache()
        space = cache.namespace("n")
        pair.front.down = True
        with caplog.at_level(logging.DEBUG, "tiered_cache"):
            await space.set_many({"a": 1, "b": None})
            assert await space.get_many(["a", "b", "c"]) == {"a": 1, "b": None}
            await space.delete("a")
            assert await space.get("a") is None
            await cache.clear()
            assert await space.get_many(["a", "b"]) == {}
            await space.set("a", 2)
            with pytest.raises(FrontUnavailableError, match="try again later"):  # who knows what the front holds
                await space.erase()
            assert await space.get("a") is None
            pair.front.down = False
            assert await space.erase() == 2  # and the row that was cleared before
            await space.set("a", 3)
            assert await space.get("a") == 3
        stats = cache.stats()
        # Sets, delete, clear and the clear of the erasure announce themselves twice each, reads once, the erasure once.
        assert (stats.front_errors, stats.unmarked) == (2 * 5 + 4 + 1, 6)
        assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]
        assert "the front" in caplog.records[0].getMessage()

    async def test_a_front_that_hangs_costs_its_deadline_and_no_more(
        self, pair: Pair, caplog: pytest.LogCaptureFixture
    ) -> None:
        cache = pair.cache(front_timeout=0.01)
        await cache.setup()
        for name in ("mark_write", "settle_write", "get"):
            pair.front.stop(name, "before")
        with caplog.at_level(logging.WARNING, "tiered_cache"):
            await cache.set("a", 1)
            assert await cache.get("a") == 1
        assert cache.stats().front_errors == 3
        assert "no answer within 0.01 s" in caplog.text


@pytest.fixture(scope="module", params=EVERY_PAIR)
async def tiers(request: pytest.FixtureRequest) -> AsyncGenerator[Tiers]:
    for each in open_tiers(request):
        yield each
        await each.aclose()


async def plant(tiers: Tiers, key: bytes, cell: bytes) -> None:
    """Puts any bytes into the front."""
    for step in (Step(MARK_WRITE, key), Step(SETTLE_WRITE, key, cell, 100_000)):
        await tiers.front.apply([step], b"plant" + bytes(11), 1000)


@pytest.fixture
def stage(tiers: Tiers) -> Stage:
    return Stage(tiers)


DAMAGES: Final[dict[str, Callable[[bytes], bytes]]] = {
    "cut short": lambda cell: cell[:-1],
    "cut to its head": lambda cell: cell[:9],
    "cut to one byte": lambda cell: cell[:1],
    "longer": lambda cell: cell + b"x",
    "payload": lambda cell: cell[:-1] + bytes([cell[-1] ^ 1]),
    "version": lambda cell: cell[:8] + bytes([cell[8] ^ 1]) + cell[9:],
    "format": lambda cell: cell[:13] + b"\x7f" + cell[14:],
    "codec": lambda cell: cell[:14] + b"\x02" + cell[15:],
    "foreign": lambda _: b"somebody else's",
    "foreign, very long": lambda _: b"V" * 100_000,
    "of another key": lambda _: value_cell(bytes(32), 1 << 40, seal(bytes(32), 1, b"\x01666")),
}


@pytest.mark.parametrize("damage", DAMAGES)
async def test_a_damaged_cell_is_counted_and_repaired_from_the_store(stage: Stage, damage: str) -> None:
    process = await stage.process()
    assert isinstance(process, OurProcess)
    await process.space.set("k", ["value"])
    await process.space.get("k")
    key = await stage.tiers.front_key(stage.scope, "k")
    whole = await stage.tiers.cell(stage.scope, "k")
    assert whole is not None
    await plant(stage.tiers, key, DAMAGES[damage](whole))
    assert await process.space.get("k") == ["value"]
    assert process.cache.stats().corrupt == 1
    assert await stage.tiers.cell(stage.scope, "k") == whole
    assert await process.space.get("k") == ["value"]
    assert process.cache.stats().corrupt == 1


@pytest.mark.parametrize("damage", ["cut short", "version", "foreign", "of another key"])
async def test_a_damaged_watermark_is_unknown_and_repaired_from_the_store(stage: Stage, damage: str) -> None:
    process = await stage.process()
    assert isinstance(process, OurProcess)
    await process.space.set("k", "old")
    await process.space.clear()
    await process.space.get("k")
    key = await stage.tiers.front_key(stage.scope, None)
    whole = await stage.tiers.cell(stage.scope, None)
    assert whole is not None
    await plant(stage.tiers, key, DAMAGES[damage](whole))
    assert await process.space.get("k", MISSING) is MISSING
    assert process.cache.stats().corrupt == 1
    assert await stage.tiers.cell(stage.scope, None) == whole


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(at=st.integers(0, 10_000), bit=st.integers(0, 7), cut=st.integers(0, 10_000) | st.none())
async def test_no_flipped_bit_and_no_cut_ever_makes_another_value(
    pair: Pair, at: int, bit: int, cut: int | None
) -> None:
    cache = pair.cache()
    await cache.set("k", [1, "value"])
    digest = cache.view.scope.key("k").digest
    key = f"tiered_cache:dict:{digest.hex()}".encode()
    (cell,) = await pair.inner.get([key])
    assert cell is not None
    damaged = bytearray(cell)
    damaged[at % len(cell)] ^= 1 << bit
    tiers = Tiers(pair.inner, pair.rows)
    await plant(tiers, key, bytes(damaged) if cut is None else cell[: cut % len(cell)])
    assert await cache.get("k") == [1, "value"]
    row = pair.rows.rows[digest]
    envelope = bytearray(row.entry.envelope)
    envelope[at % len(envelope)] ^= 1 << bit
    pair.rows.rows[digest] = row._replace(entry=row.entry._replace(envelope=bytes(envelope)))
    pair.inner.forget()
    assert await cache.get("k", MISSING) is MISSING


async def test_a_damaged_row_is_a_counted_miss_that_is_not_promoted_until_it_is_set_again(pair: Pair) -> None:
    cache = pair.cache()
    await cache.set("k", 1)
    ((digest, row),) = pair.rows.rows.items()
    pair.rows.rows[digest] = row._replace(entry=row.entry._replace(envelope=row.entry.envelope[:-1]))
    pair.inner.forget()
    for n in (1, 2):
        assert await cache.get("k", MISSING) is MISSING
        assert (cache.stats().corrupt, cache.stats().promotions) == (n, 0)
    await cache.set("k", 2)
    assert await cache.get("k") == 2


class Failing(PlainCodec):
    id = 200

    def decode(self, payload: bytes) -> Any:
        raise RecursionError("hunter2")


async def test_a_payload_that_its_codec_cannot_read_is_a_counted_miss(pair: Pair) -> None:
    cache = pair.cache()
    failing = cache.namespace(codec=Failing())
    await failing.set("k", "hunter2")
    assert await failing.get("k", MISSING) is MISSING
    assert await cache.get("k", MISSING) is MISSING  # another codec's
    assert cache.stats().corrupt == 2
    await cache.set("k", 1)
    assert (await cache.get("k"), await failing.get("k", MISSING)) == (1, MISSING)


async def test_neither_logs_nor_errors_ever_show_a_value(pair: Pair, caplog: pytest.LogCaptureFixture) -> None:
    cache = pair.cache()
    said: list[str] = []
    with caplog.at_level(logging.DEBUG):
        for tier, name in (("front", "mark_write"), ("front", "settle_write"), ("store", "write")):
            getattr(pair, tier).fail(name, "before")
            try:
                await cache.set("k", {"password": "hunter2"})
            except StoreUnavailableError as error:
                said.append(str(error))
        await plant(Tiers(pair.inner, pair.rows), b"tiered_cache:dict:" + bytes(64), b"hunter2")
        await cache.get("k")
    said += [caplog.text, repr(cache), repr(cache.namespace("n")), repr(cache.stats()), repr(cache.sync)]
    assert len(said) == 6
    assert "hunter2" not in "".join(said)


def test_a_value_cell_read_back_is_what_was_planted() -> None:
    """The damages above are damages of this form."""
    cell = value_cell(bytes(32), 5, seal(bytes(32), 1, b"\x01666"))
    value = read_value(bytes(32), cell)
    assert value is not None
    assert (value.version, value.envelope[1], cell[13:14], cell[14:15]) == (5, 1, b"\x01", b"\x01")
