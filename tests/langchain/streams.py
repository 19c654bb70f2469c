"""Streams as models give them, and a model that gives them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models.chat_models import generate_from_stream
from langchain_core.messages import AIMessageChunk, BaseMessage
from langchain_core.messages.tool import tool_call_chunk
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from pydantic import Field

from tests.langchain.models import CountingChat

Chunks = list[ChatGenerationChunk]


def chunk(content: Any = "", *, info: dict[str, Any] | None = None, **fields: Any) -> ChatGenerationChunk:
    return ChatGenerationChunk(message=AIMessageChunk(content=content, **fields), generation_info=info)


def _usage(read: int, written: int) -> dict[str, Any]:
    return {
        "input_tokens": read,
        "output_tokens": written,
        "total_tokens": read + written,
        "input_token_details": {"cache_read": read // 2},
    }


def _call(index: int, args: str, name: str | None = None, id: str | None = None) -> dict[str, Any]:  # noqa: A002
    return {**tool_call_chunk(name=name, args=args, id=id, index=index)}


def text(nth: int) -> Chunks:
    """As OpenAI's: the reason in one chunk, the usage in the last."""
    words = f"In short: apples keep for weeks when they are cool, and for months in a cellar. #{nth}".split(" ")
    return [
        *(chunk(word + " ", id="chatcmpl-1") for word in words),
        chunk(id="chatcmpl-1", info={"finish_reason": "stop", "model_name": "m-1"}),
        chunk(id="chatcmpl-1", usage_metadata=_usage(11, 40), chunk_position="last"),
    ]


def nothing(nth: int) -> Chunks:
    return [chunk(info={"finish_reason": "stop"})]


def two_tools(nth: int) -> Chunks:
    return [
        chunk(tool_call_chunks=[_call(0, "", "weigh", f"call-{nth}a")]),
        chunk(tool_call_chunks=[_call(0, '{"app')]),
        chunk(tool_call_chunks=[_call(0, 'les": 2, "unit": null}')]),
        chunk(tool_call_chunks=[_call(1, '{"pears": [1.5]}', "weigh", f"call-{nth}b")]),
        chunk(info={"finish_reason": "tool_calls"}, usage_metadata=_usage(20, 9)),
    ]


def reasoning_aside(nth: int) -> Chunks:
    """As DeepSeek's."""
    return [
        chunk(additional_kwargs={"reasoning_content": "They weigh "}),
        chunk(additional_kwargs={"reasoning_content": "something."}),
        chunk("Two "),
        chunk(f"apples. #{nth}", response_metadata={"finish_reason": "stop", "model_provider": "deepseek"}),
    ]


def blocks(nth: int) -> Chunks:
    """As Anthropic's: thinking with its signature, text, a tool."""
    said = [
        [{"type": "thinking", "thinking": "They ask for the weight of ", "index": 0}],
        [{"type": "thinking", "thinking": "apples, so a scale is needed.", "index": 0}],
        [{"type": "thinking", "signature": "EqQB", "index": 0}],
        [{"type": "text", "text": "I shall weigh them, ", "index": 1}],
        [{"type": "text", "text": f"one after the other, and tell you. #{nth}", "index": 1}],
    ]
    tool: dict[str, Any] = {"type": "tool_use", "id": f"toolu_{nth}", "name": "weigh", "input": {}, "index": 2}
    return [
        chunk([], usage_metadata=_usage(30, 0), response_metadata={"model_name": "m-1", "model_provider": "anthropic"}),
        *(chunk(content, response_metadata={"model_provider": "anthropic"}) for content in said),
        chunk([tool], tool_call_chunks=[_call(2, "", "weigh", f"toolu_{nth}")]),
        chunk(
            [{"type": "input_json_delta", "partial_json": '{"apples": 2}', "index": 2}],
            tool_call_chunks=[_call(2, '{"apples": 2}')],
        ),
        chunk(
            [],
            usage_metadata={"input_tokens": 0, "output_tokens": 25, "total_tokens": 25},
            response_metadata={"stop_reason": "tool_use"},
            chunk_position="last",
        ),
    ]


SCRIPTS: list[Callable[[int], Chunks]] = [text, nothing, two_tools, reasoning_aside, blocks]


class StreamingChat(CountingChat):
    """Streams what `script` makes of the number of the call; an Exception in it is raised there."""

    script: Callable[[int], list[Any]] = Field(default=text, exclude=True)
    streaming: bool = False
    before_each: Callable[[], None] = Field(default=lambda: None, exclude=True)

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        return generate_from_stream(self._stream(messages))

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        self.asked.append(messages)
        for each in self.script(self.calls):
            self.before_each()
            if isinstance(each, Exception):
                raise each
            yield each

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        for each in self._stream(messages, stop):
            yield each


class SerializableStreamingChat(StreamingChat):
    """The settings become text in another way, as those of partners' models do."""

    @classmethod
    def is_lc_serializable(cls) -> bool:
        return True
