"""What a hit adds to the history makes no other question of the next turn, and nothing else is left out of a key."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.caches import BaseCache, InMemoryCache
from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.load import dumps
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.outputs import ChatGeneration

from tests.langchain.answers import full_message
from tests.langchain.models import CountingChat, SerializableChat
from tests.langchain.shapes import COMPLETE, said
from tiered_cache import TieredCache
from tiered_cache.langchain import LangChainCache
from tiered_cache.langchain._prompts import MARK, MARKER, canonical

one_world = pytest.mark.parametrize("world", ["embedded"], indirect=True)

TURNS = ("one?", 'two, and what is the "total_cost": 0?', "three?", "four?")


def talk(llm: CountingChat) -> list[BaseMessage]:
    """A conversation as applications hold it: every answer goes back into the history."""
    history: list[BaseMessage] = [SystemMessage("be brief")]
    for turn in TURNS:
        history.append(HumanMessage(turn, id=f"h-{len(history)}-{llm.calls}"))
        history.append(llm.invoke(history))
    return history


def calls_per_replay(llm: CountingChat, replays: int = 4) -> list[int]:
    calls = [0]
    for _ in range(replays + 1):
        talk(llm)
        calls.append(llm.calls)
    return [later - earlier for earlier, later in pairwise(calls)]


def answering(message: AIMessage) -> Callable[[list[BaseMessage], int], list[ChatGeneration]]:
    return lambda messages, nth: [ChatGeneration(message=message.model_copy(deep=True))]


class PromptAsItIs(LangChainCache):
    """The naive twin: the same cache, which takes every prompt as the key it is."""

    def _question(self, prompt: str, llm_string: str) -> Any:
        return self._model(llm_string), prompt


SHAPES: dict[str, AIMessage] = {
    **{name: said("two", metadata) for name, metadata in COMPLETE.items()},
    "without usage": AIMessage("two"),
    "without anything": AIMessage(""),
    "with a cost of its own": said("two", {}, usage={"input_tokens": 1, "output_tokens": 1, "total_tokens": 2}),
    "with everything": full_message(),
    "with a cost among the arguments": AIMessage(
        "",
        tool_calls=[{"name": "order", "args": {"usage_metadata": {"total_cost": 5}, "total_cost": 0}, "id": "c"}],
        additional_kwargs={"total_cost": 0, "usage_metadata": {"total_cost": 0}, MARKER: MARK},
    ),
    "with half a character": AIMessage("\ud83d", response_metadata={"p": float("nan"), "q": 1e400}),
}


@one_world
@pytest.mark.parametrize("model", [CountingChat, SerializableChat])
class TestReplays:
    @pytest.mark.parametrize("shape", SHAPES)
    def test_a_conversation_once_held_costs_nothing_any_more(
        self, answers: LangChainCache, model: type[CountingChat], shape: str
    ) -> None:
        llm = model(cache=answers, answer=answering(SHAPES[shape]))
        assert calls_per_replay(llm, 2) == [4, 0, 0]

    async def test_nor_does_it_where_it_is_asynchronous(
        self, answers: LangChainCache, model: type[CountingChat]
    ) -> None:
        llm = model(cache=answers)
        calls: list[int] = []
        for _ in range(3):
            history: list[BaseMessage] = []
            for turn in TURNS:
                history += [HumanMessage(turn), await llm.ainvoke([*history, HumanMessage(turn)])]
            calls.append(llm.calls)
        assert calls == [4, 4, 4]

    @pytest.mark.parametrize("naive", ["InMemoryCache", "this one, with prompts as they are"])
    def test_with_prompts_as_they_are_every_turn_takes_a_replay(
        self, cache: TieredCache, model: type[CountingChat], naive: str
    ) -> None:
        twin: BaseCache = InMemoryCache() if naive == "InMemoryCache" else PromptAsItIs(cache)
        assert calls_per_replay(model(cache=twin)) == [4, 3, 2, 1, 0]

    def test_an_answer_further_on_is_deleted_through_its_model(
        self, answers: LangChainCache, model: type[CountingChat]
    ) -> None:
        llm = model(cache=answers)
        talk(llm)
        history = talk(llm)
        answers.delete_through_llm(history[:-1], llm)
        assert llm.invoke(history[:-1]).text.endswith("#5")
        assert llm.calls == 5


@one_world
async def test_a_hit_without_a_marker_leaves_none_and_the_keys_are_the_same(cache: TieredCache) -> None:
    marking, silent = LangChainCache(cache), LangChainCache(cache, mark_hits=False)
    talk(CountingChat(cache=marking))
    llm = CountingChat(cache=silent)
    assert not any(MARKER in message.response_metadata for message in talk(llm))
    assert any(MARKER in message.response_metadata for message in talk(CountingChat(cache=marking)))
    assert llm.calls == 0


@one_world
async def test_the_ids_of_messages_are_no_part_of_a_question(answers: LangChainCache) -> None:
    llm = GenericFakeChatModel(messages=iter([AIMessage("one"), AIMessage("two")]), cache=answers)
    assert [(await llm.ainvoke([HumanMessage("q", id=each)])).text for each in ("a", "b", "")] == ["one"] * 3


def hit(message: AIMessage) -> AIMessage:
    """As langchain-core and this package leave a hit."""
    return message.model_copy(
        update={
            "usage_metadata": {**(message.usage_metadata or {}), "total_cost": 0},
            "response_metadata": {**message.response_metadata, MARKER: {"hit": True}},
        }
    )


@pytest.mark.parametrize("shape", SHAPES)
def test_a_prompt_with_hits_is_the_one_without(shape: str) -> None:
    message = SHAPES[shape]
    cold = dumps([HumanMessage("q"), message, ToolMessage("3", tool_call_id="c"), message, HumanMessage("r")])
    warm = dumps([HumanMessage("q"), hit(message), ToolMessage("3", tool_call_id="c"), hit(message), HumanMessage("r")])
    assert warm != cold
    assert canonical(warm) == canonical(cold) == cold


def test_a_cost_that_was_no_0_is_one_as_well() -> None:
    usage = {"input_tokens": 1, "output_tokens": 1, "total_tokens": 2}
    paid = AIMessage.model_construct(content="two", usage_metadata={**usage, "total_cost": 0.0012})
    assert canonical(dumps([paid])) == canonical(dumps([hit(paid)])) == dumps([said("two", {}, usage=usage)])


def test_a_hit_of_a_message_that_has_no_usage_is_one_too() -> None:
    for kind in (HumanMessage, SystemMessage, AIMessage):
        assert canonical(dumps([kind("a", response_metadata={"n": 1, MARKER: MARK})])) == dumps(
            [kind("a", response_metadata={"n": 1})]
        )


def test_metadata_of_the_same_name_that_is_no_marker_stays_in_a_hit() -> None:
    markers: list[Any] = [{"hit": False}, {"hit": True, "more": 1}, "hit", None]
    warm = [
        said("a", {MARKER: each}).model_copy(update={"usage_metadata": {"input_tokens": 1, "total_cost": 0}})
        for each in markers
    ]
    assert len({canonical(dumps([each])) for each in [*warm, hit(said("a", {}))]}) == 5


ARGUMENTS: list[dict[str, Any]] = [
    {},
    {"total_cost": 0},
    {"usage_metadata": {"total_cost": 0}},
    {"usage_metadata": {}},
    {"response_metadata": {MARKER: MARK}},
    {"kwargs": {"usage_metadata": {"total_cost": 0}}},
]
OTHERS: dict[str, Sequence[Any]] = {
    "a text that says so": [
        [HumanMessage('", "total_cost": 0, "')],
        [HumanMessage('", "')],
        [HumanMessage('"usage_metadata": {"total_cost": 0}')],
        [HumanMessage('{"tiered_cache": {"hit": true}}')],
        [HumanMessage("{}")],
    ],
    "arguments of a call": [[AIMessage("", tool_calls=[{"name": "f", "args": args, "id": "c"}])] for args in ARGUMENTS],
    "blocks of content": [
        [HumanMessage([block])]
        for block in (
            {"type": "text", "text": "a"},
            {"type": "text", "text": "a", "total_cost": 0},
            {"type": "text", "text": "a", "usage_metadata": {"total_cost": 0}},
            {"type": "text", "text": "a", "response_metadata": {MARKER: MARK}},
        )
    ],
    "other metadata": [
        [AIMessage("a", response_metadata=metadata)]
        for metadata in (
            {"total_cost": 0},
            {MARKER: {"hit": False}},
            {MARKER: {"hit": True, "more": 1}},
            {"deep": {MARKER: MARK}},
            {"lc": 1, MARKER: MARK},
            {"id": "resp_1"},
            {"id": "resp_2"},
            {},
        )
    ],
    "usage": [[said("a", {}, usage={"input_tokens": n, "output_tokens": 1, "total_tokens": 1 + n})] for n in range(3)],
    "an artifact": [
        [ToolMessage("a", tool_call_id="c", artifact=artifact)]
        for artifact in (None, {"usage_metadata": {"total_cost": 0}}, {"total_cost": 0}, [said("a", {})])
    ],
    "roles and names": [[HumanMessage("a")], [AIMessage("a")], [HumanMessage("a", name="b")], [SystemMessage("a")]],
    "order": [[AIMessage("a"), AIMessage("b")], [AIMessage("b"), AIMessage("a")], [AIMessage("a")]],
}


@pytest.mark.parametrize("kind", OTHERS)
def test_what_means_something_else_is_another_key(kind: str) -> None:
    keys = [canonical(dumps(list(messages))) for messages in OTHERS[kind]]
    assert len(set(keys)) == len(keys)
    # Nor does it become one beside a message that was a hit.
    keys = [canonical(dumps([*messages, hit(said("b", {}))])) for messages in OTHERS[kind]]
    assert len(set(keys)) == len(keys)


COLD, WARM = dumps([said("a", {})]), dumps([hit(said("a", {}))])


@pytest.mark.parametrize(
    "text",
    [
        WARM + " ",
        " " + WARM,
        "What is the cost in " + WARM,
        WARM + WARM,
        WARM[:-1],
        WARM[:-1] + ", ]",
        WARM[:-1] + ",{}]",
        WARM[:-1] + ", {}",
        WARM[:-1] + ', {"a": "total_cost": 0}]',
        WARM.replace(": ", ":"),
        WARM.replace('"kwargs": {', '"kwargs": {"total_cost": 0, "total_cost": 0, '),
        WARM.replace('"usage_metadata": {', '"usage_metadata":  {'),
        WARM.replace("two", "zw\u00f6lf").replace('"a"', '"\u00e4"'),
        json.dumps([json.loads(WARM)]),
        json.dumps(json.loads(WARM), indent=1),
        '[{"lc": 1, "type": "constructor", "id": ["langchain"], "kwargs": {"usage_metadata": "total_cost": 0}}]',
        '[{"lc": 1, "type": "constructor", "id": ["langchain"], "kwargs": [{"total_cost": 0}]}]',
        '[{"lc": 1, "type": "constructor", "id": ["langchain"], "kwargs": {"usage_metadata": [{"total_cost": 0}]}}]',
        '[{"lc": 1, "type": "constructor", "id": ["langchain"], "kwargs": {"a": ' + "[" * 100_000 + '"total_cost": ',
        '[{"lc": 1, "type": "constructor", "id": ["langchain", {"total_cost": ' + "9" * 5000 + "}]}]",
        '"total_cost": 0',
        "",
        "[]",
    ],
    ids=range(23),
)
def test_a_text_that_is_no_list_of_messages_is_its_own_key(text: str) -> None:
    assert canonical(text) == text


@pytest.mark.parametrize("extra", [{}, "text", 1, None, [], {"kwargs": 1}, {"type": "constructor", "kwargs": {}}])
def test_what_is_no_message_among_messages_stays_as_it_is(extra: Any) -> None:
    texts = [f"[{WARM[1:-1]}, {json.dumps(extra)}]", f"[{WARM[1:-1]}, {json.dumps([extra, {'total_cost': 0}])}]"]
    assert len({canonical(text) for text in texts}) == 2
    assert canonical(texts[0]) in (texts[0], f"[{COLD[1:-1]}, {json.dumps(extra)}]")


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["total_cost", MARKER, "usage_metadata", "kwargs", "a", "hit"]), inner, max_size=3
        )
    ),
    max_leaves=8,
)


@given(st.lists(st.tuples(st.text(), values, st.booleans()), min_size=1, max_size=4))
def test_whatever_else_messages_hold_the_key_is_that_of_the_first_time(parts: list[tuple[str, Any, bool]]) -> None:
    cold = [AIMessage(text, additional_kwargs={"held": held}) for text, held, _ in parts]
    warm = [hit(message) if was_hit else message for message, (_, _, was_hit) in zip(cold, parts, strict=True)]
    assert canonical(dumps(warm)) == dumps(cold)
    assert canonical(dumps(cold)) == dumps(cold)
