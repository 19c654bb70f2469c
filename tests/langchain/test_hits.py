"""What a hit is given: an id of its own, a marker, and a place in the counters."""

from __future__ import annotations

from collections.abc import Callable
from operator import add
from typing import Annotated, Any, TypedDict, cast
from uuid import RFC_4122, UUID

import anyio
import pytest
from langchain_core.caches import BaseCache, InMemoryCache
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, HumanMessage, RemoveMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, Generation
from langchain_core.utils.utils import LC_ID_PREFIX
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, MessagesState, StateGraph, add_messages

from tests.langchain.answers import ai, chat
from tests.langchain.models import CountingChat, CountingText
from tests.langchain.shapes import ANTHROPIC, BEDROCK, COHERE, GOOGLE, OLLAMA, OPENAI, said
from tiered_cache import ConfigurationError, Price, Saved, TieredCache
from tiered_cache._stats import MODELS_COUNTED, Recorder
from tiered_cache.langchain import LangChainCache

pytestmark = pytest.mark.parametrize("world", ["embedded"], indirect=True)

HIT = {"tiered_cache": {"hit": True}}


async def found(answers: LangChainCache, prompt: str = "q") -> AIMessage:
    generations = await answers.alookup(prompt, "m")
    assert generations is not None
    (generation,) = generations
    assert isinstance(generation, ChatGeneration)
    assert isinstance(generation.message, AIMessage)
    return generation.message


def of_a_run(id_: str | None) -> bool:
    """Whether it is an id such as langchain-core gives the answers of a run."""
    prefix, _, rest = (id_ or "").partition(f"{LC_ID_PREFIX}-")
    run, _, nth = rest.rpartition("-")
    return prefix == "" and nth.isdigit() and str(UUID(run)) == run and UUID(run).variant == RFC_4122


class TestIds:
    async def test_every_hit_has_one_of_its_own_as_a_run_would_have_given(self, answers: LangChainCache) -> None:
        llm = CountingChat(cache=answers)
        ids = [(await llm.ainvoke("q")).id for _ in range(5)] + [llm.invoke("q").id for _ in range(5)]
        assert llm.calls == 1
        assert len(set(ids)) == 10
        assert all(of_a_run(each) for each in ids)

    async def test_several_messages_of_one_answer_have_different_ones(self, answers: LangChainCache) -> None:
        await answers.aupdate("q", "m", [*ai("a", id="x"), *ai("b", id="x")])
        hits = [await answers.alookup("q", "m") for _ in range(2)]
        ids = [cast("ChatGeneration", each).message.id for hit in hits for each in hit or []]
        assert len(set(ids)) == 4
        assert all(UUID((each or "").removeprefix(f"{LC_ID_PREFIX}-")[:36]).version == 4 for each in ids)

    async def test_an_answer_without_one_is_given_none(self, answers: LangChainCache) -> None:
        await answers.aupdate("q", "m", ai("a"))
        assert (await found(answers)).id is None

    @pytest.mark.parametrize("given", ["msg_1", "resp_1", "chatcmpl-1", "lc_run--0197-0", "run--1-0"])
    async def test_an_id_of_the_provider_is_not_repeated_and_not_stored_anew(
        self, cache: TieredCache, answers: LangChainCache, given: str
    ) -> None:
        await answers.aupdate("q", "m", ai("a", id=given))
        assert of_a_run((await found(answers)).id)
        assert (await found(LangChainCache(cache, fresh_ids=False))).id == given

    def test_merged_with_chunks_of_a_provider_the_id_of_the_provider_counts(self, answers: LangChainCache) -> None:
        answers.update("q", "m", [ChatGenerationChunk(message=AIMessageChunk(content="a", id="x"))])
        (hit,) = answers.lookup("q", "m") or []
        assert isinstance(hit, ChatGenerationChunk)
        assert isinstance(hit.message, AIMessageChunk)
        assert (hit.message + AIMessageChunk(content="b", id="chatcmpl-1")).id == "chatcmpl-1"
        assert (hit.message + AIMessageChunk(content="b")).id == hit.message.id


