"""`stable_cache_key`: graphs in several processes share what their nodes computed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable
from datetime import datetime
from operator import add
from pathlib import Path
from typing import Annotated, Any, Final, TypedDict, cast
from zoneinfo import ZoneInfo

import pytest
from langchain_core.messages import AIMessage, HumanMessage
from langgraph._internal._cache import default_cache_key
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.func import entrypoint, task
from langgraph.graph import START, StateGraph, add_messages
from langgraph.types import CachePolicy, Send

from tests.stable_values import Client, Question, Search, values
from tiered_cache import TieredCache, UnsupportedValueError, stable_key
from tiered_cache.langgraph import LangGraphCache, stable_cache_key

pytestmark = pytest.mark.parametrize("world", ["embedded"], indirect=True)

STABLE: Final[Any] = CachePolicy(key_func=stable_cache_key)


class Talk(TypedDict, total=False):
    messages: Annotated[list[Any], add_messages]
    seen: set[str]
    filters: dict[str, Any]
    question: Question
    search: Search
    steps: tuple[str, ...]
    log: Annotated[list[str], add]


def graph_of(
    node: Callable[[Any], Any], cache: Any, *, schema: Any = Talk, policy: Any = STABLE, saver: Any = None
) -> Any:
    builder: Any = StateGraph(schema)
    builder.add_node("node", node, cache_policy=policy)
    builder.add_edge(START, "node")
    return builder.compile(cache=cache, checkpointer=saver)


# --- several processes ------------------------------------------------------------------------------------------------

PROGRAM: Final = """
import sys
from langchain_core.messages import HumanMessage
from langgraph._internal._cache import default_cache_key
from langgraph.types import CachePolicy
from tests.langgraph.test_key import graph_of
from tests.stable_values import Question, Search, WORDS
from tiered_cache import TieredCache
from tiered_cache.langgraph import LangGraphCache, stable_cache_key

path, which = sys.argv[1:]
runs = []
def node(state):
    runs.append(1)
    return {"messages": ["an answer"]}

keys = {"stable": stable_cache_key, "default": default_cache_key}
cache = TieredCache(store=f"sqlite:///{path}")
graph = graph_of(node, LangGraphCache(cache), policy=CachePolicy(key_func=keys[which]))
words = {word: {word} for word in WORDS}
found = graph.invoke({
    "messages": [HumanMessage("what do you know?")],
    "seen": set(WORDS),
    "filters": words,
    "question": Question(text="q", tags=set(WORDS)),
    "search": Search("q", words),
})
cache.close()
assert found["messages"][-1].content == "an answer"
print(len(runs))
"""


@pytest.mark.parametrize(("which", "runs"), [("stable", [1, 0, 0, 0]), ("default", [1, 1])])
def test_of_four_processes_with_one_file_the_first_computes(
    world: Any, tmp_path: Path, which: str, runs: list[int]
) -> None:
    """LangGraph's own default, beside it, never finds what another process left."""
    found: list[int] = []
    for seed in range(1, 1 + len(runs)):
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, str(tmp_path / "cache.db"), which],
            env={**os.environ, "PYTHONHASHSEED": str(seed)},
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        found.append(json.loads(done.stdout))
    assert found == runs


# --- what a node is given ---------------------------------------------------------------------------------------------


class Counting:
    def __init__(self, output: Any) -> None:
        self.output = output
        self.runs = 0

    def node(self, state: Any) -> Any:
        self.runs += 1
        return self.output


@pytest.mark.parametrize("key_func", [stable_cache_key, default_cache_key])
async def test_messages_are_known_whatever_their_ids(results: LangGraphCache[Any], key_func: Any) -> None:
    counting = Counting({"log": ["done"]})
    graph = graph_of(counting.node, results, policy=CachePolicy(key_func=key_func))
    for _ in range(3):  # `add_messages` gives each a new id
        await graph.ainvoke({"messages": [HumanMessage("hi"), AIMessage("hello")]})
    assert counting.runs == (1 if key_func is stable_cache_key else 3)


async def test_other_messages_are_others(results: LangGraphCache[Any]) -> None:
    counting = Counting({"log": ["done"]})
    graph = graph_of(counting.node, results)
    for text in ("hi", "hi!", "hi"):
        await graph.ainvoke({"messages": [HumanMessage(text)]})
    assert counting.runs == 2


@pytest.mark.parametrize("schema", [Question, Search], ids=["pydantic", "dataclass"])
async def test_a_state_may_be_a_model_or_a_dataclass(results: LangGraphCache[Any], schema: Any) -> None:
    counting = Counting({})
    graph = graph_of(counting.node, results, schema=schema)
    first: Any = {"text": "q"} if schema is Question else {"query": "q", "filters": {"a": {1, 2}, "b": 1}}
    second: Any = first | ({"points": []} if schema is Question else {"filters": {"b": 1, "a": {2, 1}}})
    for given in (first, second):
        await graph.ainvoke(given)
    assert counting.runs == 1


