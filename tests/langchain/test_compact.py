"""The compact form: written wherever it proves itself, readable for ever, and unable to make anything but an answer."""

from __future__ import annotations

import json
from functools import cache
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, HumanMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, Generation, GenerationChunk
from pydantic import ConfigDict, TypeAdapter, model_validator

from tests.langchain.answers import ANSWERS, ai
from tiered_cache import UnsupportedValueError, _compact
from tiered_cache._compact import GENERATIONS, MESSAGES
from tiered_cache.langchain._serde import GenerationsCodec, _same

CODEC = GenerationsCodec()

USAGE: Any = {
    "input_tokens": 11,
    "output_tokens": 7,
    "total_tokens": 18,
    "input_token_details": {"cache_read": 5},
    "total_cost": 0,
}

# As the first release with this form wrote them. Never change one: add.
GOLDEN: dict[bytes, list[Generation]] = {
    b'\x02[["Generation",{"text":"zwei \xc3\x84pfel","generation_info":{"p":NaN,"q":-Infinity,"n":1'
    + b"0" * 40
    + b'}}],["GenerationChunk",{"text":""}]]': [
        Generation(text="zwei Äpfel", generation_info={"p": float("nan"), "q": float("-inf"), "n": 10**40}),
        GenerationChunk(text=""),
    ],
    b'\x02[["ChatGeneration",{"generation_info":{"finish_reason":"stop"},"message":["AIMessage",{"content":"two",'
    b'"additional_kwargs":{"k":{"lc":1}},"response_metadata":{"model_name":"m-1"},"id":"run-1","tool_calls":'
    b'[{"name":"f","args":{"a":[1,2.5,null,true]},"id":"c","type":"tool_call"},{"name":"g","args":{},"id":null,'
    b'"type":"tool_call"}],"invalid_tool_calls":[],"usage_metadata":{"input_tokens":11,"output_tokens":7,'
    b'"total_tokens":18,"input_token_details":{"cache_read":5},"total_cost":0}}]}]]': [
        ChatGeneration(
            message=AIMessage(
                content="two",
                additional_kwargs={"k": {"lc": 1}},
                response_metadata={"model_name": "m-1"},
                id="run-1",
                tool_calls=[
                    {"name": "f", "args": {"a": [1, 2.5, None, True]}, "id": "c"},
                    {"name": "g", "args": {}, "id": None},
                ],
                invalid_tool_calls=[],
                usage_metadata=USAGE,
            ),
            generation_info={"finish_reason": "stop"},
        )
    ],
    b'\x02[["ChatGeneration",{"message":["AIMessage",{"content":[{"type":"reasoning","reasoning":"\xe2\x80\xa6"},"two",'
    b'{"type":"text","text":"2"}],"name":"a","invalid_tool_calls":[{"type":"invalid_tool_call","id":"c","name":"f",'
    b'"args":"{","error":"e"}]}]}],["ChatGeneration",{"message":["HumanMessage",{"content":"hi"}]}],'
    b'["ChatGeneration",{"message":["ToolMessage",{"content":"3 kg","tool_call_id":"c","artifact":{"raw":[3.0]},'
    b'"status":"error"}]}]]': [
        ChatGeneration(
            message=AIMessage(
                content=[{"type": "reasoning", "reasoning": "…"}, "two", {"type": "text", "text": "2"}],
                name="a",
                invalid_tool_calls=[{"name": "f", "args": "{", "id": "c", "error": "e", "type": "invalid_tool_call"}],
            )
        ),
        ChatGeneration(message=HumanMessage("hi")),
        ChatGeneration(message=ToolMessage("3 kg", tool_call_id="c", artifact={"raw": [3.0]}, status="error")),
    ],
    b'\x02[["ChatGenerationChunk",{"message":["AIMessageChunk",{"content":"tw","tool_calls":[{"name":"weigh",'
    b'"args":{},"id":"c","type":"tool_call"}],"invalid_tool_calls":[],"tool_call_chunks":[{"name":"weigh",'
    b'"args":"{\\"apples\\":","id":"c","index":0,"type":"tool_call_chunk"}]}]}]]': [
        ChatGenerationChunk(
            message=AIMessageChunk(
                content="tw", tool_call_chunks=[{"name": "weigh", "args": '{"apples":', "id": "c", "index": 0}]
            )
        )
    ],
}


CALL: dict[str, Any] = {"name": "f", "args": {}, "id": None, "type": "tool_call"}


def planted(value: Any) -> bytes:
    return b"\x02" + json.dumps(value).encode()