class Chats:
    """A chat in a graph with a memory, as LangGraph's own introduction builds it."""

    def __init__(self, cache: BaseCache) -> None:
        self.llm = CountingChat(cache=cache, answer=lambda _, nth: [chat(said("fine", OPENAI))])
        builder: Any = StateGraph(MessagesState)
        builder.add_node("model", self._model)
        builder.add_edge(START, "model")
        builder.add_edge("model", END)
        self.graph: Any = builder.compile(checkpointer=InMemorySaver())

    async def _model(self, state: MessagesState) -> dict[str, Any]:
        # The last question alone, so that the same one is a hit within a conversation.
        return {"messages": [await self.llm.ainvoke(state["messages"][-1:])]}

    async def turns(self, *questions: str, thread: str = "t") -> list[str]:
        state: dict[str, Any] = {}
        for each in questions:
            state = await self.graph.ainvoke(
                {"messages": [HumanMessage(each)]}, {"configurable": {"thread_id": thread}}
            )
        return [f"{message.type}: {message.text}" for message in state["messages"]]


class TestGraphs:
    async def test_three_turns_keep_all_messages(self, answers: LangChainCache) -> None:
        chats = Chats(answers)
        assert await chats.turns("ok?", "ok?", "ok?") == ["human: ok?", "ai: fine"] * 3
        assert chats.llm.calls == 1

    @pytest.mark.parametrize("naive", ["InMemoryCache", "without fresh ids"])
    async def test_with_ids_that_repeat_two_answers_are_lost(self, cache: TieredCache, naive: str) -> None:
        twin = InMemoryCache() if naive == "InMemoryCache" else LangChainCache(cache, fresh_ids=False)
        kept = await Chats(twin).turns("ok?", "ok?", "ok?")
        assert kept == ["human: ok?", "ai: fine", "human: ok?", "human: ok?"]

    async def test_a_hit_can_be_removed_by_its_id(self, answers: LangChainCache) -> None:
        llm = CountingChat(cache=answers)
        history = [await llm.ainvoke("q") for _ in range(3)]
        left = add_messages(cast("Any", history), cast("Any", [RemoveMessage(id=str(history[1].id))]))
        assert [message.id for message in cast("list[BaseMessage]", left)] == [history[0].id, history[2].id]

    @pytest.mark.parametrize("streams", [False, True])
    async def test_a_hit_is_streamed_once_and_is_the_message_in_the_state(
        self, answers: LangChainCache, streams: bool
    ) -> None:
        chats = Chats(answers)
        await chats.turns("ok?", thread="before")
        config = {"configurable": {"thread_id": "now"}}
        seen: list[BaseMessage] = []
        question = {"messages": [HumanMessage("ok?")]}
        if streams:
            seen += [message async for message, _ in chats.graph.astream(question, config, stream_mode="messages")]
        else:
            sent, receive = anyio.create_memory_object_stream[BaseMessage](10)
            async with sent, receive:
                async for mode, part in chats.graph.astream(question, config, stream_mode=["messages", "values"]):
                    if mode == "messages":
                        sent.send_nowait(part[0])
                sent.close()
                seen += [message async for message in receive]
        (answer,) = [message for message in seen if isinstance(message, AIMessage)]
        state = await chats.graph.aget_state(config)
        assert answer.id == state.values["messages"][-1].id
        assert chats.llm.calls == 1

    async def test_answers_of_branches_that_ask_the_same_are_all_kept(self, answers: LangChainCache) -> None:
        class Fan(TypedDict):
            messages: Annotated[list[Any], add_messages]
            count: Annotated[int, add]

        llm = CountingChat(cache=answers)
        await llm.ainvoke("q")

        def branch(_: Fan) -> dict[str, Any]:
            return {"messages": [llm.invoke("q")], "count": 1}

        builder: Any = StateGraph(Fan)
        for name in "abc":
            builder.add_node(name, branch)
            builder.add_edge(START, name)
            builder.add_edge(name, END)
        state = await builder.compile().ainvoke({"messages": [], "count": 0})
        assert (len(state["messages"]), state["count"], llm.calls) == (3, 3, 1)


