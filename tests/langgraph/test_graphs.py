"""Real LangGraph runs over all tiers: nodes that ran once do not run again."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any, cast

import pytest
from langchain_core.messages import AIMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.func import entrypoint, task
from langgraph.graph import START, StateGraph
from langgraph.types import CachePolicy, RetryPolicy, Send, interrupt

from tests.langgraph.graphs import State, TwoNodes, by_question
from tests.langgraph.running import Invoke, ainvoke, invoke
from tests.worlds import World
from tiered_cache import TieredCache
from tiered_cache.langgraph import LangGraphCache

EXPECTED = {
    "question": "q",
    "topic": "topic of q",
    "answer": "answer to q",
    "log": ["classified", "answered"],
}


def test_a_second_invoke_runs_no_node(results: LangGraphCache[Any]) -> None:
    two = TwoNodes(results)
    assert [two.graph.invoke({"question": "q"}) for _ in range(3)] == [EXPECTED] * 3
    assert two.total == 2
    two.graph.invoke({"question": "another"})
    assert two.total == 4


async def test_a_second_ainvoke_runs_no_node(results: LangGraphCache[Any]) -> None:
    two = TwoNodes(results)
    assert [await two.graph.ainvoke({"question": "q"}) for _ in range(3)] == [EXPECTED] * 3
    assert two.total == 2


async def test_a_synchronous_invoke_in_a_running_loop_shares_with_ainvoke(results: LangGraphCache[Any]) -> None:
    two = TwoNodes(results)
    assert two.graph.invoke({"question": "q"}) == EXPECTED
    assert await two.graph.ainvoke({"question": "q"}) == EXPECTED
    assert await asyncio.to_thread(two.graph.invoke, {"question": "q"}) == EXPECTED
    assert two.total == 2


async def test_streams_tell_that_an_update_was_cached(results: LangGraphCache[Any]) -> None:
    two = TwoNodes(results)
    expected = [
        {"classify": {"topic": "topic of q", "log": ["classified"]}},
        {"answer": {"answer": "answer to q", "log": ["answered"]}},
    ]
    cached = {"__metadata__": {"cached": True}}
    assert list(two.graph.stream({"question": "q"}, stream_mode="updates")) == expected
    assert list(two.graph.stream({"question": "q"}, stream_mode="updates")) == [each | cached for each in expected]
    found = [each async for each in two.graph.astream({"question": "q"}, stream_mode="updates")]
    assert found == [each | cached for each in expected]


async def test_another_cache_object_on_the_same_tiers_finds_everything(world: World) -> None:
    first = TieredCache(world.front, world.store)
    one = TwoNodes(LangGraphCache(first))
    await one.graph.ainvoke({"question": "q"})
    await first.aclose()
    second = TieredCache(world.other_front(), world.store)
    two = TwoNodes(LangGraphCache(second))
    assert await two.graph.ainvoke({"question": "q"}) == EXPECTED
    assert (one.total, two.total) == (2, 0)
    await second.aclose()


@pytest.mark.parametrize("world", ["servers", "fake"], indirect=True)
async def test_losing_the_front_runs_no_node(world: World, cache: TieredCache, results: LangGraphCache[Any]) -> None:
    two = TwoNodes(results)
    await two.graph.ainvoke({"question": "q"})
    world.lose_front()
    assert await two.graph.ainvoke({"question": "q"}) == EXPECTED
    assert two.total == 2
    assert cache.stats().hits_store == 2
    await two.graph.ainvoke({"question": "q"})
    assert cache.stats().hits_front >= 2


async def test_clear_cache_of_a_graph_ends_the_named_nodes_only(results: LangGraphCache[Any]) -> None:
    two = TwoNodes(results)
    other = TwoNodes(results, names=("other", "nodes"))
    for graph in (two.graph, other.graph):
        await graph.ainvoke({"question": "q"})
    two.graph.clear_cache(nodes=["answer"])
    await two.graph.ainvoke({"question": "q"})
    assert dict(two.runs) == {"classify": 1, "answer": 2}
    await two.graph.aclear_cache()
    await two.graph.ainvoke({"question": "q"})
    assert dict(two.runs) == {"classify": 2, "answer": 3}
    await other.graph.ainvoke({"question": "q"})
    assert other.total == 2


NASTY_NAMES = [("a,b", "a", "b"), ("x/y", "x?y", "x*y"), ("n", "n ", "__dynamic__"), ("[a]", "a", "ä\n\t\"'")]


@pytest.mark.parametrize("names", NASTY_NAMES, ids=repr)
def test_nodes_of_any_name_keep_to_themselves(results: LangGraphCache[Any], names: tuple[str, ...]) -> None:
    def node_of(name: str) -> Any:
        def node(state: State) -> State:
            return {"log": [f"{name} ran on {state.get('question')}"]}

        return node

    builder: Any = StateGraph(State)
    for name in names:
        builder.add_node(name, node_of(name), cache_policy=CachePolicy(key_func=by_question))
        builder.add_edge(START, name)
    graph = builder.compile(cache=results)
    first, second = (graph.invoke({"question": "q"}) for _ in range(2))
    assert first == second
    assert sorted(first["log"]) == sorted(f"{name} ran on q" for name in names)
    graph.clear_cache(nodes=[names[0]])
    chunks = list(graph.stream({"question": "q"}, stream_mode="updates"))
    assert [next(iter(chunk)) for chunk in chunks if "__metadata__" not in chunk] == [names[0]]


@pytest.mark.parametrize("ttl", [0, -1])
async def test_a_policy_with_a_ttl_that_is_over_caches_nothing(results: LangGraphCache[Any], ttl: int) -> None:
    two = TwoNodes(results, ttl=ttl)
    for _ in range(2):
        assert await two.graph.ainvoke({"question": "q"}) == EXPECTED
    assert two.total == 4


@pytest.mark.parametrize("ttl", [None, 60, 60.5])
async def test_a_policy_with_a_ttl_caches(results: LangGraphCache[Any], ttl: Any) -> None:
    two = TwoNodes(results, ttl=ttl)
    for _ in range(2):
        await two.graph.ainvoke({"question": "q"})
    assert two.total == 2


async def test_tasks_of_an_entrypoint_are_cached(results: LangGraphCache[Any]) -> None:
    runs: list[int] = []

    @task(cache_policy=CachePolicy(ttl=120))
    def double(n: int) -> tuple[int, int]:
        runs.append(n)
        return n, n * 2

    @entrypoint(cache=results)
    async def workflow(numbers: list[int]) -> list[tuple[int, int]]:
        return await asyncio.gather(*(double(n) for n in numbers))

    flow = cast("Any", workflow)
    for _ in range(3):
        assert await flow.ainvoke([1, 2, 3]) == [(1, 2), (2, 4), (3, 6)]
    assert sorted(runs) == [1, 2, 3]


def test_a_fan_out_finds_each_of_its_pieces(results: LangGraphCache[Any], cache: TieredCache) -> None:
    runs: list[str] = []

    def split(state: State) -> State:
        return {}

    def pieces(state: State) -> list[Send]:
        return [Send("work", {"question": str(n)}) for n in range(30)]

    def work(state: State) -> State:
        question = state.get("question", "")
        runs.append(question)
        return {"log": [question]}

    builder: Any = StateGraph(State)
    builder.add_node("split", split)
    builder.add_node("work", work, cache_policy=CachePolicy(key_func=by_question, ttl=60))
    builder.add_edge(START, "split")
    builder.add_conditional_edges("split", pieces, ["work"])
    graph = builder.compile(cache=results)
    for _ in range(2):
        assert sorted(graph.invoke({"question": "q"})["log"], key=int) == [str(n) for n in range(30)]
    assert len(runs) == 30
    assert cache.stats().hits == 30


async def test_a_node_that_failed_is_not_cached(results: LangGraphCache[Any]) -> None:
    attempts: list[int] = []

    def flaky(state: State) -> State:
        attempts.append(1)
        if len(attempts) == 1:
            raise RuntimeError("not this time")
        return {"answer": "at last"}

    builder: Any = StateGraph(State)
    policy = CachePolicy(key_func=by_question)
    builder.add_node("flaky", flaky, cache_policy=policy, retry_policy=RetryPolicy(max_attempts=1))
    builder.add_edge(START, "flaky")
    graph = builder.compile(cache=results)
    with pytest.raises(RuntimeError, match="not this time"):
        await graph.ainvoke({"question": "q"})
    for _ in range(2):
        assert (await graph.ainvoke({"question": "q"}))["answer"] == "at last"
    assert len(attempts) == 2


@pytest.mark.parametrize("call", [ainvoke, invoke])
async def test_a_failure_or_an_interrupt_is_never_a_result(cache: TieredCache, call: Invoke) -> None:
    """`invoke` of older LangGraphs stores them, and this serializer can; a hit would skip the node without a word."""
    attempts: list[str] = []

    def failing(state: State) -> State:
        attempts.append("failing")
        raise RuntimeError("not today")

    def asking(state: State) -> State:
        attempts.append("asking")
        return {"answer": interrupt("what now?")}

    results: LangGraphCache[Any] = LangGraphCache(cache, serde=JsonPlusSerializer(pickle_fallback=True))
    for node in (failing, asking):
        builder: Any = StateGraph(State)
        builder.add_node(node.__name__, node, cache_policy=CachePolicy(key_func=by_question))
        builder.add_edge(START, node.__name__)
        graph = builder.compile(cache=results, checkpointer=InMemorySaver())
        for thread in range(3):
            config = {"configurable": {"thread_id": str(thread)}}
            with suppress(RuntimeError):
                found = await call(graph.with_config(config), {"question": "q"})
                assert found["__interrupt__"][0].value == "what now?"
    assert attempts == ["failing"] * 3 + ["asking"] * 3
    assert cache.stats().unsupported == cache.stats().adapter_errors == 0


async def test_messages_survive_with_their_tool_calls_and_usage(results: LangGraphCache[Any]) -> None:
    message = AIMessage(
        "hi",
        tool_calls=[{"name": "f", "args": {"a": 1}, "id": "c"}],
        usage_metadata={"input_tokens": 1, "output_tokens": 2, "total_tokens": 3},
    )
    two = TwoNodes(results, output=lambda _: (message, message.text))
    first, second = [(await two.graph.ainvoke({"question": "q"}))["answer"] for _ in range(2)]
    assert two.total == 2
    assert first == second == (message, "hi")
    assert [type(each) for each in second] == [type(message), type(message.text)]


async def test_a_subgraph_compiled_without_a_cache_has_none(results: LangGraphCache[Any]) -> None:
    inner = TwoNodes(None)
    builder: Any = StateGraph(State)
    builder.add_node("inner", inner.graph)
    builder.add_edge(START, "inner")
    outer = builder.compile(cache=results)
    for _ in range(2):
        await outer.ainvoke({"question": "q"})
    assert inner.total == 4


async def test_a_deployment_with_another_version_runs_its_nodes(cache: TieredCache) -> None:
    deployed = [TwoNodes(LangGraphCache(cache, version=version)) for version in ("1", "1", "2")]
    for two in deployed:
        assert await two.graph.ainvoke({"question": "q"}) == EXPECTED
    assert [two.total for two in deployed] == [2, 0, 2]


async def test_a_subgraph_uses_the_cache_it_was_compiled_with(results: LangGraphCache[Any]) -> None:
    inner = TwoNodes(results)
    builder: Any = StateGraph(State)
    builder.add_node("inner", inner.graph)
    builder.add_edge(START, "inner")
    outer = builder.compile()
    for _ in range(2):
        assert (await outer.ainvoke({"question": "q"}))["answer"] == "answer to q"
    assert inner.total == 2


async def test_two_tenants_with_equal_state_share_nothing(cache: TieredCache) -> None:
    graphs = [
        TwoNodes(LangGraphCache(cache.namespace(name)), output=lambda q, name=name: f"{name}: {q}")
        for name in ("tenant-1", "tenant-2")
    ]
    for _ in range(2):
        found = [(await each.graph.ainvoke({"question": "q"}))["answer"] for each in graphs]
        assert found == ["tenant-1: q", "tenant-2: q"]
    assert [each.total for each in graphs] == [2, 2]