def message(name: Any = "AIMessage", **fields: Any) -> list[Any]:
    return ["ChatGeneration", {"message": [name, fields]}]


@pytest.mark.parametrize("payload", GOLDEN, ids=range(len(GOLDEN)))
def test_a_payload_of_an_earlier_release_is_readable(payload: bytes) -> None:
    assert _same(GOLDEN[payload], CODEC.decode(payload))


@pytest.mark.parametrize("payload", GOLDEN, ids=range(len(GOLDEN)))
def test_the_form_in_which_answers_are_written_now(payload: bytes) -> None:
    assert CODEC.encode(GOLDEN[payload]) == payload


def models(answers: list[Generation]) -> list[Generation | BaseMessage]:
    return [*answers, *(each.message for each in answers if isinstance(each, ChatGeneration))]


@pytest.mark.parametrize("name", ANSWERS.keys() - {"halves of a character"})
def test_answers_are_written_in_this_form_and_remember_which_fields_were_given(name: str) -> None:
    payload = CODEC.encode(ANSWERS[name])
    assert payload[0] == 2
    pairs = list(zip(models(CODEC.decode(payload)), models(ANSWERS[name]), strict=True))
    for found, answer in pairs:
        assert found.model_fields_set == answer.model_fields_set
        assert found.model_extra == answer.model_extra
        assert list(vars(found)) == list(vars(answer))
        assert found.model_dump_json(exclude_unset=True) == answer.model_dump_json(exclude_unset=True)


@pytest.mark.parametrize(
    "answer",
    [
        ANSWERS["halves of a character"],
        [*ai("x", additional_kwargs={"nested": HumanMessage("of an allowed class")})],
        [*ai("x", additional_kwargs={"deep": json.loads("[" * 250 + "]" * 250)})],
    ],
    ids=["lone surrogates", "a message among the data", "many levels"],
)
def test_what_this_form_cannot_carry_is_written_as_langchain_core_does(answer: list[Generation]) -> None:
    payload = CODEC.encode(answer)
    assert payload[0] == 1
    assert _same(answer, CODEC.decode(payload))


def test_a_form_that_does_not_prove_itself_is_not_written(monkeypatch: pytest.MonkeyPatch) -> None:
    def careless(data: bytes) -> list[Generation]:
        return _compact.unpack(data.replace(b"1.0", b"1"))

    answer = [Generation(text="x", generation_info={"p": 1.0})]
    monkeypatch.setattr("tiered_cache.langchain._serde.unpack", careless)
    payload = CODEC.encode(answer)
    assert payload[0] == 1
    assert _same(answer, CODEC.decode(payload))


def test_calls_that_were_taken_away_stay_away() -> None:
    """Construction would read them from the provider's own words again."""
    raw = [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}]
    (answer,) = ai("x", additional_kwargs={"tool_calls": raw})
    assert isinstance(answer.message, AIMessage)
    assert answer.message.tool_calls
    answer.message.tool_calls = []
    (found,) = CODEC.decode(CODEC.encode([answer]))
    assert _same(answer, found)


def test_no_two_messages_share_what_they_were_not_given() -> None:
    payload = CODEC.encode(ai("x"))
    for field in ("additional_kwargs", "response_metadata", "tool_calls", "invalid_tool_calls"):
        first, second = (vars(cast("ChatGeneration", CODEC.decode(payload)[0]).message)[field] for _ in range(2))
        assert first == second == type(first)()
        assert first is not second


def test_the_common_classes_are_made_without_validation_and_as_validation_would() -> None:
    assert all(_compact._PLAIN[kind] for kind in (Generation, ChatGeneration, AIMessage))


def test_fields_that_nobody_knows_are_for_validation_to_judge() -> None:
    plain = _compact._PLAIN[AIMessage]
    assert plain
    assert plain.fits({"content": "a"})
    assert not plain.fits({"content": "a", "of_a_release_to_come": 1})


def test_a_class_that_makes_something_of_its_fields_is_validated(monkeypatch: pytest.MonkeyPatch) -> None:
    class Later(AIMessage):
        """Of a release of langchain-core to come."""

        @model_validator(mode="after")
        def derive(self) -> Later:
            self.name = self.text.upper()
            return self

    monkeypatch.setitem(_compact._DEFAULTS, Later, _compact._DEFAULTS[AIMessage])
    monkeypatch.setitem(_compact._SAMPLES, Later, _compact._SAMPLES[AIMessage])
    assert _compact._proved(Later) is None
    assert _compact._made(Later, {"content": "a"}).name == "A"


