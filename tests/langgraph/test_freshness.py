"""Freshness said round a graph: LangGraph passes no arguments on to its caches."""

from __future__ import annotations

import pytest

from tests.aging import Aged
from tests.langgraph.graphs import TwoNodes
from tiered_cache import NotCachedError, freshness
from tiered_cache.langgraph import LangGraphCache

pytestmark = pytest.mark.parametrize("world", ["embedded", "servers"], indirect=True)

ASKED = {"question": "q"}


async def test_a_result_that_is_too_old_for_one_caller_is_made_anew_and_replaced(aged: Aged) -> None:
    answers = iter(["old", "new"])
    two = TwoNodes(LangGraphCache(aged.cache), output=lambda _: next(answers))
    assert (await two.graph.ainvoke(ASKED))["answer"] == "old"
    aged.clock.advance(100)
    with freshness(max_age=200):
        assert (await two.graph.ainvoke(ASKED))["answer"] == two.graph.invoke(ASKED)["answer"] == "old"
    assert two.total == 2
    with freshness(max_age=50):
        assert (await two.graph.ainvoke(ASKED))["answer"] == two.graph.invoke(ASKED)["answer"] == "new"
    assert two.total == 4
    assert two.graph.invoke(ASKED)["answer"] == "new"
    assert two.total == 4
    stats = aged.cache.stats()
    assert stats.hits + stats.misses == 12


async def test_a_graph_asked_to_refresh_runs_and_its_results_replace_the_old_ones(aged: Aged) -> None:
    answers = iter(["one", "two", "three"])
    two = TwoNodes(LangGraphCache(aged.cache), output=lambda _: next(answers))
    two.graph.invoke(ASKED)
    with freshness(refresh=True):
        assert two.graph.invoke(ASKED)["answer"] == "two"
        assert (await two.graph.ainvoke(ASKED))["answer"] == "three"
    assert (await two.graph.ainvoke(ASKED))["answer"] == two.graph.invoke(ASKED)["answer"] == "three"
    assert two.total == 6


async def test_a_node_that_would_have_to_run_does_not(aged: Aged) -> None:
    two = TwoNodes(LangGraphCache(aged.cache))
    with freshness(only_if_cached=True):
        for _ in range(2):
            with pytest.raises(NotCachedError):
                await two.graph.ainvoke(ASKED)
            with pytest.raises(NotCachedError):
                two.graph.invoke(ASKED)
    assert two.total == 0
    expected = two.graph.invoke(ASKED)
    with freshness(only_if_cached=True):
        assert two.graph.invoke(ASKED) == await two.graph.ainvoke(ASKED) == expected
    assert two.total == 2
    assert aged.cache.stats().adapter_errors == 0


async def test_one_node_of_several_that_would_have_to_run_is_one_too_many(aged: Aged) -> None:
    results = LangGraphCache[str](aged.cache)
    there, absent = (("n",), "there"), (("n",), "absent")
    await results.aset({there: ("a", None)})
    with freshness(only_if_cached=True):
        assert await results.aget([there]) == results.get([there]) == {there: "a"}
        with pytest.raises(NotCachedError):
            await results.aget([there, absent])
        with pytest.raises(NotCachedError):
            results.get([absent, there])
    assert await results.aget([there, absent]) == {there: "a"}
