"""A chat model that answers from its cache however it is asked."""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from copy import deepcopy
from typing import Any, cast
from weakref import WeakSet

import anyio
import anyio.lowlevel
import pytest
from langchain_core.caches import BaseCache, InMemoryCache
from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, HumanMessage, message_chunk_to_message
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, Generation
from langchain_core.rate_limiters import BaseRateLimiter
from langchain_core.runnables import ConfigurableField, RunnableLambda
from pydantic import BaseModel

from tests.langchain.models import CountingChat
from tests.langchain.streams import SCRIPTS, Chunks, SerializableStreamingChat, StreamingChat, chunk, text
from tests.worlds import World, embedded
from tiered_cache import TieredCache
from tiered_cache.langchain import LangChainCache, cached_chat_model
from tiered_cache.langchain._streams import Recording

KINDS = [StreamingChat, SerializableStreamingChat]
TOOLS: list[dict[str, Any]] = [{"type": "function", "function": {"name": "weigh", "parameters": {}}}]


@pytest.fixture
def world(sqlite_url: str) -> World:
    """One of them: this is about models."""
    return embedded(sqlite_url)


@pytest.fixture
def answers(cache: TieredCache) -> LangChainCache:
    """Whose hits can be compared with what was stored."""
    return LangChainCache(cache, fresh_ids=False, mark_hits=False)


def whole(chunks: Sequence[Any]) -> AIMessage:
    first, *others = chunks
    return cast("AIMessage", message_chunk_to_message(first + others if others else first))


async def streamed(model: Any, question: Any = "q", **kwargs: Any) -> AIMessage:
    return whole([each async for each in model.astream(question, **kwargs)])


def streamed_here(model: Any, question: Any = "q", **kwargs: Any) -> AIMessage:
    return whole(list(model.stream(question, **kwargs)))