@pytest.mark.parametrize(
    "payload",
    [
        b"\x02",
        b"\x02\xff",
        b"\x02[",
        b'\x02[["Generation",{"text":"\xed\xa0\xbd"}]]',
        planted([["Generation", {"text": "x"}]])[:-1],
        planted([["Generation", {"text": "x"}]]) + b"x",
        planted([["Generation", {"text": "x"}, 1]]),
        planted([["Generation"]]),
        planted([["Generation", {}]]),
        planted([["Generation", None]]),
        planted([["Generation", [["text", "x"]]]]),
        planted([["Generation", {"text": 1}]]),
        planted([["Generation", {"text": "x", "generation_info": []}]]),
        planted([["Generation", {"text": "x", "type": "ChatGeneration"}]]),
        planted([["Generation", {"text": "x", "message": ["AIMessage", {"content": "x"}]}]]),
        planted([["Generation", {"text": "x", "a_field_of_its_own": 1}]]),
        planted([]),
        planted({}),
        planted("Generation"),
        planted(["ab"]),
        planted([{"text": "x"}]),
        planted([["AIMessage", {"content": "x"}]]),
        planted([[["Generation"], {"text": "x"}]]),
        planted([["LaterGeneration", {"text": "x"}]]),
        planted([["LaterGeneration", {"message": ["AIMessage", {"content": "x"}]}]]),
        planted([["ChatGeneration", {}]]),
        planted([["ChatGeneration", {"message": {"content": "x", "type": "ai"}}]]),
        planted([["ChatGeneration", {"message": "ab"}]]),
        planted([["ChatGenerationChunk", {"message": ["AIMessage", {"content": "x"}]}]]),
        planted([message("Generation", text="x")]),
        planted([message("RemoveMessage", id="x")]),
        planted([message("ChatOpenAI", base_url="http://evil.example")]),
        planted([message("langchain_core.messages.AIMessage", content="x")]),
        planted([message("__class__")]),
        planted([message()]),
        planted([message(content=None)]),
        planted([message(content=1)]),
        planted([message(content=[1])]),
        planted([message(content={})]),
        planted([message(content="x", content_blocks=[{"type": "text", "text": "y"}])]),
        planted([message(content="x", a_field_of_its_own=1)]),
        planted([message(content="x", __dict__={"content": 1})]),
        planted([message(content="x", __pydantic_extra__={})]),
        planted([message(content="x", additional_kwargs=[])]),
        planted([message(content="x", additional_kwargs=None)]),
        planted([message(content="x", response_metadata="x")]),
        planted([message(content="x", type="human")]),
        planted([message(content="x", name=["x"])]),
        planted([message(content="x", tool_calls=[1])]),
        planted([message(content="x", tool_calls={})]),
        planted([message(content="x", tool_calls=[{**CALL, "args": []}])]),
        planted([message(content="x", tool_calls=[{**CALL, "name": 1}])]),
        planted([message(content="x", tool_calls=[{**CALL, "id": 1}])]),
        planted([message(content="x", tool_calls=[{**CALL, "own": 1}])]),
        planted([message(content="x", invalid_tool_calls=[{"name": 1}])]),
        planted([message(content="x", usage_metadata={})]),
        planted([message(content="x", usage_metadata=[])]),
        planted([message(content="x", usage_metadata={**USAGE, "input_tokens": "many"})]),
        planted([message(content="x", usage_metadata={**USAGE, "input_token_details": {"audio": "x"}})]),
        planted([message(content="x", usage_metadata={**USAGE, "input_token_details": []})]),
        planted([message(content="x", usage_metadata={**USAGE, "input_token_details": 5})]),
        b"\x02" + b"[" * 100_000,
        b'\x02[["Generation",{"text":"x","generation_info":{"a":' + b"[" * 300 + b"]" * 300 + b"}}]]",
        b'\x02[["Generation",{"text":"x","generation_info":{"n":' + b"9" * 100_000 + b"}}]]",
    ],
    ids=range(64),
)
def test_what_is_no_answer_is_an_error(payload: bytes) -> None:
    with pytest.raises((ValueError, TypeError, LookupError, AttributeError)):
        CODEC.decode(payload)


def test_what_is_not_plainly_valid_is_left_to_validation() -> None:
    (found,) = CODEC.decode(planted([message(content="x", id=1, tool_calls=[{**CALL, "type": "other"}])]))
    assert isinstance(found, ChatGeneration)
    assert isinstance(found.message, AIMessage)
    assert found.message.tool_calls == [CALL]
    assert found.message.id == "1"
    with pytest.raises(ValueError, match="validation error"):
        _compact._made(AIMessage, {"content": [1]})


