"""Who listens to a cached chat model hears the same from the cache as from the model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, cast

import pytest
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, message_chunk_to_message
from langchain_core.runnables import RunnableLambda
from langchain_core.tracers import _streaming
from langgraph.graph import END, START, MessagesState, StateGraph

from tests.langchain.models import CountingChat
from tests.langchain.streams import SCRIPTS, Chunks, StreamingChat, blocks, text
from tests.worlds import World, embedded
from tiered_cache.langchain import LangChainCache, cached_chat_model
from tiered_cache.langchain._questions import questions_of


@pytest.fixture
def world(sqlite_url: str) -> World:
    """One of them: this is about listeners."""
    return embedded(sqlite_url)


def whole(chunks: list[Any]) -> AIMessage:
    first, *others = chunks
    return cast("AIMessage", message_chunk_to_message(first + others if others else first))


class Ears(BaseCallbackHandler):
    """`run_inline`: in the order in which it happens, where there is an event loop as well."""

    run_inline = True

    def __init__(self) -> None:
        self.heard: list[str] = []
        self.chunks: list[Any] = []
        self.end: Any = None

    def on_chat_model_start(self, serialized: dict[str, Any], messages: list[list[BaseMessage]], **kwargs: Any) -> None:
        self.heard.append(f"start {kwargs['name']} {serialized['id'][-1]} {kwargs['metadata']['ls_provider']}")

    def on_llm_new_token(self, token: Any, *, chunk: Any = None, **kwargs: Any) -> None:
        if self.heard[-1] != "tokens":
            self.heard.append("tokens")
        assert token == chunk.message.content
        self.chunks.append(chunk.message)

    def on_llm_end(self, response: Any, **kwargs: Any) -> None:
        self.heard.append("end")
        self.end = response.generations[0][0].message

    def on_llm_error(self, error: BaseException, **kwargs: Any) -> None:
        self.heard.append(f"error {error!r}")


class StreamingEars(Ears, _streaming._StreamingCallbackHandler[Any]):
    """For whom an `invoke` streams, as it does for `astream_events` and LangGraph."""

    def tap_output_aiter(self, run_id: Any, output: Any) -> Any:
        return output

    def tap_output_iter(self, run_id: Any, output: Any) -> Any:
        return output


async def _stream(model: BaseChatModel, ears: Ears) -> None:
    list(model.stream("q", {"callbacks": [ears]}))


async def _astream(model: BaseChatModel, ears: Ears) -> None:
    assert [each async for each in model.astream("q", {"callbacks": [ears]})]


async def _invoke(model: BaseChatModel, ears: Ears) -> None:
    model.invoke("q", {"callbacks": [ears]})


async def _ainvoke(model: BaseChatModel, ears: Ears) -> None:
    await model.ainvoke("q", {"callbacks": [ears]})


@pytest.mark.parametrize("script", SCRIPTS)
@pytest.mark.parametrize(
    ("ask", "ears"),
    [(_stream, Ears), (_astream, Ears), (_invoke, StreamingEars), (_ainvoke, StreamingEars)],
)
async def test_callbacks_hear_the_tokens_of_a_hit(
    answers: LangChainCache,
    ask: Callable[[BaseChatModel, Ears], Any],
    ears: type[Ears],
    script: Callable[[int], Chunks],
) -> None:
    cached = cached_chat_model(StreamingChat(script=script), answers)
    miss, hit, plain = ears(), ears(), ears()
    await ask(StreamingChat(script=script), plain)
    await ask(cached, miss)
    await ask(cached, hit)
    assert cached.calls == 1
    assert plain.heard == miss.heard == hit.heard == ["start None StreamingChat streaming", "tokens", "end"]
    assert whole(hit.chunks).content == whole(miss.chunks).content
    assert whole(hit.chunks).tool_calls == whole(miss.chunks).tool_calls
    assert {each.id for each in hit.chunks} == {hit.end.id}
    assert whole(hit.chunks).content == hit.end.content


async def test_an_invoke_that_nobody_listens_to_is_answered_whole(answers: LangChainCache) -> None:
    cached = cached_chat_model(StreamingChat(), answers)
    for _ in range(2):
        ears = Ears()
        await _ainvoke(cached, ears)
        await _invoke(cached, ears)
        assert ears.chunks == []


async def test_the_events_of_a_hit_are_those_of_a_model(answers: LangChainCache) -> None:
    cached = cached_chat_model(StreamingChat(script=blocks), answers)

    async def ask(question: str) -> str:
        return (await cached.ainvoke(question)).text

    for runnable in (cached, RunnableLambda(ask)):
        first, second = [[each async for each in runnable.astream_events("q", version="v2")] for _ in range(2)]
        assert [each["event"] for each in first if each["event"] != "on_chat_model_stream"] == [
            each["event"] for each in second if each["event"] != "on_chat_model_stream"
        ]
        assert {each["name"] for each in second} == {each["name"] for each in first}
        said = [each["data"].get("chunk") for each in second if each["event"] == "on_chat_model_stream"]
        assert len(said) > 2
        assert whole(said).tool_calls[0]["args"] == {"apples": 2}
    assert cached.calls == 1


@pytest.mark.filterwarnings("ignore:astream_log is deprecated")
async def test_the_log_of_a_hit_is_that_of_a_model(answers: LangChainCache) -> None:
    cached = cached_chat_model(StreamingChat(), answers)
    outputs: list[Any] = []
    for _ in range(2):
        state: Any = None
        async for patch in cached.astream_log("q"):
            state = patch if state is None else state + patch
        assert len(state.state["streamed_output"]) > 2
        outputs.append(state.state["final_output"])
    assert outputs[0].content == outputs[1].content
    assert cached.calls == 1


def graph_of(model: BaseChatModel, way: Literal["invoke", "stream"]) -> Any:
    def answer(state: MessagesState) -> Any:
        return {"messages": [model.invoke(state["messages"]) if way == "invoke" else whole([*model.stream("q")])]}

    async def aanswer(state: MessagesState) -> Any:
        if way == "invoke":
            return {"messages": [await model.ainvoke(state["messages"])]}
        return {"messages": [whole([each async for each in model.astream("q")])]}

    builder: Any = StateGraph(MessagesState)
    builder.add_node("answer", RunnableLambda(answer, aanswer))
    builder.add_edge(START, "answer")
    builder.add_edge("answer", END)
    return builder.compile()


@pytest.mark.parametrize("way", ["invoke", "stream"])
class TestGraphs:
    async def test_show_the_tokens_of_a_hit_and_nothing_twice(
        self, answers: LangChainCache, way: Literal["invoke", "stream"]
    ) -> None:
        cached = cached_chat_model(StreamingChat(), answers)
        graph = graph_of(cached, way)
        question = {"messages": [("user", "q")]}
        shown = [
            [each for each, _ in graph.stream(question, stream_mode="messages")],
            [each async for each, _ in graph.astream(question, stream_mode="messages")],
            [each for each, _ in graph.stream(question, stream_mode="messages")],
        ]
        assert cached.calls == 1
        for messages in shown:
            assert len(messages) > 2
            assert {each.type for each in messages} == {"AIMessageChunk"}
            assert whole(messages).content == whole(shown[0]).content
            assert sum(each.usage_metadata is not None for each in messages) == 1

    async def test_a_message_without_an_id_is_shown_once_too(
        self, answers: LangChainCache, way: Literal["invoke", "stream"]
    ) -> None:
        cached = cached_chat_model(StreamingChat(), answers)
        answers.clear()
        for question in ("q", [("user", "q")]):
            list(cached.stream(question))
        _forget_ids(answers, cached)
        shown = [
            each for each, _ in graph_of(cached, way).stream({"messages": [("user", "q")]}, stream_mode="messages")
        ]
        assert {each.type for each in shown} == {"AIMessageChunk"}


def _forget_ids(answers: LangChainCache, cached: StreamingChat) -> None:
    for question in questions_of(cached, "q", None):
        found = answers.lookup(*question)
        assert found
        cast("Any", found[0]).message.id = None
        answers.update(*question, found)


if hasattr(_streaming, "_V2StreamingCallbackHandler"):

    class EventEars(Ears, _streaming._V2StreamingCallbackHandler):
        def on_stream_event(self, event: Any, **kwargs: Any) -> None:
            self.heard.append(event["event"])

    @pytest.mark.filterwarnings("ignore:The method .* is in beta")
    class TestEventsInPlaceOfChunks:
        """Newer releases of langchain-core only."""

        @pytest.mark.parametrize("ask", [_invoke, _ainvoke])
        async def test_handlers_hear_them_from_a_hit(
            self, answers: LangChainCache, ask: Callable[[BaseChatModel, Ears], Any]
        ) -> None:
            cached = cached_chat_model(StreamingChat(), answers)
            miss, hit = EventEars(), EventEars()
            await ask(cached, miss)
            await ask(cached, hit)
            assert cached.calls == 1
            assert (hit.chunks, set(hit.heard)) == ([], set(miss.heard))

        async def test_streams_of_events_are_cached(self, answers: LangChainCache) -> None:
            cached = cached_chat_model(StreamingChat(), answers)
            texts: list[str] = []
            for _ in range(2):
                stream = cast("Any", cached).stream_events("q", version="v3")
                texts.append("".join(stream.text))
                astream = await cast("Any", cached).astream_events("q", version="v3")
                texts.append("".join([each async for each in astream.text]))
            assert len(set(texts)) == cached.calls == 1

        async def test_a_models_own_events_are_no_way_past_the_cache(self, answers: LangChainCache) -> None:
            class Native(StreamingChat):
                def _stream_chat_model_events(self, *args: Any, **kwargs: Any) -> Any:
                    raise AssertionError("past the cache")

            cached = cached_chat_model(Native(), answers)
            for _ in range(2):
                assert "".join(cast("Any", cached).stream_events("q", version="v3").text)
            assert cached.calls == 1


def test_a_model_that_cannot_stream_is_heard_whole(answers: LangChainCache) -> None:
    cached = cached_chat_model(CountingChat(), answers)
    for _ in range(2):
        ears = StreamingEars()
        cached.invoke("q", {"callbacks": [ears]})
        assert ears.heard == ["start None CountingChat counting", "end"]


def test_a_stream_that_breaks_is_heard_to_break(answers: LangChainCache) -> None:
    cached = cached_chat_model(
        StreamingChat(script=lambda nth: [*text(nth)[:2], cast("Any", OSError("gone"))]), answers
    )
    ears = Ears()
    with pytest.raises(OSError, match="gone"):
        list(cached.stream("q", {"callbacks": [ears]}))
    assert ears.heard[1:] == ["tokens", "error OSError('gone')"]
