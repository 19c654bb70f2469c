"""A whole answer in chunks, and chunks as a whole answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from langchain_core.caches import InMemoryCache
from langchain_core.messages import AIMessage, AIMessageChunk, message_chunk_to_message
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk
from langchain_core.outputs.chat_generation import merge_chat_generation_chunks

from tests.langchain.answers import ANSWERS, full_message
from tests.langchain.streams import SCRIPTS, Chunks, StreamingChat, chunk, text
from tiered_cache.langchain._streams import Recording, chunks_of


def total(chunks: list[ChatGenerationChunk]) -> AIMessage:
    merged = merge_chat_generation_chunks(chunks)
    assert merged is not None
    return cast("AIMessage", message_chunk_to_message(merged.message))


def split(message: AIMessage, **info: Any) -> list[ChatGenerationChunk]:
    return chunks_of(ChatGeneration(message=message, generation_info=info or None))


_names = st.text(st.characters(codec="utf-8"), max_size=8)
_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | _names,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_names, inner, max_size=3),
    max_leaves=6,
)
_dicts = st.dictionaries(_names, _json, max_size=3)
_ids = st.none() | st.sampled_from(["lc_run--1", "msg_1", "chatcmpl-1", ""])
_indexes = st.integers(0, 3) | st.sampled_from(["lc_txt_0", "lc_rs_1", "other"])
_texts = st.text(st.characters(codec="utf-8"), max_size=300)
_dict_of = cast("Any", st).fixed_dictionaries  # of values of several types
_kinds: Any = {"type": st.sampled_from(["text", "reasoning", "thinking", "tool_use", "image"])}
_blocks: Any = st.one_of(
    _texts,
    _dict_of(
        _kinds,
        optional={
            "text": _texts,
            "reasoning": _texts,
            "thinking": _texts,
            "index": _indexes,
            "id": _ids,
            "extra": _json,
        },
    ),
)
_counts = st.integers(0, 10**6)
_usage: Any = _dict_of(
    {"input_tokens": _counts, "output_tokens": _counts, "total_tokens": _counts},
    optional={
        "input_token_details": _dict_of({}, optional={"cache_read": _counts}),
        "total_cost": st.just(0) | st.floats(0, 1),
    },
)
_calls = _dict_of({"name": _names, "args": _dicts, "id": _ids})
_invalid = _dict_of({"name": _names, "args": _texts, "id": _ids, "error": st.none() | _names})


@st.composite
def messages(draw: st.DrawFn) -> AIMessage:
    metadata = draw(_dicts)
    metadata |= draw(st.sampled_from([{}, {"model_provider": "anthropic"}, {"finish_reason": "stop"}]))
    return AIMessage(
        content=cast("Any", draw(_texts | st.lists(_blocks, max_size=4))),
        additional_kwargs=draw(_dicts),
        response_metadata=metadata,
        tool_calls=cast("Any", draw(st.lists(_calls, max_size=3))),
        invalid_tool_calls=cast("Any", draw(st.lists(_invalid, max_size=1))),
        usage_metadata=draw(st.none() | _usage),
        name=draw(st.none() | st.just("assistant")),
        id=draw(_ids),
    )


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(messages())
def test_the_sum_of_the_chunks_is_the_message(message: AIMessage) -> None:
    before = repr(message)
    chunks = split(message, finish_reason="stop")
    assert repr(total(chunks)) == before, "types and order included, which == does not tell apart"
    assert repr(message) == before
    assert sum(each.message.usage_metadata is not None for each in _messages(chunks)) == (
        message.usage_metadata is not None
    )
    assert [each.message.chunk_position for each in _messages(chunks)] == [None] * (len(chunks) - 1) + ["last"]
    assert [each.generation_info for each in chunks] == [None] * (len(chunks) - 1) + [{"finish_reason": "stop"}]


def _messages(chunks: list[ChatGenerationChunk]) -> list[Any]:
    return list(chunks)


@pytest.mark.parametrize("name", [name for name, answer in ANSWERS.items() if type(answer[0]) is ChatGeneration])
def test_answers_with_something_careless_splitting_loses(name: str) -> None:
    for each in ANSWERS[name]:
        generation = cast("ChatGeneration", each)
        if isinstance(generation.message, AIMessage) and "output_version" not in generation.message.response_metadata:
            assert total(chunks_of(generation)) == generation.message


class TestHowItIsSplit:
    def test_a_text_into_lines_that_end_where_words_do(self) -> None:
        said = "Apples keep for weeks when they are cool, and for months in a cellar."
        lines = [each.text for each in split(AIMessage(said))]
        assert lines == ["Apples keep for weeks when they ", "are cool, and for months in a ", "cellar.", ""]

    def test_a_text_without_spaces_as_well(self) -> None:
        assert [each.text for each in split(AIMessage("苹" * 70))] == ["苹" * 32, "苹" * 32, "苹" * 6, ""]

    def test_a_long_text_into_a_bounded_number(self) -> None:
        assert 60 < len(split(AIMessage("many words " * 10_000))) < 70

    def test_an_empty_one_into_nothing_but_the_end(self) -> None:
        (only,) = split(AIMessage("", response_metadata={"finish_reason": "stop"}))
        assert only.message == AIMessageChunk(
            content="", response_metadata={"finish_reason": "stop"}, chunk_position="last"
        )

    def test_blocks_one_by_one_and_the_text_in_those_with_an_index(self) -> None:
        said = "Apples keep for weeks when they are cool."
        message = AIMessage(
            [{"type": "image", "url": "u"}, "plain", {"type": "text", "text": said, "index": 2, "id": "t"}]
        )
        assert [each.message.content for each in split(message)] == [
            [{"type": "image", "url": "u"}],
            ["plain"],
            [{"type": "text", "text": "Apples keep for weeks when they ", "index": 2, "id": "t"}],
            [{"type": "text", "text": "are cool.", "index": 2}],
            [],
        ]

    def test_tool_calls_are_told_apart_by_their_place(self) -> None:
        message = AIMessage(
            "", tool_calls=[{"name": "weigh", "args": {"a": 1}, "id": "1"}, {"name": "weigh", "args": {}, "id": "2"}]
        )
        (only,) = split(message)
        calls = cast("AIMessageChunk", only.message).tool_call_chunks
        assert [(call["index"], call["name"], call["args"], call["id"]) for call in calls] == [
            (0, "weigh", '{"a": 1}', "1"),
            (1, "weigh", "{}", "2"),
        ]

    def test_what_a_sum_would_lose_is_one_chunk(self) -> None:
        message = full_message()  # it has a name, and arguments that are no JSON
        (only,) = split(message)
        assert message_chunk_to_message(only.message) == message

    def test_each_says_how_its_content_is_to_be_read(self) -> None:
        metadata = {"model_name": "m-1", "model_provider": "anthropic", "output_version": "v1", "stop": "end"}
        blocks: list[Any] = [{"type": "text", "text": text, "index": nth} for nth, text in enumerate("ab")]
        message = AIMessage(blocks, response_metadata=metadata)
        first, second, last = (each.message.response_metadata for each in split(message))
        assert first == {"model_name": "m-1", "model_provider": "anthropic", "output_version": "v1"}
        assert second == {"model_provider": "anthropic", "output_version": "v1"}
        assert last == {**second, "stop": "end"}
        assert list(total(split(message)).response_metadata) == list(metadata)

    def test_blocks_of_the_standard_form_are_numbered_as_in_every_stream(self) -> None:
        call: dict[str, Any] = {"type": "tool_call", "name": "f", "args": {}, "id": "1"}
        content: list[Any] = [call, {**call, "id": "2"}]
        message = AIMessage(content, response_metadata={"output_version": "v1"})
        numbered = [{**block, "index": index} for index, block in enumerate(content)]
        assert total(split(message)).content == numbered
        assert message.content == content

    def test_a_cost_without_a_usage_is_left_out(self) -> None:
        message = AIMessage("a").model_copy(update={"usage_metadata": {"total_cost": 0}})
        assert total(split(message)) == AIMessage("a")


def stored_by_an_invoke(script: Callable[[int], Chunks], output_version: str | None) -> list[ChatGeneration]:
    cache = InMemoryCache()
    StreamingChat(script=script, streaming=True, output_version=output_version, cache=cache).invoke("q")
    (stored,) = cast("dict[Any, Any]", cache._cache).values()
    return stored


@pytest.mark.parametrize("output_version", [None, "v1"])
@pytest.mark.parametrize("script", SCRIPTS)
class TestRecording:
    def test_it_is_what_an_invoke_would_have_stored(
        self, script: Callable[[int], Chunks], output_version: str | None
    ) -> None:
        recording = Recording()
        for each in script(1):
            recording.add(each)
        (expected,) = stored_by_an_invoke(script, output_version)
        (found,) = recording.answer(output_version, expected.message.id)
        assert found == expected
        assert type(found.message) is AIMessage

    def test_what_others_do_to_the_chunks_is_not_in_it(
        self, script: Callable[[int], Chunks], output_version: str | None
    ) -> None:
        spoiled, kept = Recording(), Recording()
        for each, same in zip(script(1), script(1), strict=True):
            kept.add(each)
            spoiled.add(same)
            message = cast("AIMessageChunk", same.message)
            for block in message.content if isinstance(message.content, list) else []:
                cast("dict[str, Any]", block).clear()
            message.content = "spoiled"
            message.response_metadata["spoiled"] = True
            message.tool_call_chunks.clear()
        assert spoiled.answer(output_version, "id") == kept.answer(output_version, "id")


class _Uncopyable:
    def __deepcopy__(self, memo: object) -> None:
        raise RuntimeError("not this one")


def test_a_stream_that_cannot_be_copied_is_no_answer() -> None:
    recording = Recording()
    first, second, *others = text(1)
    second.message.additional_kwargs["raw"] = _Uncopyable()
    for each in (first, second, *others):
        recording.add(each)
    assert recording.answer(None, None) == []


def test_a_stream_of_nothing_is_no_answer() -> None:
    assert Recording().answer(None, "id") == []


def test_an_id_is_given_where_the_model_gave_none() -> None:
    named, nameless = Recording(), Recording()
    named.add(chunk("a", id="msg_1"))
    nameless.add(chunk("a"))
    assert [each.answer(None, "lc_run--1")[0].message.id for each in (named, nameless)] == ["msg_1", "lc_run--1"]
