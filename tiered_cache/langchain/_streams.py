"""Between a whole answer and a stream of chunks, in both directions."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from copy import deepcopy
from typing import Any, Final, cast

from langchain_core.callbacks import CallbackManagerForLLMRun
from langchain_core.language_models.chat_models import BaseChatModel, generate_from_stream
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, message_chunk_to_message
from langchain_core.messages.tool import tool_call_chunk
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult

# Characters in a chunk: about a line of a chat window, or more where that would make too many chunks.
_LINE: Final = 32
_CHUNKS: Final = 64

# What says how the content of a chunk is to be read, so each has it. Equal values stay what they are in a sum.
_ON_EACH: Final = ("model_provider", "output_version")

# Kinds of blocks that are read while they come, and where their text is.
_TEXT_OF: Final = {"text": "text", "reasoning": "reasoning", "thinking": "thinking"}


def chunks_of(generation: ChatGeneration) -> list[ChatGenerationChunk]:
    """`generation`, whose message is an AIMessage, as a model would have streamed it.

    The sum of the chunks is the message. One that langchain-core's sum does not give back (it drops names, and merges
    blocks that happen to have the same index) is one chunk. Blocks of the standard form (`output_version` v1) are
    numbered, as langchain-core numbers those of every stream.
    """
    message = _as_streamed(cast("AIMessage", generation.message))
    parts = _parts(message)
    if not _give_back(parts, message):
        parts = [_whole(message)]
    chunks = [ChatGenerationChunk(message=part) for part in parts]
    chunks[-1].generation_info = generation.generation_info
    return chunks


def _parts(message: AIMessage) -> list[AIMessageChunk]:
    """Its content in several, and then one with all the rest."""
    metadata = message.response_metadata
    on_each = {name: metadata[name] for name in _ON_EACH if name in metadata}
    # The first has what comes before them as well: their sum keeps the order.
    names = list(metadata)
    first = {name: metadata[name] for name in names[: max((names.index(name) + 1 for name in on_each), default=0)]}
    parts = [
        AIMessageChunk(content=content, id=message.id, response_metadata=on_each if nth else first)
        for nth, content in enumerate(_contents(message.content))
    ]
    said = first.keys() - on_each.keys() if parts else ()
    calls = [
        tool_call_chunk(name=call["name"], args=json.dumps(call["args"]), id=call["id"], index=index)
        for index, call in enumerate(message.tool_calls)
    ]
    last = AIMessageChunk(
        content=cast("Any", type(message.content)()),
        tool_call_chunks=calls,
        additional_kwargs=message.additional_kwargs,
        response_metadata={name: value for name, value in metadata.items() if name not in said},
        usage_metadata=message.usage_metadata,
        id=message.id,
        chunk_position="last",
    )
    return [*parts, last]


def _whole(message: AIMessage) -> AIMessageChunk:
    fields = {name: value for name, value in vars(message).items() if name != "type"}
    return AIMessageChunk(**fields, chunk_position="last")


def _give_back(parts: list[AIMessageChunk], message: AIMessage) -> bool:
    # Its types and the order in its dicts as well: from them a cache makes the next turn's question.
    try:
        return repr(message_chunk_to_message(parts[0] + parts[1:])) == repr(message)
    except (TypeError, ValueError):  # of values that it cannot add
        return False


def _contents(content: str | list[Any]) -> Iterator[Any]:
    if isinstance(content, str):
        yield from _lines(content)
        return
    for block in content:
        fields = cast("dict[str, Any]", block) if isinstance(block, dict) and "index" in block else {}
        name = _TEXT_OF.get(fields.get("type", ""), "")
        text = fields.get(name)
        if not isinstance(text, str) or not text:
            yield [block]
            continue
        first, *more = _lines(text)
        yield [{**fields, name: first}]
        for line in more:
            yield [{"type": fields["type"], name: line, "index": fields["index"]}]


def _lines(text: str) -> list[str]:
    """`text` in pieces, most of which end where a word does."""
    size = max(_LINE, len(text) // _CHUNKS)
    return re.findall(rf"(?s).{{1,{size}}}(?:\s+|\Z)|.{{1,{size}}}", text)


def _as_streamed(message: AIMessage) -> AIMessage:
    changes: dict[str, Any] = {}
    if "input_tokens" not in (message.usage_metadata or ()):  # the cost of 0 in an `invoke`'s hit, and nothing else
        changes["usage_metadata"] = None
    if message.response_metadata.get("output_version") == "v1" and isinstance(message.content, list):
        changes["content"] = [
            {**block, "index": index} if isinstance(block, dict) and "index" not in block else block
            for index, block in enumerate(message.content)
        ]
    return message.model_copy(update=changes)


class Recording:
    """The chunks of one stream, as the model gave them: langchain-core and whoever reads on may change theirs."""

    def __init__(self) -> None:
        self._chunks: list[ChatGenerationChunk] | None = []

    def add(self, chunk: ChatGenerationChunk) -> None:
        """To be called before anybody else has seen `chunk`."""
        if self._chunks is None:
            return
        try:
            self._chunks.append(deepcopy(chunk))
        except Exception:  # noqa: BLE001  (a provider's object that cannot be copied: the stream goes on, unrecorded)
            self._chunks = None

    def answer(self, output_version: str | None, message_id: str | None) -> list[ChatGeneration]:
        """What an `invoke` would have stored; nothing for a stream of nothing.

        `message_id` is for a message to which its model gave none.
        """
        if not self._chunks:
            return []
        replayed = _Tape(chunks=self._chunks, cache=False, output_version=output_version)
        result = replayed._generate_with_cache([], stream=True)  # noqa: SLF001  (all that it does with a stream)
        for generation in result.generations:
            generation.message.id = generation.message.id or message_id
        return result.generations


class _Tape(BaseChatModel):
    """Streams what was recorded."""

    chunks: Any

    @property
    def _llm_type(self) -> str:
        return "recording"

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
        yield from self.chunks
