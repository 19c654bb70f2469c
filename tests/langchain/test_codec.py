"""What a model answered comes out as it went in, or is refused."""

from __future__ import annotations

import datetime
import enum
import uuid
from typing import Any

import pytest
from langchain_core.documents import Document
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.messages.base import TextAccessor
from langchain_core.outputs import ChatGeneration, Generation
from pydantic import BaseModel

from tests.langchain.answers import ANSWERS, LOOKALIKES, ai, full_message
from tiered_cache import UnsupportedValueError
from tiered_cache.langchain._serde import GenerationsCodec, _same

CODEC = GenerationsCodec()


class Parsed(BaseModel):
    apples: int = 2


class Reason(str, enum.Enum):  # noqa: UP042  (the form that libraries of models use)
    STOP = "stop"


class Unprintable:
    def __repr__(self) -> str:
        raise AssertionError("a value that cannot be stored need not be printed")


class OwnMessage(AIMessage):
    pass


def refuse(value: Any) -> UnsupportedValueError:
    with pytest.raises(UnsupportedValueError) as caught:
        CODEC.encode(value)
    return caught.value


@pytest.mark.parametrize("name", ANSWERS)
def test_an_answer_comes_out_equal_types_included(name: str) -> None:
    answer = ANSWERS[name]
    found = CODEC.decode(CODEC.encode(answer))
    assert type(found) is list
    assert [type(each) for each in found] == [type(each) for each in answer]
    assert repr(found) == repr(answer)  # NaN equals itself in print only
    assert _same(answer, found)


def test_a_message_keeps_each_of_its_parts() -> None:
    (found,) = CODEC.decode(CODEC.encode([ChatGeneration(message=full_message())]))
    assert isinstance(found, ChatGeneration)
    message, given = found.message, full_message()
    assert isinstance(message, AIMessage)
    assert message.content == given.content
    assert message.tool_calls == given.tool_calls
    assert message.invalid_tool_calls == given.invalid_tool_calls
    assert message.usage_metadata == given.usage_metadata
    assert message.response_metadata == given.response_metadata
    assert message.additional_kwargs == given.additional_kwargs
    assert (message.id, message.name) == (given.id, given.name)


def test_every_decoding_makes_new_objects() -> None:
    payload = CODEC.encode([ChatGeneration(message=full_message())])
    first, second = CODEC.decode(payload)[0], CODEC.decode(payload)[0]
    assert isinstance(first, ChatGeneration)
    assert isinstance(second, ChatGeneration)
    assert first is not second
    assert first.message is not second.message
    assert first.message.response_metadata is not second.message.response_metadata


@pytest.mark.parametrize("name", LOOKALIKES)
@pytest.mark.parametrize("where", ["in keywords", "as keywords", "as content", "as information", "in a list"])
def test_user_data_that_looks_like_markup_comes_out_as_the_dict_it_is(name: str, where: str) -> None:
    lookalike = LOOKALIKES[name]
    answers: dict[str, list[Generation]] = {
        "in keywords": [*ai("x", additional_kwargs={"k": lookalike}, response_metadata={"k": {"n": lookalike}})],
        "as keywords": [*ai("x", additional_kwargs=dict(lookalike), response_metadata=dict(lookalike))],
        "as content": [*ai("x"), ChatGeneration(message=AIMessage(content=[lookalike]))],
        "as information": [Generation(text="", generation_info=dict(lookalike))],
        "in a list": [*ai("x", additional_kwargs={"k": [lookalike, [lookalike]]})],
    }
    answer = answers[where]
    try:
        payload = CODEC.encode(answer)
    except (
        UnsupportedValueError
    ):  # langchain-core before 1.2.7 loses a dict that looks like a secret: refused, not lost
        assert name == "a secret"
        return
    assert _same(answer, CODEC.decode(payload))


@pytest.mark.parametrize(
    "odd",
    [
        b"bytes",
        (1, 2),
        {1: "a key that is not text"},
        {1, 2},
        datetime.date(2026, 1, 1),
        uuid.UUID(int=1),
        Parsed(),
        Parsed,
        Reason.STOP,
        Document(page_content="of langchain-core, but not on the list"),
        TextAccessor("a str, but not quite"),
        10**5000,
        Unprintable(),
        lambda: None,
    ],
    ids=lambda odd: type(odd).__name__,
)
@pytest.mark.parametrize("where", ["parsed", "nested", "information", "under lc", "artifact"])
def test_what_would_come_out_different_is_refused(odd: Any, where: str) -> None:
    answers: dict[str, list[Generation]] = {
        "parsed": [*ai("x", additional_kwargs={"parsed": odd})],
        "nested": [*ai("x", response_metadata={"a": [{"b": odd}]})],
        "information": [Generation(text="x", generation_info={"raw": odd})],
        "under lc": [*ai("x", additional_kwargs={"k": {"lc": 1, "odd": odd}})],
        "artifact": [*ai("x", tool_calls=[{"name": "f", "args": {"a": odd}, "id": "1"}])],
    }
    error = refuse(answers[where])
    assert "10000" not in str(error)
    assert error.__cause__ is None


def test_the_refusal_names_the_type() -> None:
    assert f"{__name__}.Parsed" in str(refuse(ai("x", additional_kwargs={"parsed": Parsed()})))


def test_classes_and_fields_that_are_not_langchain_cores_own_are_refused() -> None:
    refuse([ChatGeneration(message=OwnMessage(content="x"))])
    refuse(ai("x", a_field_of_the_users_own=1))
    assert CODEC.encode(ai("x", additional_kwargs={"nested": HumanMessage("an allowed class anywhere is fine")}))


@pytest.mark.parametrize(
    "value", [[], (), "text", None, [AIMessage(content="x")], ["text"], Generation(text="x"), [[]]]
)
def test_only_a_list_of_generations_is_an_answer(value: Any) -> None:
    refuse(value)


def test_endless_and_bottomless_answers_are_refused() -> None:
    (endless,) = ai("x")
    endless.message.additional_kwargs["itself"] = endless.message.additional_kwargs
    refuse([endless])
    deep: dict[str, Any] = {}
    for _ in range(5000):
        deep = {"a": deep}
    refuse(ai("x", additional_kwargs=deep))


def test_an_answer_changed_after_it_was_made_is_stored_as_it_is_now() -> None:
    (generation,) = ai("before", tool_calls=[{"name": "f", "args": {"n": 1}, "id": "1"}])
    assert isinstance(generation.message, AIMessage)
    generation.message.tool_calls[0]["args"]["n"] = 2
    (found,) = CODEC.decode(CODEC.encode([generation]))
    assert isinstance(found, ChatGeneration)
    assert isinstance(found.message, AIMessage)
    assert found.message.tool_calls[0]["args"] == {"n": 2}
    generation.text = "no longer what the message says, and would come out as that again"
    refuse([generation])
