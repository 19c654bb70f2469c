"""An outage is one line, and its end another, however many calls there are in between and whatever else still works."""

from __future__ import annotations

import logging

import pytest
from langchain_core.outputs import Generation

from tests.doubles import DictStore
from tiered_cache import FrontUnavailableError, MemoryFront, TieredCache
from tiered_cache.langchain import LangChainCache
from tiered_cache.langgraph import LangGraphCache
from tiered_cache.testing import FaultyFront, FaultyStore

CALLS = 20


class Pair:
    def __init__(self) -> None:
        self.front = FaultyFront(MemoryFront())
        self.store = FaultyStore(DictStore())
        self.cache = TieredCache(self.front, self.store, front_timeout=5.0, store_timeout=5.0)
        self.cache.view.shared.engine.on_change = lambda _: None


def warnings(caplog: pytest.LogCaptureFixture, subject: str) -> int:
    return sum(record.levelname == "WARNING" and record.getMessage().startswith(subject) for record in caplog.records)


async def test_of_a_store_that_is_away_an_adapter_tells_once_while_the_front_goes_on_serving_hits(
    caplog: pytest.LogCaptureFixture,
) -> None:
    pair = Pair()
    answers, results = LangChainCache(pair.cache), LangGraphCache[str](pair.cache)
    await results.aset({(("n",), "hot"): ("value", None)})
    await results.aget([(("n",), "hot")])
    await answers.aupdate("hot", "m", [Generation(text="value")])
    await answers.alookup("hot", "m")
    pair.store.down = True
    with caplog.at_level(logging.INFO, "tiered_cache"):
        for n in range(CALLS):
            assert await answers.alookup("hot", "m") is not None
            assert await answers.alookup(f"absent {n}", "m") is None
            assert await results.aget([(("n",), "hot")])
            assert not await results.aget([(("n",), f"absent {n}")])
    assert pair.cache.stats().adapter_errors == 2 * CALLS
    assert [warnings(caplog, name) for name in ("LangChainCache", "LangGraphCache")] == [1, 1]


async def test_of_a_front_that_takes_no_changes_it_is_told_once_while_it_goes_on_answering(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A full Redis, one that became a replica, or one whose user may not write."""
    pair = Pair()
    await pair.cache.set("hot", "value")
    with caplog.at_level(logging.INFO, "tiered_cache"):
        for n in range(CALLS):
            pair.front.fail("mark_write", "before", FrontUnavailableError("READONLY"))
            pair.front.fail("settle_write", "before", FrontUnavailableError("READONLY"))
            await pair.cache.set(f"another {n}", "value")
            assert await pair.cache.get("hot") == "value"
    assert pair.cache.stats().front_errors == 2 * CALLS
    assert warnings(caplog, "the front") == 1


async def test_of_a_store_that_takes_no_changes_it_is_told_once_while_it_goes_on_answering(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A database in recovery, or a full disk."""
    pair = Pair()
    answers = LangChainCache(pair.cache)
    await pair.cache.setup()
    with caplog.at_level(logging.INFO, "tiered_cache"):
        for n in range(CALLS):
            pair.store.fail("write", "before")
            await answers.aupdate(f"prompt {n}", "m", [Generation(text="value")])
            assert await answers.alookup(f"absent {n}", "m") is None
    assert pair.cache.stats().store_errors == CALLS
    assert warnings(caplog, "the store") == 1
