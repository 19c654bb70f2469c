"""A chat model whose streams are cached as well.

`stream` and `astream` of langchain-core never ask a cache. What every way of asking a chat model ends in are four
methods, private to langchain-core and its models: `_generate_with_cache` for a whole answer, `_stream` for one that
comes in chunks, and their async forms. A class made for each kind of model asks the cache in these four; for the rest
it is that kind of model, so that tools, structured output, profiles and whatever else a provider adds work as before.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any, Final, NamedTuple, TypeVar, cast

from langchain_core.caches import BaseCache
from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.utils.utils import LC_ID_PREFIX

from tiered_cache._errors import ConfigurationError

from ._questions import Question, question_of
from ._streams import Recording, chunks_of
from ._views import copied_as, once_for_each_kind, seen_as, subclass

ModelT = TypeVar("ModelT", bound=BaseChatModel)
_AnyRun = CallbackManagerForLLMRun | AsyncCallbackManagerForLLMRun


def cached_chat_model(model: ModelT, cache: BaseCache) -> ModelT:
    """A copy of `model` that answers from `cache` however it is asked: `invoke`, `batch`, `stream`, in an agent.

    `cache` is a LangChainCache, or any other of langchain-core's kind. All ways of asking share their answers, and with
    models that have the same cache as their `cache` or by `set_llm_cache`. A hit comes as a stream of chunks wherever
    the model would have streamed: their sum is the stored message, and callbacks, `astream_events` and
    `stream_mode="messages"` hear of each. A miss passes through as it comes; the answer is stored once the stream has
    been read to its end. One that breaks or that nobody reads to the end is not stored.

    The copy is an instance of the class of `model`, under the same name and with the same fields. No other cache is
    asked, neither a global one nor one that `model` had, and hits do not wait for the `rate_limiter`.

    Raises ConfigurationError where `model` is no chat model (tools are bound to the result, not before) or `cache` no
    cache.
    """
    if not isinstance(model, BaseChatModel):  # pyright: ignore[reportUnnecessaryIsInstance]  (callers without types)
        raise ConfigurationError(
            f"a chat model is needed, not a {type(model).__name__}: bind tools and settings to what this returns"
        )
    if not isinstance(cache, BaseCache):  # pyright: ignore[reportUnnecessaryIsInstance]  (callers without types)
        raise ConfigurationError(f"LangChainCache(...) is needed as the cache, not {type(cache).__name__}")
    return cast("ModelT", copied_as(_asking(_kind_of(model)), model, cache=cache))


# --- kinds of models --------------------------------------------------------------------------------------------------


# Where a class made here has the one that it was made for.
_KIND: Final = "_tiered_cache_kind"


def _kind_of(model: BaseChatModel) -> type[BaseChatModel]:
    return getattr(type(model), _KIND, type(model))


@once_for_each_kind
def _asking(kind: type[BaseChatModel]) -> type[BaseChatModel]:
    """`kind`, asking its cache."""
    methods: dict[str, Any] = {
        "_generate_with_cache": _generate_with_cache,
        "_agenerate_with_cache": _agenerate_with_cache,
    }
    streams = kind._stream is not BaseChatModel._stream  # as langchain-core finds out
    astreams = kind._astream is not BaseChatModel._astream
    if streams:
        methods["_stream"] = _stream
    if streams or astreams:
        methods["_astream"] = _astream
    made = subclass(kind, methods)
    # langchain-core waits for it before it streams, which is before anybody knows whether the model is needed.
    _hide(made, "rate_limiter", None)
    for events, chunks in (("_stream_chat_model_events", streams), ("_astream_chat_model_events", streams or astreams)):
        if chunks and hasattr(kind, events):  # a way past `_stream`
            setattr(made, events, None)
    setattr(made, _KIND, kind)
    return made


@once_for_each_kind
def _silent(kind: type[BaseChatModel]) -> type[BaseChatModel]:
    """`kind`, asking no cache whatever its `cache` is."""
    made = subclass(kind, {})
    _hide(made, "cache", False)
    return made


def _hide(kind: type[BaseChatModel], field: str, shown: Any) -> None:
    def get(self: BaseChatModel) -> Any:
        return shown

    def put(self: BaseChatModel, value: Any) -> None:
        vars(self)[field] = value

    setattr(kind, field, property(get, put))


# --- one call ---------------------------------------------------------------------------------------------------------


class _Call(NamedTuple):
    cache: BaseCache
    question: Question


def _call(
    model: BaseChatModel, messages: list[BaseMessage], stop: list[str] | None, kwargs: dict[str, Any]
) -> _Call | None:
    """None where somebody has set the `cache` of the cached model to something else."""
    cache = model.cache
    return _Call(cache, question_of(model, messages, stop, kwargs)) if isinstance(cache, BaseCache) else None


def _plain(model: BaseChatModel) -> BaseChatModel:
    return seen_as(_silent(_kind_of(model)), model)


def _said(model: BaseChatModel, found: object) -> ChatGeneration | None:
    """The answer, if there is one and a model could have streamed it."""
    if not isinstance(found, list) or not found:
        return None
    first = cast("Any", found[0])
    answer = first if isinstance(first, ChatGeneration) else model._convert_cached_generations([first])[0]
    return answer if isinstance(answer.message, AIMessage) else None


def _spoken(hit: list[ChatGeneration], run_manager: _AnyRun) -> list[ChatGenerationChunk]:
    """To be shown while the whole is on its way. By their one id LangGraph knows that it has shown the whole then."""
    if not isinstance(hit[0].message, AIMessage):
        return []
    hit[0].message.id = hit[0].message.id or f"{LC_ID_PREFIX}-{run_manager.run_id}"
    return chunks_of(hit[0])


def _hears_events(model: BaseChatModel, kwargs: dict[str, Any], **run: Any) -> bool:
    """Newer releases of langchain-core have handlers for events of a stream, in place of chunks."""
    decide = getattr(model, "_should_use_protocol_streaming", None)
    return decide is not None and decide(**run, **kwargs)


def _generate_with_cache(
    self: BaseChatModel,
    messages: list[BaseMessage],
    stop: list[str] | None = None,
    run_manager: CallbackManagerForLLMRun | None = None,
    **kwargs: Any,
) -> ChatResult:
    plain, call = _plain(self), _call(self, messages, stop, kwargs)
    if call is None:
        return plain._generate_with_cache(messages, stop=stop, run_manager=run_manager, **kwargs)
    found = call.cache.lookup(*call.question)  # kept to the end: others may wait for as long as it exists
    if not isinstance(found, list):
        result = plain._generate_with_cache(messages, stop=stop, run_manager=run_manager, **kwargs)
        call.cache.update(*call.question, result.generations)
        return result
    hit = self._convert_cached_generations(found)
    if run_manager is None:
        pass
    elif _hears_events(self, kwargs, async_api=False, run_manager=run_manager):
        self._replay_v2_events_for_cache_hit(hit, run_manager=run_manager, **kwargs)
    elif self._should_stream(async_api=False, run_manager=run_manager, **kwargs):
        for chunk in _spoken(hit, run_manager):
            run_manager.on_llm_new_token(cast("Any", chunk.message.content), chunk=chunk)
    return ChatResult(generations=hit)


async def _agenerate_with_cache(
    self: BaseChatModel,
    messages: list[BaseMessage],
    stop: list[str] | None = None,
    run_manager: AsyncCallbackManagerForLLMRun | None = None,
    **kwargs: Any,
) -> ChatResult:
    plain, call = _plain(self), _call(self, messages, stop, kwargs)
    if call is None:
        return await plain._agenerate_with_cache(messages, stop=stop, run_manager=run_manager, **kwargs)
    found = await call.cache.alookup(*call.question)  # kept, as above
    if not isinstance(found, list):
        result = await plain._agenerate_with_cache(messages, stop=stop, run_manager=run_manager, **kwargs)
        await call.cache.aupdate(*call.question, result.generations)
        return result
    hit = self._convert_cached_generations(found)
    if run_manager is None:
        pass
    elif _hears_events(self, kwargs, async_api=True, run_manager=run_manager):
        await self._areplay_v2_events_for_cache_hit(hit, run_manager=run_manager, **kwargs)
    elif self._should_stream(async_api=True, run_manager=run_manager, **kwargs):
        for chunk in _spoken(hit, run_manager):
            await run_manager.on_llm_new_token(cast("Any", chunk.message.content), chunk=chunk)
    return ChatResult(generations=hit)


def _stream(
    self: BaseChatModel,
    messages: list[BaseMessage],
    stop: list[str] | None = None,
    run_manager: CallbackManagerForLLMRun | None = None,
    **kwargs: Any,
) -> Iterator[ChatGenerationChunk]:
    plain, call = _plain(self), _call(self, messages, stop, kwargs)
    given = kwargs if run_manager is None else {**kwargs, "run_manager": run_manager}
    found = None if call is None else call.cache.lookup(*call.question)  # kept to the end of the stream
    if answer := _said(self, found):
        yield from chunks_of(answer)
        return
    if plain.rate_limiter is not None:
        plain.rate_limiter.acquire(blocking=True)
    recording = Recording()
    message_id: str | None = None
    for chunk in plain._stream(messages, stop=stop, **given):
        recording.add(chunk)
        yield chunk
        message_id = message_id or chunk.message.id  # langchain-core has given it one by now
    if call is not None and (heard := recording.answer(self.output_version, message_id)):
        call.cache.update(*call.question, heard)


async def _astream(
    self: BaseChatModel,
    messages: list[BaseMessage],
    stop: list[str] | None = None,
    run_manager: AsyncCallbackManagerForLLMRun | None = None,
    **kwargs: Any,
) -> AsyncIterator[ChatGenerationChunk]:
    plain, call = _plain(self), _call(self, messages, stop, kwargs)
    given = kwargs if run_manager is None else {**kwargs, "run_manager": run_manager}
    found = None if call is None else await call.cache.alookup(*call.question)  # kept to the end of the stream
    if answer := _said(self, found):
        for chunk in chunks_of(answer):
            yield chunk
        return
    if plain.rate_limiter is not None:
        await plain.rate_limiter.aacquire(blocking=True)
    recording = Recording()
    message_id: str | None = None
    async for chunk in plain._astream(messages, stop=stop, **given):
        recording.add(chunk)
        yield chunk
        message_id = message_id or chunk.message.id
    if call is not None and (heard := recording.answer(self.output_version, message_id)):
        await call.cache.aupdate(*call.question, heard)
