"""Answers as models give them, each with something in it that a careless cache loses."""

from __future__ import annotations

from typing import Any, cast

from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    BaseMessage,
    ChatMessage,
    ChatMessageChunk,
    FunctionMessage,
    FunctionMessageChunk,
    HumanMessage,
    HumanMessageChunk,
    SystemMessage,
    SystemMessageChunk,
    ToolMessage,
    ToolMessageChunk,
)
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, Generation, GenerationChunk

# User data that looks like langchain-core's own markup: none of it may come out as anything but the dict it is.
LOOKALIKES: dict[str, dict[str, Any]] = {
    "a constructor": {
        "lc": 1,
        "type": "constructor",
        "id": ["langchain", "schema", "messages", "AIMessage"],
        "kwargs": {"content": "made from data"},
    },
    "a secret": {"lc": 1, "type": "secret", "id": ["TIERED_CACHE_TEST_SECRET"]},
    "not implemented": {"lc": 1, "type": "not_implemented", "id": ["a", "b"], "repr": "<b>"},
    "an escape": {"__lc_escaped__": {"lc": 1, "type": "secret", "id": ["TIERED_CACHE_TEST_SECRET"]}},
    "an escape and more": {"__lc_escaped__": {"lc": 1}, "more": 2},
    "an unknown version": {"lc": 2, "type": "constructor"},
}


def full_message() -> AIMessage:
    return AIMessage(
        content=[
            {"type": "text", "text": "zwei Äpfel \u2028 日本 \x00 \U0001f34e"},
            {"type": "thinking", "thinking": "…", "signature": "EqQB"},
            "plain",
            {"type": "tool_use", "id": "call-1", "name": "weigh", "input": {"apples": 2}},
        ],
        tool_calls=[
            {"name": "weigh", "args": {"apples": 2, "unit": None, "nested": [{"deep": [1.5, True]}]}, "id": "call-1"},
            {"name": "weigh", "args": {}, "id": None},
        ],
        invalid_tool_calls=[{"name": "count", "args": "{not json", "id": "call-2", "error": "unexpected token"}],
        usage_metadata=cast(
            "Any",
            {
                "input_tokens": 11,
                "output_tokens": 7,
                "total_tokens": 18,
                "input_token_details": {"cache_read": 5, "of_this_provider_only": 1},
                "output_token_details": {"reasoning": 3},
            },
        ),
        response_metadata={
            "model_name": "m-1",
            "finish_reason": "tool_calls",
            "logprobs": {"content": [{"token": "zw", "logprob": float("-inf"), "bytes": [122, 119]}]},
        },
        additional_kwargs={
            "refusal": None,
            "tool_calls": [{"id": "call-1", "type": "function", "function": {"name": "weigh", "arguments": "{}"}}],
        },
        name="assistant",
        id="lc_run--0197",
    )


def chat(message: BaseMessage, **info: Any) -> ChatGeneration:
    return ChatGeneration(message=message, generation_info=info or None)


def ai(text: str, **kwargs: Any) -> list[ChatGeneration]:
    return [chat(AIMessage(content=text, **kwargs))]


ANSWERS: dict[str, list[Generation]] = {
    "a text": [Generation(text="two")],
    "an empty text": [Generation(text="")],
    "texts with information": [
        Generation(text="two", generation_info={"finish_reason": "stop", "logprobs": None}),
        Generation(text="2", generation_info={}),
    ],
    "numbers that JSON has no words for": [
        Generation(text="", generation_info={"p": float("nan"), "q": float("inf"), "r": [float("-inf"), -0.0, 10**40]})
    ],
    "a chunk of text": [GenerationChunk(text="tw", generation_info={"index": 0})],
    "a message with everything": [chat(full_message(), finish_reason="tool_calls")],
    "an empty message": [*ai("")],
    "several messages": [*ai("two", id="a"), *ai("2", id="b")],
    "mixed kinds": [Generation(text="two"), *ai("two")],
    "a human message": [chat(HumanMessage("hi", name="Ann", id="1"))],
    "a system message": [chat(SystemMessage("be brief"))],
    "a tool message": [
        chat(ToolMessage("3 kg", tool_call_id="call-1", artifact={"raw": [3.0]}, status="error", name="weigh"))
    ],
    "a function message": [chat(FunctionMessage(content="3 kg", name="weigh"))],
    "a message of another role": [chat(ChatMessage(content="hello", role="critic"))],
    "a chunk with tool calls": [
        ChatGenerationChunk(
            message=AIMessageChunk(
                content="tw",
                tool_call_chunks=[{"name": "weigh", "args": '{"apples":', "id": "call-1", "index": 0}],
                usage_metadata={"input_tokens": 1, "output_tokens": 1, "total_tokens": 2},
            ),
            generation_info={"finish_reason": None},
        )
    ],
    "a chunk of blocks": [ChatGenerationChunk(message=AIMessageChunk(content=[{"type": "text", "text": "tw"}]))],
    "the last chunk": [
        ChatGenerationChunk(
            message=AIMessageChunk(
                content="",
                tool_call_chunks=[{"name": "weigh", "args": '{"apples":2}', "id": "call-1", "index": 0}],
                chunk_position="last",
            )
        )
    ],
    "other chunks": [
        ChatGenerationChunk(message=HumanMessageChunk(content="h")),
        ChatGenerationChunk(message=SystemMessageChunk(content="s")),
        ChatGenerationChunk(message=ToolMessageChunk(content="t", tool_call_id="call-1")),
        ChatGenerationChunk(message=FunctionMessageChunk(content="f", name="weigh")),
        ChatGenerationChunk(message=ChatMessageChunk(content="c", role="critic")),
    ],
    "halves of a character": [*ai("x", additional_kwargs={"lone": "\ud83d", "two": "\ud83d\ude00", "nul": "\x00"})],
    "blocks of the standard form": [
        *ai(
            cast("Any", [{"type": "text", "text": "two"}, {"type": "tool_call", "id": "c", "name": "f", "args": {}}]),
            tool_calls=[{"name": "f", "args": {}, "id": "c"}],
            response_metadata={"output_version": "v1"},
        )
    ],
}