PLAIN_DATA = frozenset((str, int, float, bool, type(None), list, dict))


@cache
def strictly(kind: type[Any], field: str) -> TypeAdapter[Any]:
    return TypeAdapter(
        kind.model_fields[field].annotation, config=ConfigDict(strict=True, arbitrary_types_allowed=True)
    )


def assert_valid(model: Any) -> None:
    """Of an allowed class, with nothing but its declared fields, each of its declared type, and plain data in them."""
    kind = cast("type[Any]", type(model))
    assert kind in (*GENERATIONS, *MESSAGES)
    held: dict[str, Any] = vars(cast("Generation", model))
    assert held.keys() == kind.model_fields.keys()
    assert not model.model_extra
    for name, value in held.items():
        if name == "message":
            assert isinstance(value, kind.model_fields[name].annotation)
            assert_valid(value)
        elif name == "text":
            assert isinstance(value, str)
        else:
            strictly(kind, name).validate_python(value)
            assert_plain(value)


def assert_plain(value: Any) -> None:
    assert type(value) in PLAIN_DATA
    if type(value) is dict:
        pairs = cast("dict[Any, Any]", value)
        assert_plain([*pairs, *pairs.values()])
    elif type(value) is list:
        for each in cast("list[Any]", value):
            assert_plain(each)


def decode_or_miss(payload: bytes) -> None:
    try:
        found = CODEC.decode(payload)
    except Exception:  # noqa: BLE001  (the engine counts whatever is raised)
        return
    assert type(found) is list
    assert found
    for each in found:
        assert type(each) in GENERATIONS
        assert_valid(each)


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
COUNTS = st.dictionaries(
    st.sampled_from([*USAGE, "output_token_details", "own"]), ANYTHING | st.integers() | st.just({"audio": 1})
)
CALLS = st.lists(
    st.dictionaries(st.sampled_from(["name", "args", "id", "type", "own"]), ANYTHING | st.just("tool_call"))
)
GOOD: dict[str, Any] = {
    "content": "x",
    "tool_calls": [{"name": "f", "args": {"a": 1}, "id": "c", "type": "tool_call"}],
    "usage_metadata": USAGE,
    "response_metadata": {"model_name": "m-1"},
    "name": "n",
    "role": "r",
    "tool_call_id": "c",
}
ODD = {"usage_metadata": COUNTS, "tool_calls": CALLS, "invalid_tool_calls": CALLS, "tool_call_chunks": CALLS}


def almost(kind: Any) -> st.SearchStrategy[list[Any]]:
    """A model whose fields are good, but for one."""
    good = {name: value for name, value in GOOD.items() if name in kind.model_fields}
    return st.sampled_from([*kind.model_fields, "own"]).flatmap(
        lambda name: (ANYTHING | ODD.get(name, st.nothing())).map(lambda odd: [kind.__name__, {**good, name: odd}])
    )


MESSAGE = almost(AIMessage) | st.sampled_from(MESSAGES).flatmap(almost)
GENERATION = (
    MESSAGE.map(lambda message: ["ChatGeneration", {"message": message}])
    | MESSAGE.map(lambda message: ["ChatGenerationChunk", {"message": message}])
    | st.sampled_from(GENERATIONS).flatmap(almost)
)


@settings(max_examples=500)
@given(GENERATION)
def test_whatever_is_planted_is_an_error_or_a_valid_answer(value: Any) -> None:
    decode_or_miss(planted([value]))


@given(st.sampled_from([*GOLDEN]), st.data())
def test_damage_of_any_kind_is_an_error_or_a_valid_answer(payload: bytes, data: st.DataObject) -> None:
    """The envelope tells damage from what was written; this is for whoever can write envelopes."""
    damaged = bytearray(payload)
    for _ in range(data.draw(st.integers(1, 3))):
        bit = data.draw(st.integers(8, len(damaged) * 8 - 1))
        damaged[bit // 8] ^= 1 << bit % 8
    decode_or_miss(bytes(damaged[: data.draw(st.integers(1, len(damaged)) | st.just(len(damaged)))]))


@pytest.mark.parametrize("payload", GOLDEN, ids=range(len(GOLDEN)))
def test_every_truncated_payload_is_an_error(payload: bytes) -> None:
    for end in range(1, len(payload)):
        with pytest.raises(ValueError, match=r"."):
            CODEC.decode(payload[:end])


def test_generators_are_refused_unread() -> None:
    read: list[int] = []
    source = (read.append(number) for number in range(3))
    with pytest.raises(UnsupportedValueError):
        CODEC.encode(ai("x", additional_kwargs={"k": source}))
    assert read == []