class Watched(BaseCache):
    """Says what it was asked, and gives on a miss an object for as long as which the asker is the one to answer."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.leads_at_updates: list[int] = []
        self.kept: dict[tuple[str, str], list[Generation]] = {}
        self._leads: WeakSet[Lead] = WeakSet()

    def lookup(self, prompt: str, llm_string: str) -> Any:
        self.asked.append("lookup")
        if (prompt, llm_string) in self.kept:
            return deepcopy(self.kept[prompt, llm_string])
        lead = Lead()
        self._leads.add(lead)
        return lead

    async def alookup(self, prompt: str, llm_string: str) -> Any:
        return self.lookup(prompt, llm_string)

    def update(self, prompt: str, llm_string: str, return_val: Sequence[Generation]) -> None:
        self.asked.append("update")
        self.leads_at_updates.append(self.leads())
        self.kept[prompt, llm_string] = list(return_val)

    async def aupdate(self, prompt: str, llm_string: str, return_val: Sequence[Generation]) -> None:
        self.update(prompt, llm_string, return_val)

    def clear(self, **kwargs: Any) -> None:
        self.kept.clear()

    def leads(self) -> int:
        gc.collect()
        return len(self._leads)


class Lead:
    """No list of generations."""


@pytest.mark.parametrize("kind", KINDS)
class TestSharing:
    @pytest.mark.parametrize("script", SCRIPTS)
    async def test_all_ways_of_asking_share_one_answer(
        self, answers: LangChainCache, kind: type[StreamingChat], script: Callable[[int], Chunks]
    ) -> None:
        model = kind(script=script)
        cached = cached_chat_model(model, answers)
        first = await streamed(cached)
        assert await streamed(cached) == streamed_here(cached) == first
        for hit in (cached.invoke("q"), await cached.ainvoke([HumanMessage("q", id="1")]), *cached.batch(["q", "q"])):
            assert hit.content == first.content
            assert hit.tool_calls == first.tool_calls
            assert hit.response_metadata == first.response_metadata
        assert model.calls == 1

    async def test_with_models_that_have_the_cache_in_the_ways_of_langchain_core(
        self, answers: LangChainCache, kind: type[StreamingChat]
    ) -> None:
        usual = kind(cache=answers)
        cached = cached_chat_model(kind(), answers)
        for ask in (cached, cached.bind(stop=["\n"]), cached.bind_tools(TOOLS, tool_choice="weigh")):
            streamed_here(ask, "from a stream")
        for ask in (usual, usual.bind(stop=["\n"]), usual.bind_tools(TOOLS, tool_choice="weigh")):
            await ask.ainvoke("from a stream")
            ask.invoke("from an invoke")
        assert usual.calls == 3
        for ask in (cached, cached.bind(stop=["\n"]), cached.bind_tools(TOOLS, tool_choice="weigh")):
            await streamed(ask, "from an invoke")
        assert cached.calls == 3

    async def test_an_answer_can_be_deleted_through_the_model(
        self, answers: LangChainCache, kind: type[StreamingChat]
    ) -> None:
        cached = cached_chat_model(kind(), answers)
        bound = cached.bind_tools(TOOLS)
        streamed_here(cached)
        await streamed(bound)
        answers.delete_through_llm("q", bound)
        streamed_here(cached)
        assert cached.calls == 2
        streamed_here(bound)
        assert cached.calls == 3


async def test_the_settings_of_a_call_are_part_of_the_question(answers: LangChainCache) -> None:
    cached = cached_chat_model(StreamingChat(), answers)
    for stop in (None, ["\n"], None, ["\n"]):
        await streamed(cached, stop=stop)
        streamed_here(cached.with_config(tags=["t"]), stop=stop)
    assert cached.calls == 2


async def test_a_hit_is_marked_and_has_an_id_of_its_own(cache: TieredCache) -> None:
    cached = cached_chat_model(StreamingChat(), LangChainCache(cache))
    messages = [streamed_here(cached), streamed_here(cached), await streamed(cached)]
    assert len({each.id for each in messages}) == 3
    assert [each.response_metadata.get("tiered_cache") for each in messages] == [None, {"hit": True}, {"hit": True}]
    saved = cache.stats().saved
    assert sum(each.hits for each in saved.values()) == 2, saved


def summed(chunks: Sequence[Any]) -> BaseMessage:
    first, *others = chunks
    return first + others


@pytest.mark.parametrize("kept", [whole, summed])
async def test_a_conversation_replayed_asks_no_model(
    cache: TieredCache, kept: Callable[[Sequence[Any]], BaseMessage]
) -> None:
    model = cached_chat_model(StreamingChat(), LangChainCache(cache))
    for _ in range(2):
        history: list[BaseMessage] = []
        for turn in range(4):
            history.append(HumanMessage(f"question {turn}"))
            history.append(kept(list(model.stream(history))) if turn % 2 else await model.ainvoke(history))
    assert model.calls == 4


async def test_a_hit_is_a_stream_again(answers: LangChainCache) -> None:
    cached = cached_chat_model(StreamingChat(), answers)
    streamed_here(cached)
    for hit in (list(cached.stream("q")), [each async for each in cached.astream("q")]):
        assert len(hit) > 2
        assert all(type(each) is AIMessageChunk for each in hit)
        assert [each.chunk_position for each in hit] == [None] * (len(hit) - 1) + ["last"]
        assert sum(each.usage_metadata is not None for each in hit) == 1


async def test_text_that_another_kind_of_model_stored_is_streamed_as_well(answers: LangChainCache) -> None:
    cached = cached_chat_model(StreamingChat(), InMemoryCache())
    streamed_here(cached)
    kept = cast("dict[Any, Any]", cast("InMemoryCache", cached.cache)._cache)
    kept.update({key: [Generation(text="two apples")] for key in kept})
    assert streamed_here(cached).text == (await streamed(cached)).text == "two apples"
    assert cached.calls == 1


async def test_what_no_model_streams_is_asked_for_anew(answers: LangChainCache) -> None:
    cached = cached_chat_model(StreamingChat(), InMemoryCache())
    streamed_here(cached)
    kept = cast("dict[Any, Any]", cast("InMemoryCache", cached.cache)._cache)
    kept.update({key: [ChatGeneration(message=HumanMessage("?"))] for key in kept})
    assert streamed_here(cached).text.endswith("#2 ")
    assert cached.calls == 2


# --- streams that are passed on ---------------------------------------------------------------------------------------


class BufferingChat(StreamingChat):
    """What not to do: it reads the stream to its end before it passes anything on."""

    def _stream(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> Iterator[ChatGenerationChunk]:
        yield from list(super()._stream(messages, *args, **kwargs))


class StoringWhenClosedChat(StreamingChat):
    """What not to do: it stores what it has when its stream is closed, whatever for."""

    def _stream(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> Iterator[ChatGenerationChunk]:
        recording = Recording()
        try:
            for each in super()._stream(messages, *args, **kwargs):
                recording.add(each)
                yield each
        finally:
            cast("BaseCache", self.cache).update("q", "m", recording.answer(None, None))


def steps_of(cached: Callable[[StreamingChat], StreamingChat]) -> list[str]:
    steps: list[str] = []
    model = StreamingChat(
        script=lambda nth: [chunk("a"), chunk("b", chunk_position="last")], before_each=lambda: steps.append("model")
    )
    steps.extend("reader" for _ in cached(model).stream("q"))
    return steps


def test_a_miss_passes_through_chunk_by_chunk(answers: LangChainCache) -> None:
    steps = ["model", "reader", "model", "reader"]
    assert steps_of(lambda model: cached_chat_model(model, answers)) == steps
    assert steps_of(lambda model: BufferingChat(**vars(model))) != steps


async def test_a_miss_passes_through_chunk_by_chunk_without_threads(answers: LangChainCache) -> None:
    steps: list[str] = []
    model = StreamingChat(
        script=lambda nth: [chunk("a"), chunk("b", chunk_position="last")], before_each=lambda: steps.append("model")
    )
    async for _ in cached_chat_model(model, answers).astream("q"):
        steps.append("reader")  # noqa: PERF401  (one after the other)
    assert steps == ["model", "reader", "model", "reader"]


class TestBrokenStreams:
    @pytest.fixture
    def cached(self) -> StreamingChat:
        return cached_chat_model(StreamingChat(), Watched())

    def kept(self, cached: StreamingChat) -> int:
        gc.collect()  # streams that nobody closed
        return len(cast("Watched", cached.cache).kept)

    async def test_one_in_which_the_model_raises_is_not_stored(self) -> None:
        def breaking(nth: int) -> list[Any]:
            return [chunk("half "), OSError("gone")] if nth < 3 else [chunk("half "), chunk("and half")]

        cached = cached_chat_model(StreamingChat(script=breaking), Watched())
        with pytest.raises(OSError, match="gone"):
            streamed_here(cached)
        with pytest.raises(OSError, match="gone"):
            await streamed(cached)
        assert self.kept(cached) == 0
        assert streamed_here(cached).text == "half and half"
        assert self.kept(cached) == 1

    async def test_one_that_nobody_reads_to_its_end_is_not_stored(self, cached: StreamingChat) -> None:
        for _ in cached.stream("q"):
            break
        stream = cast("Any", cached.stream("q"))
        for _ in range(5):
            next(stream)
        stream.close()
        async with aclosing(cast("Any", cached.astream("q"))) as astream:
            await anext(astream)
        assert (cached.calls, self.kept(cached)) == (3, 0)
        assert cast("Watched", cached.cache).asked.count("update") == 0

    async def test_one_that_is_read_to_all_but_its_end_is_not_stored(self, cached: StreamingChat) -> None:
        for each in cached.stream("q"):
            if each.chunk_position == "last":
                break
        assert self.kept(cached) == 0

    async def test_one_that_is_cancelled_is_not_stored(self, cached: StreamingChat) -> None:
        with anyio.CancelScope() as scope:
            async for _ in cached.astream("q"):
                scope.cancel()
                await anyio.lowlevel.checkpoint()
        assert self.kept(cached) == 0

    def test_an_empty_one_is_the_models_error_and_not_stored(self) -> None:
        cached = cached_chat_model(StreamingChat(script=lambda nth: []), Watched())
        for _ in range(2):
            with pytest.raises(ValueError, match="No generation"):
                list(cached.stream("q"))
        assert (cached.calls, self.kept(cached)) == (2, 0)

    def test_whoever_stores_at_the_close_stores_halves(self) -> None:
        naive = StoringWhenClosedChat(cache=Watched())
        for _ in naive.stream("q"):
            break
        assert self.kept(naive) == 1


# --- how often which cache is asked -----------------------------------------------------------------------------------


class TestWhichCacheIsAsked:
    async def test_once_for_each_call(self) -> None:
        watched = Watched()
        for kind in (StreamingChat(), StreamingChat(streaming=True), CountingChat()):
            cached = cached_chat_model(kind, watched)
            watched.clear()
            once = ["lookup", "update", "lookup"]
            watched.asked.clear()
            cached.invoke("a")
            cached.invoke("a")
            assert watched.asked == once
            list(cached.stream("b"))
            list(cached.stream("b"))
            assert watched.asked == once * 2
            await cached.ainvoke("c")
            await cached.ainvoke("c")
            assert watched.asked == once * 3
            await streamed(cached, "d")
            await streamed(cached, "d")
            assert watched.asked == once * 4

    async def test_no_global_one(self, answers: LangChainCache, monkeypatch: pytest.MonkeyPatch) -> None:
        everywhere = Watched()
        monkeypatch.setattr("langchain_core.globals._llm_cache", everywhere)
        cached = cached_chat_model(StreamingChat(), answers)
        cached.invoke("q")
        await cached.ainvoke("r")
        streamed_here(cached, "s")
        await streamed(cached, "t")
        assert everywhere.asked == []

    async def test_none_once_it_has_none(self, answers: LangChainCache) -> None:
        cached = cached_chat_model(StreamingChat(), answers)
        cached.cache = False
        for _ in range(2):
            cached.invoke("q")
            await cached.ainvoke("q")
            streamed_here(cached)
            await streamed(cached)
        assert cached.calls == 8

    async def test_the_last_that_it_was_given(self, answers: LangChainCache) -> None:
        inner, outer = Watched(), Watched()
        cached = cached_chat_model(cached_chat_model(StreamingChat(), inner), outer)
        for _ in range(2):
            cached.invoke("q")
            streamed_here(cached)
            await streamed(cached)
        assert (inner.asked, len(outer.asked)) == ([], 7)

    async def test_what_says_that_the_asker_is_to_answer_lives_until_the_answer_is_there(self) -> None:
        watched = Watched()
        cached = cached_chat_model(StreamingChat(), watched)
        cached.invoke("a")
        await cached.ainvoke("b")
        streamed_here(cached, "c")
        await streamed(cached, "d")
        assert watched.leads_at_updates == [1] * 4
        assert watched.leads() == 0
        stream = iter(cached.stream("e"))
        next(stream)
        assert watched.leads() == 1
        cast("Any", stream).close()
        del stream
        assert watched.leads() == 0


# --- what the model was before ----------------------------------------------------------------------------------------


class TestItIsTheModel:
    def test_of_its_class_under_its_names(self, answers: LangChainCache) -> None:
        model = StreamingChat(
            profile={"tool_calling": True},
            metadata={"a": 1},
            tags=["t"],
            custom_get_token_ids=lambda said: [len(word) for word in said.split()],
        )
        cached = cached_chat_model(model, answers)
        assert isinstance(cached, StreamingChat)
        assert cached is not model
        assert model.cache is None
        assert cached.cache is answers
        for name in ("get_name", "lc_id", "get_lc_namespace", "_get_ls_params", "_get_invocation_params"):
            assert getattr(cached, name)() == getattr(model, name)(), name
        for name in ("_llm_type", "_identifying_params", "lc_attributes", "lc_secrets", "profile", "settings", "tags"):
            assert getattr(cached, name) == getattr(model, name), name
        assert type(cached).__name__ == "StreamingChat"
        assert cached.get_num_tokens("three little words") == 3

    def test_serialized_as_it_is(self, answers: LangChainCache) -> None:
        model = SerializableStreamingChat(settings="m-2")
        cached = cached_chat_model(model, answers)
        assert cached.to_json() == model.to_json()
        streamed_here(cached)
        assert cached.to_json() == model.to_json()

    def test_one_class_for_all_models_of_a_class(self, answers: LangChainCache) -> None:
        first, second = (cached_chat_model(StreamingChat(settings=name), answers) for name in "ab")
        assert type(first) is type(second)

    @pytest.mark.parametrize("kind", KINDS)
    async def test_a_setting_changed_later_counts(self, answers: LangChainCache, kind: type[StreamingChat]) -> None:
        heard: list[str] = []

        class Settings(kind):
            def _stream(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> Iterator[ChatGenerationChunk]:
                heard.append(self.settings)
                return super()._stream(messages, *args, **kwargs)

        cached = cached_chat_model(Settings(), answers)
        streamed_here(cached)
        cached.settings = "m-2"
        streamed_here(cached)
        cached.invoke("q")
        copy = cached.model_copy(update={"settings": "m-3"})
        await streamed(copy)
        assert heard == ["m-1", "m-2", "m-3"]

    async def test_connections_are_closed_with_the_model_and_not_before(self, answers: LangChainCache) -> None:
        closed: list[str] = []

        class Closing(StreamingChat):
            def _stream(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> Iterator[ChatGenerationChunk]:
                assert not closed
                return super()._stream(messages, *args, **kwargs)

            def __del__(self) -> None:
                closed.append(self.settings)

        cached = cached_chat_model(Closing(), answers)
        for question in "aabb":
            await streamed(cached, question)
            streamed_here(cached, question)
            cached.invoke(question)
            answers.delete_through_llm(question, cached)
        copy = cached.model_copy(update={"settings": "m-2"})
        del cached
        gc.collect()
        streamed_here(copy)
        del copy
        gc.collect()
        assert closed == ["m-1"]

    async def test_deleting_through_a_model_closes_none_of_its_connections(self, answers: LangChainCache) -> None:
        closed: list[str] = []

        class Closing(StreamingChat):
            def __del__(self) -> None:
                closed.append(self.settings)

        model = Closing(cache=answers)
        model.invoke("q")
        answers.delete_through_llm("q", model)
        model.invoke("q")
        gc.collect()
        assert (model.calls, closed) == (2, [])

    def test_classes_of_models_are_collected(self, answers: LangChainCache) -> None:
        classes: WeakSet[type] = WeakSet()

        def use() -> None:
            class Fleeting(StreamingChat):
                pass

            cached = cached_chat_model(Fleeting(), answers)
            streamed_here(cached)
            classes.update((Fleeting, type(cached)))

        use()
        gc.collect()
        assert not list(classes)

    def test_a_model_can_be_copied_deeply_and_be_a_default(self, answers: LangChainCache) -> None:
        class Chain(BaseModel):
            model: BaseChatModel = cached_chat_model(StreamingChat(), answers)

        streamed_here(Chain().model)
        other = deepcopy(Chain().model)
        assert other.cache is answers
        streamed_here(other)
        assert cast("StreamingChat", other).calls == 0

    async def test_what_a_model_keeps_while_it_runs_stays_with_it(self, answers: LangChainCache) -> None:
        class Keeping(StreamingChat):
            turns: int = 0
            _connection: object | None = None

            def _stream(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> Iterator[ChatGenerationChunk]:
                self.turns += 1
                self._connection = self._connection or object()
                return super()._stream(messages, *args, **kwargs)

        cached = cached_chat_model(Keeping(), answers)
        streamed_here(cached, "a")
        connection = cached._connection
        cached.invoke("b")
        await streamed(cached, "c")
        assert cached.turns == 3
        assert connection is not None
        assert cached._connection is connection

    def test_fields_can_be_made_configurable(self, answers: LangChainCache) -> None:
        calls: list[str] = []
        cached = cached_chat_model(StreamingChat(before_each=lambda: calls.append("a chunk")), answers)
        model = cached.configurable_fields(settings=ConfigurableField(id="settings"))
        for name in ("m-1", "m-2", "m-1", "m-2"):
            list(model.stream("q", {"configurable": {"settings": name}}))
        assert len(calls) == 2 * len(text(1))

    async def test_structured_output(self, answers: LangChainCache) -> None:
        def weighed(nth: int) -> Chunks:
            return [
                chunk(tool_call_chunks=[{"name": "Weight", "args": '{"apples"', "id": "1", "index": 0}]),
                chunk(tool_call_chunks=[{"name": None, "args": ": 2}", "id": None, "index": 0}]),
            ]

        schema: dict[str, Any] = {
            "title": "Weight",
            "description": "of apples",
            "type": "object",
            "properties": {"apples": {}},
        }
        cached = cached_chat_model(StreamingChat(script=weighed), answers)
        structured = cached.with_structured_output(schema)
        assert [*structured.stream("q")][-1] == {"apples": 2}
        assert structured.invoke("q") == [each async for each in structured.astream("q")][-1] == {"apples": 2}
        assert cached.calls == 1

    async def test_streaming_that_is_turned_off_stays_off(self, answers: LangChainCache) -> None:
        cached = cached_chat_model(StreamingChat(disable_streaming="tool_calling"), answers)
        bound = cached.bind_tools(TOOLS)
        for _ in range(2):
            assert len([each async for each in bound.astream("q")]) == len(list(bound.stream("q"))) == 1
            assert len(list(cached.stream("q"))) > 2
        assert cached.calls == 2

    async def test_a_model_that_cannot_stream_answers_whole(self, answers: LangChainCache) -> None:
        cached = cached_chat_model(CountingChat(), answers)
        for _ in range(2):
            assert [each.text for each in cached.stream("q")] == ["q #1"]
            assert [each.text async for each in cached.astream("q")] == ["q #1"]

    async def test_a_model_that_streams_in_threads_only(self, answers: LangChainCache) -> None:
        class Blocking(StreamingChat):
            _astream = BaseChatModel._astream

        cached = cached_chat_model(Blocking(), answers)
        assert await streamed(cached) == await streamed(cached)
        assert cached.calls == 1

    async def test_a_model_that_streams_without_threads_only(self, answers: LangChainCache) -> None:
        class Async(CountingChat):
            async def _astream(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> AsyncIterator[Any]:
                self.asked.append(messages)
                for each in text(self.calls):
                    yield each

        cached = cached_chat_model(Async(), answers)
        assert await streamed(cached) == await streamed(cached)
        assert len(list(cached.stream("q"))) == 1, "as the model itself"
        assert cached.calls == 1

    async def test_a_hit_does_not_wait_for_the_rate_limiter(self, answers: LangChainCache) -> None:
        class Limiter(BaseRateLimiter):
            waited = 0

            def acquire(self, *, blocking: bool = True) -> bool:
                self.waited += 1
                return True

            async def aacquire(self, *, blocking: bool = True) -> bool:
                return self.acquire(blocking=blocking)

        limiter = Limiter()
        cached = cached_chat_model(StreamingChat(rate_limiter=limiter), answers)
        for _ in range(2):
            streamed_here(cached, "a")
            await streamed(cached, "b")
            cached.invoke("c")
            await cached.ainvoke("d")
        assert (cached.calls, limiter.waited) == (4, 4)


# --- where it runs ----------------------------------------------------------------------------------------------------


@pytest.mark.every_backend
async def test_streams_on_every_event_loop(answers: LangChainCache) -> None:
    """As far as it goes without langchain-core's callbacks, which need asyncio."""
    cached = cached_chat_model(StreamingChat(), answers)
    first, second = [[each async for each in cached._astream([HumanMessage("q")])] for _ in range(2)]
    assert whole([each.message for each in first]).content == whole([each.message for each in second]).content
    assert cached.calls == 1


async def test_sync_streams_in_a_running_event_loop(answers: LangChainCache) -> None:
    cached = cached_chat_model(StreamingChat(), answers)
    assert streamed_here(cached) == streamed_here(cached)
    assert cached.calls == 1


def test_streams_in_many_threads(cache: TieredCache, answers: LangChainCache) -> None:
    cached = cached_chat_model(StreamingChat(), answers)
    streamed_here(cached)
    with ThreadPoolExecutor(8) as threads:
        done = [threads.submit(streamed_here, cached) for _ in range(40)]
    texts = {each.result().text for each in done}
    assert (len(texts), cached.calls, cache.stats().adapter_errors) == (1, 1, 0)


# --- wrong arguments --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("odd", [None, "gpt", RunnableLambda(str), CountingChat().bind(stop=["."])])
def test_what_is_no_chat_model_is_refused_at_once(answers: LangChainCache, odd: Any) -> None:
    with pytest.raises(ValueError, match=r"chat model is needed.*bind"):
        cached_chat_model(odd, answers)


def test_what_is_no_cache_is_refused_at_once(cache: TieredCache) -> None:
    with pytest.raises(ValueError, match=r"LangChainCache\(\.\.\.\)"):
        cached_chat_model(CountingChat(), cast("Any", cache))