class TestMarker:
    async def test_a_hit_says_so_and_a_first_answer_does_not(self, answers: LangChainCache) -> None:
        llm = CountingChat(cache=answers, answer=lambda _, nth: [chat(said("a", OPENAI))])
        assert (await llm.ainvoke("q")).response_metadata == OPENAI
        for _ in range(2):
            assert (await llm.ainvoke("q")).response_metadata == {**OPENAI, **HIT}
            assert llm.invoke("q").response_metadata == {**OPENAI, **HIT}

    async def test_changing_the_marker_of_one_hit_changes_no_other(self, answers: LangChainCache) -> None:
        await answers.aupdate("q", "m", ai("a"))
        (await found(answers)).response_metadata["tiered_cache"]["hit"] = "changed"
        assert (await found(answers)).response_metadata == HIT

    async def test_a_hit_stored_as_an_answer_of_another_model_stays_marked_alike(self, cache: TieredCache) -> None:
        inner = CountingChat(cache=LangChainCache(cache, namespace="inner"))
        outer = CountingChat(
            cache=LangChainCache(cache, namespace="outer"), answer=lambda messages, _: [chat(inner.invoke(messages))]
        )
        inner.invoke("q")
        assert [outer.invoke("q").response_metadata for _ in range(2)] == [HIT, HIT]

    async def test_it_can_be_left_out(self, cache: TieredCache) -> None:
        answers = LangChainCache(cache, mark_hits=False)
        await answers.aupdate("q", "m", ai("a"))
        assert (await found(answers)).response_metadata == {}

    async def test_texts_are_what_they_were(self, answers: LangChainCache) -> None:
        given = [Generation(text="a", generation_info={"finish_reason": "stop"}), Generation(text="b")]
        await answers.aupdate("q", "m", given)
        assert await answers.alookup("q", "m") == given

    def test_marked_chunks_can_be_merged(self, answers: LangChainCache) -> None:
        answers.update(
            "q", "m", [ChatGenerationChunk(message=AIMessageChunk(content="a", response_metadata={"n": "x"}))]
        )
        parts = [cast("ChatGenerationChunk", (answers.lookup("q", "m") or [])[0]) for _ in range(3)]
        merged = parts[0] + parts[1] + parts[2]
        assert merged.message.response_metadata["tiered_cache"] == {"hit": True}
        alone = parts[0].message + cast("Any", AIMessageChunk(content="b"))
        assert alone.response_metadata == {"n": "x", **HIT}


MODELS = {
    "openai": (OPENAI, "gpt-4o-mini-2024-07-18"),
    "anthropic": (ANTHROPIC, "claude-sonnet-4-5-20250929"),
    "google": (GOOGLE, "gemini-2.5-flash"),
    "bedrock": (BEDROCK, "anthropic.claude-3-haiku-20240307-v1:0"),
    "ollama": (OLLAMA, "llama3.2"),
    "without a name": (COHERE, "unknown"),
    "another place": ({"model": "m-2"}, "m-2"),
    "its id": ({"model_id": "m-3"}, "m-3"),
    "no text": ({"model_name": 7, "model": ["x"]}, "unknown"),
    "a long one": ({"model_name": "n" * 5000}, "n" * 200),
}