def pieces(state: Talk) -> list[Send]:
    return [Send("node", {"n": {n, "x"}}) for n in "abc"]


async def test_what_is_sent_to_a_node_is_its_input(results: LangGraphCache[Any]) -> None:
    counting = Counting({"log": ["done"]})
    builder: Any = StateGraph(Talk)
    builder.add_node("node", counting.node, cache_policy=STABLE)
    builder.add_conditional_edges(START, pieces, ["node"])
    graph = builder.compile(cache=results)
    for _ in range(2):
        await graph.ainvoke({})
    assert counting.runs == 3


async def test_the_arguments_of_a_task_are_its_input(results: LangGraphCache[Any]) -> None:
    runs: list[Any] = []

    @task(cache_policy=STABLE)
    def work(words: set[str], *, more: dict[str, int]) -> int:
        runs.append(words)
        return len(words)

    @entrypoint(cache=results)
    async def workflow(turn: int) -> int:
        return await work({"a", "b"}, more={"x": 1, "y": 2} if turn else {"y": 2, "x": 1})

    flow = cast("Any", workflow)
    assert [await flow.ainvoke(turn) for turn in range(2)] == [2, 2]
    assert len(runs) == 1


# --- checkpoints ------------------------------------------------------------------------------------------------------


def text_of_a_message() -> Any:
    return AIMessage("hi").text


PLAIN: Final = ("dict", "set", "pydantic", "slotted dataclass", "ai", "tool", "enum")
KEPT_APART_BY_NO_CHECKPOINT: Final[dict[str, Callable[[], Any]]] = {
    "tuple": lambda: (1, (2, [3])),
    "tuple in a model": lambda: Question.model_validate({"text": "q", "more": (1, 2)}),
    "defaultdict": lambda: defaultdict(list, {"a": [1]}),
    "counter": lambda: Counter("aab"),
    "ordered dict": lambda: OrderedDict([("b", 1), ("a", 2)]),
    "bytearray": lambda: bytearray(b"a"),
    "text of a message": text_of_a_message,
    "deque": lambda: deque([(1, 2)]),
    "deque of a length": lambda: deque([1], maxlen=3),
    "zone": lambda: datetime(2026, 11, 21, tzinfo=ZoneInfo("Europe/Berlin")),
    "fold": lambda: datetime(2026, 11, 21, fold=1),  # noqa: DTZ001
    **{
        name: lambda name=name: values()[name]
        for name in ("dict", "set", "pydantic", "slotted dataclass", "ai", "tool", "enum")
    },
}


@pytest.mark.parametrize("name", KEPT_APART_BY_NO_CHECKPOINT)
def test_a_value_has_the_same_key_after_a_checkpoint(world: Any, name: str) -> None:
    value = KEPT_APART_BY_NO_CHECKPOINT[name]()
    serde = JsonPlusSerializer()
    again = serde.loads_typed(serde.dumps_typed({"value": value}))
    assert stable_cache_key(again) == stable_cache_key({"value": value})
    if name not in PLAIN:
        assert stable_key(again) != stable_key({"value": value})


@pytest.mark.parametrize(("key_func", "runs"), [(stable_cache_key, 1), (stable_key, 2)])
async def test_a_run_that_goes_on_from_a_checkpoint_finds_what_the_run_before_left(
    results: LangGraphCache[Any], key_func: Any, runs: int
) -> None:
    counting = Counting({"steps": ("a", "b")})
    graph = graph_of(counting.node, results, policy=CachePolicy(key_func=key_func), saver=InMemorySaver())
    config: Any = {"configurable": {"thread_id": "1"}}
    await graph.ainvoke({"steps": ("a", "b")}, config)
    await graph.ainvoke({}, config)  # what was a tuple comes as a list from now on
    assert counting.runs == runs


# --- what has no key --------------------------------------------------------------------------------------------------


class Odd(TypedDict, total=False):
    client: Any


async def test_an_input_without_a_key_ends_the_run_and_says_why(results: LangGraphCache[Any]) -> None:
    """Not a silent miss: the node would be paid for each time."""
    counting = Counting({})
    graph = graph_of(counting.node, results, schema=Odd)
    message = r"^args\[0\]\['client'\]: a value of type builtins:object has no stable key: .*__stable_key__.*key_func="
    with pytest.raises(UnsupportedValueError, match=message):
        await graph.ainvoke({"client": object()})
    with pytest.raises(UnsupportedValueError, match=message):
        graph.invoke({"client": object()})
    assert counting.runs == 0


def by_names(state: Odd) -> str:
    return stable_key(sorted(state))


async def test_and_each_of_its_cures_cures(cache: TieredCache) -> None:
    for policy, client in [
        (STABLE, lambda: Client("a")),
        (CachePolicy(key_func=by_names), object),
    ]:
        counting = Counting({})
        graph = graph_of(
            counting.node, LangGraphCache(cache, namespace=type(client()).__name__), schema=Odd, policy=policy
        )
        for _ in range(2):
            await graph.ainvoke({"client": client()})
        assert counting.runs == 1
