"""The audit finds what the rule would not have left behind, and nothing else."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest

from tests.doubles import DictStore
from tests.processes import unhurried
from tiered_cache import ConfigurationError, Entry, MemoryFront, TieredCache
from tiered_cache import _cache as cache_module
from tiered_cache._cells import seal
from tiered_cache._codecs import PlainCodec
from tiered_cache._keys import Key
from tiered_cache.testing import FaultyFront, FaultyStore
from tiered_cache.testing._gates import PATIENCE_SECONDS


class Pair:
    """A cache over tiers that can be changed behind its back."""

    def __init__(self, **options: Any) -> None:
        self.rows = DictStore()
        self.memory = MemoryFront()
        self.front = FaultyFront(self.memory)
        self.store = FaultyStore(self.rows)
        self.cache = TieredCache(self.front, self.store, **unhurried(**options))
        self.cache.view.shared.engine.on_change = lambda _: None
        self.space = self.cache.namespace("a", "b")

    def key(self, name: str) -> Key:
        return self.space.view.scope.key(name)

    async def write_behind_its_back(self, name: str, value: Any) -> None:
        key = self.key(name)
        envelope = seal(key.digest, PlainCodec.id, PlainCodec().encode(value))
        await self.rows.write([Entry(key.digest, key.scope.address, envelope)])

    async def differing(self, *names: str) -> list[str]:
        keys = {self.key(name): name for name in names}
        found = await self.cache.view.shared.engine.inquiries.differing(list(keys))
        assert found is not None
        return [keys[key] for key in found]


@pytest.fixture
async def pair() -> Pair:
    pair = Pair()
    await pair.space.set_many({"k": 1, "l": 2})
    assert await pair.space.get_many(["k", "l"]) == {"k": 1, "l": 2}
    assert await pair.differing("k", "l", "absent") == []
    return pair


async def test_what_the_store_holds_otherwise_is_found(pair: Pair) -> None:
    await pair.write_behind_its_back("k", "newer")
    assert await pair.differing("k", "l") == ["k"]


async def test_what_the_store_does_not_hold_any_more_is_found(pair: Pair) -> None:
    await pair.rows.delete([pair.key("l").digest])
    assert await pair.differing("k", "l") == ["l"]


async def test_what_was_cleared_behind_the_front_is_found(pair: Pair) -> None:
    await pair.rows.clear(pair.space.view.scope.addresses[1])
    assert await pair.differing("k", "l") == ["k", "l"]


async def test_what_is_changed_as_it_should_is_not(pair: Pair) -> None:
    await pair.space.set("k", 3)
    await pair.space.delete("l")
    await pair.space.get_many(["k", "l"])
    assert await pair.differing("k", "l") == []


@pytest.mark.parametrize("when", ["before", "after"])
async def test_what_is_changed_while_it_is_looked_at_is_not(pair: Pair, when: Any) -> None:
    found: list[list[str]] = []

    async def look() -> None:
        found.append(await pair.differing("k", "l"))

    asked = pair.store.stop("read", when)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(look)
        await asked.reached()
        await pair.space.set("k", 3)
        await pair.space.delete("l")
        asked.open()
    assert found == [[]]


async def test_what_the_front_does_not_hold_is_not(pair: Pair) -> None:
    await pair.write_behind_its_back("k", "newer")
    pair.memory.forget()
    assert await pair.differing("k") == []


async def during(work: Callable[[], Awaitable[object]], pair: Pair, **how: Any) -> Any:
    """What an audit finds while `work` is done again and again."""
    found: list[Any] = []

    async def audit() -> None:
        found.append(await pair.cache.audit(0.1, **how))

    with anyio.fail_after(PATIENCE_SECONDS):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(audit)
            while not found:
                await work()
                await anyio.sleep(0.01)
    return found[0]


async def test_an_audit_of_a_healthy_cache_finds_nothing(pair: Pair) -> None:
    async def use() -> None:
        await pair.space.set("k", 1)
        await pair.space.get("k")
        await pair.space.get("k")

    found = await during(use, pair, ages=(0.01, 0.05))
    assert set(found) == {0.01, 0.05}
    assert all(each.checked and not each.inconsistent and each.per_million == 0 for each in found.values())
    assert pair.cache.stats().audit == {}


async def test_an_audit_counts_what_it_finds_and_says_so_once(pair: Pair, caplog: pytest.LogCaptureFixture) -> None:
    await pair.write_behind_its_back("k", "newer")

    async def use() -> None:
        await pair.space.get_many(["k", "l"])

    with caplog.at_level(logging.WARNING, "tiered_cache"):
        found = await during(use, pair, ages=(0.01,))
    assert found[0.01].checked == 2 * found[0.01].inconsistent > 0
    assert found[0.01].per_million == 500_000
    assert len(caplog.records) == 1


async def test_the_option_has_it_done_all_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_module, "AGES", (0.01,))
    pair = Pair(audit_share=1.0)
    await pair.space.set("k", 1)
    await pair.space.get("k")
    await pair.write_behind_its_back("k", "newer")
    with anyio.fail_after(PATIENCE_SECONDS):
        while not pair.cache.stats().audit:
            await pair.space.get("k")
            await anyio.sleep(0.01)
    assert pair.cache.stats().audit[0.01].inconsistent


async def test_tiers_that_are_away_are_not_compared(pair: Pair) -> None:
    async def use() -> None:
        await pair.space.get("k")
        pair.store.down = True

    assert await during(use, pair, ages=(0.01,)) == {}


async def test_by_default_nothing_is_audited(pair: Pair) -> None:
    assert pair.cache.view.shared.engine.on_hits == ()


@pytest.mark.parametrize("how", [{"share": 0}, {"share": 2}, {"ages": ()}, {"ages": (0,)}, {"seconds": -1}])
async def test_wrong_arguments_are_refused(pair: Pair, how: Any) -> None:
    with pytest.raises(ConfigurationError):
        await pair.cache.audit(**how)


async def test_a_cache_that_is_closed_is_looked_at_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_module, "AGES", (0.2,))
    pair = Pair(audit_share=1.0)
    await pair.space.set("k", 1)
    await pair.space.get("k")
    await pair.space.get("k")
    await pair.cache.aclose()
    asked = len(pair.front.calls)
    with anyio.fail_after(PATIENCE_SECONDS):
        await pair.cache._auditor.until_done()
    await anyio.sleep(0.3)
    assert len(pair.front.calls) == asked