class TestSaved:
    @pytest.mark.parametrize("kind", MODELS)
    async def test_tokens_are_counted_by_model(self, cache: TieredCache, answers: LangChainCache, kind: str) -> None:
        metadata, name = MODELS[kind]
        llm = CountingChat(cache=answers, answer=lambda _, nth: [chat(said("a", metadata))])
        await llm.ainvoke("q")
        assert cache.stats().saved == {}
        await llm.ainvoke("q")
        llm.invoke("q")
        assert cache.stats().saved == {(("langchain",), name): Saved(2, 22, 14)}

    async def test_cost_is_that_of_the_price_given(self, cache: TieredCache) -> None:
        prices = {"gpt-4o-mini-2024-07-18": Price(0.15, 0.6), "another": Price(9, 9)}
        answers = LangChainCache(cache, prices=prices)
        for name, metadata in (("priced", OPENAI), ("not priced", GOOGLE)):
            await answers.aupdate(name, "m", [chat(said("a", metadata))])
            for _ in range(3):
                await answers.alookup(name, "m")
        saved = cache.stats().saved
        cost = 3 * (11 * 0.15 + 7 * 0.6) / 1e6
        assert saved[("langchain",), "gpt-4o-mini-2024-07-18"].cost == pytest.approx(cost)
        assert saved[("langchain",), "gemini-2.5-flash"].cost is None

    async def test_every_namespace_counts_for_itself(self, cache: TieredCache) -> None:
        for tenant in ("t-1", "t-2"):
            answers = LangChainCache(cache.namespace(tenant), version="7")
            await answers.aupdate("q", "m", [chat(said("a", OPENAI))])
            await answers.alookup("q", "m")
        paths = [path for path, _ in cache.stats().saved]
        assert paths == [("t-1", "langchain", "7"), ("t-2", "langchain", "7")]

    async def test_several_generations_of_one_call_count_its_usage_once(
        self, cache: TieredCache, answers: LangChainCache
    ) -> None:
        await answers.aupdate("q", "m", [chat(said("a", OPENAI)), chat(said("b", OPENAI))])
        await answers.alookup("q", "m")
        assert list(cache.stats().saved.values()) == [Saved(1, 11, 7)]

    @pytest.mark.parametrize("usage", [None, {"total_cost": 0}, {"input_tokens": None, "output_tokens": "7"}])
    async def test_an_answer_that_says_nothing_of_tokens_saved_none(
        self, cache: TieredCache, answers: LangChainCache, usage: Any
    ) -> None:
        message = AIMessage("a").model_copy(update={"usage_metadata": usage})
        await answers.aupdate("q", "m", [chat(message)])
        if await answers.alookup("q", "m"):
            assert list(cache.stats().saved.values()) == [Saved(1)]
        else:  # not to be carried exactly
            assert cache.stats().unsupported == 1

    def test_models_of_texts_are_counted_too(self, cache: TieredCache, answers: LangChainCache) -> None:
        llm = CountingText(cache=answers)
        for _ in range(3):
            llm.invoke("q")
        assert cache.stats().saved == {(("langchain",), "unknown"): Saved(2)}
        answers.update("q", "m", [Generation(text="a", generation_info={"model_name": "m-1"})])
        answers.lookup("q", "m")
        assert cache.stats().saved[("langchain",), "m-1"] == Saved(1)

    def test_names_from_data_do_not_fill_the_memory(self, cache: TieredCache) -> None:
        recorder = Recorder()
        for n in range(MODELS_COUNTED + 50):
            for _ in range(2):
                recorder.saved(("t",), f"m-{n}", 1, 2, 0.5)
        saved = recorder.snapshot().saved
        assert len(saved) == MODELS_COUNTED + 1
        assert saved[("t",), "m-0"] == Saved(2, 2, 4, 1.0)
        assert saved[(), "others"] == Saved(100, 100, 200, 50.0)

    def test_a_snapshot_stays_as_it_is(self, cache: TieredCache) -> None:
        recorder = Recorder()
        recorder.saved((), "m", 1, 1, None)
        before = recorder.snapshot().saved
        recorder.saved((), "m", 1, 1, 2.0)
        assert (before[(), "m"], recorder.snapshot().saved[(), "m"]) == (Saved(1, 1, 1), Saved(2, 2, 2, 2.0))

    @pytest.mark.parametrize(
        "wrong",
        [
            lambda: Price(-1, 0),
            lambda: Price(0, float("nan")),
            lambda: Price(float("inf"), 0),
            lambda: Price(cast("Any", "1"), 0),
            lambda: Price(True, 0),
        ],
    )
    def test_a_wrong_price_is_an_error(self, cache: TieredCache, wrong: Callable[[], object]) -> None:
        with pytest.raises(ConfigurationError, match="price"):
            wrong()

    @pytest.mark.parametrize("wrong", [{"m": 1.0}, {"m": (1, 2)}, {1: Price(1, 1)}])
    def test_prices_are_prices_by_name(self, cache: TieredCache, wrong: Any) -> None:
        with pytest.raises(ConfigurationError, match="Price"):
            LangChainCache(cache, prices=wrong)
