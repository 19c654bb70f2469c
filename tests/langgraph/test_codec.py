"""What comes out equals what went in, or is refused; nothing that is read can construct what is not allowed."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import json
import sys
import types
import uuid
from collections import OrderedDict, defaultdict, deque
from pathlib import PurePosixPath
from typing import Any, NamedTuple

import numpy as np
import ormsgpack
import pytest
from langchain_core.documents import Document
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.types import Command, Interrupt, Send
from pydantic import BaseModel

from tiered_cache import CorruptValueError, UnsupportedValueError
from tiered_cache.langgraph import _codec
from tiered_cache.langgraph._codec import LangGraphCodec, StrictSerializer

CODEC = LangGraphCodec(StrictSerializer())

ANSWER = AIMessage(
    [{"type": "text", "text": "hello"}],
    id="lc_run--1",
    name="a",
    tool_calls=[{"name": "f", "args": {"a": [1, 2.0, None]}, "id": "c1"}],
    usage_metadata={"input_tokens": 1, "output_tokens": 2, "total_tokens": 3},
    response_metadata={"finish_reason": "stop", "logprobs": [-0.5]},
)

CARRIED: list[Any] = [
    *(None, True, 0, -1, 2**63, 1.0, "text", "", "a\0b", b"\0\xff", bytearray(b"b")),
    *([], (), {}, [()], ((), ((1,),)), {"a": (1, [2, (3,)])}, {1: 2, None: 3, (1, "x"): 4, b"k": 5, False: 6}),
    *({"\0t": [1]}, {"\0d": []}, {"\0q": 1}, {"\0s": "x"}, {"\0": {"\0t": ()}}),
    *(deque[int](), deque([1, (2,)], maxlen=5), {1, 2}, frozenset(("a",))),
    datetime.datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=datetime.UTC),
    *(datetime.date(2026, 1, 2), datetime.timedelta(days=1, microseconds=3)),
    {uuid.UUID(int=1): [uuid.UUID(int=2), {"a": ({ANSWER.text: datetime.date(2026, 1, 2)},)}]},
    *(uuid.UUID(int=7), decimal.Decimal("1.10"), np.arange(6).reshape(2, 3)),
    *(ANSWER, HumanMessage("hi"), SystemMessage("be kind"), ToolMessage("4", tool_call_id="c1"), ANSWER.text),
    *(Document("text", metadata={"page": 1}), Send("node", {"x": 1}), Command(goto="x"), Interrupt("why")),
    deque([("messages", [ANSWER, HumanMessage("hi")]), ("branch:to:x", None), ("__return__", {"answer": ANSWER.text})]),
]


@dataclasses.dataclass
class Plain:
    a: int
    b: Any = None


class Pair(NamedTuple):
    a: int


class Model(BaseModel):
    a: int
    inner: Document | None = None


# Extra fields, and classes in what has no declared type: for the serializer, as a whole.
EXTRAS: list[Any] = [
    AIMessage("x", mood="calm"),
    AIMessage("x", additional_kwargs={"on": datetime.date(2026, 1, 2), "by": uuid.UUID(int=1)}),
    ToolMessage("4", tool_call_id="c1", artifact=decimal.Decimal("1.10")),
    AIMessage("x", additional_kwargs={"\0t": [1], "b": b"\0"}),
]


class Colour(enum.Enum):
    RED = "red"


class Word(str):
    __slots__ = ()


class Silent:
    """Neither equality nor a form that a serializer knows."""


def endless() -> list[Any]:
    value: list[Any] = []
    value.append(value)
    return value


REFUSED: list[Any] = [
    *(object(), Silent(), len, lambda: None, sys, type, 2**64, -(2**63) - 1, "\ud800", {"\udfff": 1}, 1j),
    *(Plain(1), Pair(1), Model(a=1), Colour.RED, Word("w"), OrderedDict(a=1), defaultdict(int)),
    *({(1, 2)}, Send("node", {"x": (1,)}), AIMessage("x", additional_kwargs={"x": (1,)})),
    *(endless(), [Silent()], {"a": (Model(a=1),)}, (x for x in "abc")),
]


def same(one: Any, other: Any) -> bool:
    """Equality of every part, type and all, by other means than the codec's."""
    return type(one) is type(other) and repr(one) == repr(other)


@pytest.mark.parametrize("value", CARRIED, ids=repr)
def test_what_is_carried_comes_out_equal_type_and_all(value: Any) -> None:
    found = CODEC.decode(CODEC.encode(value))
    assert same(found, value)
    assert found is not value or isinstance(value, (bool, int, float, str, bytes, tuple, type(None)))


@pytest.mark.parametrize("value", EXTRAS, ids=repr)
def test_whatever_a_message_holds_comes_out_equal(value: Any) -> None:
    assert same(CODEC.decode(CODEC.encode(deque([("messages", [value])]))), deque([("messages", [value])]))


@pytest.mark.parametrize("value", [ANSWER, HumanMessage("hi"), *EXTRAS], ids=repr)
def test_messages_that_the_serializer_wrote_are_read_for_ever(value: Any) -> None:
    """As payloads were before messages were spelled out."""
    kind, data = StrictSerializer().dumps_typed({"\0q": [None, [{"\0t": ["messages", [value]]}]]})
    classes: list[type] = []
    _codec._add_classes([value], classes)
    payload = bytes((len(kind),)) + kind.encode() + _codec._shape(classes) + data
    assert same(CODEC.decode(payload), deque([("messages", [value])]))


def test_a_plain_message_needs_no_class_of_its_own_in_the_payload() -> None:
    assert b"langchain_core" in CODEC.encode([EXTRAS[1]])
    assert b"langchain_core" not in CODEC.encode([ANSWER])


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -0.0, [float("nan")], np.array([np.nan, 1])], ids=repr)
def test_numbers_that_are_unlike_others_survive(value: Any) -> None:
    assert same(CODEC.decode(CODEC.encode(value)), value)


@pytest.mark.parametrize("value", REFUSED, ids=lambda value: type(value).__name__)
def test_what_would_not_come_out_equal_is_refused(value: Any) -> None:
    with pytest.raises(UnsupportedValueError):
        CODEC.encode(value)


def test_a_refusal_names_classes_and_never_contents() -> None:
    with pytest.raises(UnsupportedValueError) as caught:
        CODEC.encode(deque([("answer", ["secret", Model(a=12345)])]))
    assert f"{__name__}.Model" in str(caught.value)
    assert "allowed_msgpack_modules" in str(caught.value)
    assert "secret" not in str(caught.value)
    assert "12345" not in str(caught.value)


@pytest.mark.parametrize("value", [Plain(1), Pair(1), Model(a=1, inner=Document("x")), Colour.RED], ids=repr)
def test_a_serializer_that_knows_a_class_carries_it(value: object) -> None:
    codec = LangGraphCodec(JsonPlusSerializer(allowed_msgpack_modules=[type(value)]))
    assert same(codec.decode(codec.encode([value])), [value])


def test_what_a_known_class_cannot_carry_itself_is_still_refused() -> None:
    codec = LangGraphCodec(JsonPlusSerializer(allowed_msgpack_modules=[Plain]))
    # The serializer makes a list of the one, and forgets how long the other may become.
    for inner in ((1, 2), deque([1], maxlen=2)):
        with pytest.raises(UnsupportedValueError):
            codec.encode(Plain(1, b=inner))
    assert same(codec.decode(codec.encode(Plain(1, b=deque([1])))), Plain(1, b=deque([1])))


def test_what_a_serializer_puts_into_another_order_is_refused() -> None:
    class Sorting:
        def dumps_typed(self, obj: Any) -> tuple[str, bytes]:
            return "json", json.dumps(obj, sort_keys=True).encode()

        def loads_typed(self, data: tuple[str, bytes]) -> Any:
            return json.loads(data[1])

    codec = LangGraphCodec(Sorting())
    assert list(codec.decode(codec.encode({"a": 1, "b": 2}))) == ["a", "b"]
    with pytest.raises(UnsupportedValueError):
        codec.encode({"b": 1, "a": 2})


@pytest.fixture
def module() -> Any:
    made = types.ModuleType("a_deployed_module")
    sys.modules[made.__name__] = made
    yield made
    del sys.modules[made.__name__]


def deploy(module: Any, source: str) -> Any:
    """Another release of a module's class `State`; gone where the source defines none."""
    module.__dict__.pop("State", None)
    exec(f"import dataclasses, pydantic, enum\n{source}", module.__dict__)
    return module.__dict__.get("State")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("class State(pydantic.BaseModel): a: int = 1", "class Renamed(pydantic.BaseModel): a: int = 1"),
        ("class State(pydantic.BaseModel): a: int = 1", "class State(pydantic.BaseModel):\n a: int = 1\n b: int"),
        ("class State(pydantic.BaseModel): a: int = 1", "class State(pydantic.BaseModel): b: int = 1"),
        ("@dataclasses.dataclass\nclass State: a: int = 1", "@dataclasses.dataclass\nclass State: b: int = 1"),
        ("@dataclasses.dataclass\nclass State: a: int = 1", "class Renamed: pass"),
    ],
)
def test_a_class_that_a_deployment_changed_is_a_miss_and_no_dict(module: Any, before: str, after: str) -> None:
    codec = LangGraphCodec(JsonPlusSerializer(allowed_msgpack_modules=[(module.__name__, "State")]))
    state = deploy(module, before)
    payload = codec.encode([("x", state())])
    assert codec.decode(payload) == [("x", state())]
    deploy(module, after)
    with pytest.raises((CorruptValueError, AttributeError)):
        codec.decode(payload)


def payload_of(kind: str, data: bytes) -> bytes:
    """What somebody who can write to a tier, and knows the format, could put there."""
    good = CODEC.encode(None)
    shape = good[1 + good[0] : 1 + good[0] + 8]
    return bytes((len(kind),)) + kind.encode() + shape + data


@pytest.mark.parametrize("code", range(8))
def test_nothing_read_can_call_what_is_not_allowed(monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    calls: list[Any] = []

    def system(*given: Any, **named: Any) -> None:
        calls.append((given, named))

    monkeypatch.setattr("os.system", system)
    for arguments in ("true", ["true"], {"command": "true"}):
        data = ormsgpack.packb(("os", "system", arguments, "__call__"))
        evil = payload_of("msgpack", ormsgpack.packb(ormsgpack.Ext(code, data)))
        try:
            found = CODEC.decode(evil)
        except Exception:  # noqa: BLE001  (a miss, as it should be)
            continue
        assert found is None or isinstance(found, (str, list, dict))
    assert calls == []


@pytest.mark.parametrize("kind", ["pickle", "json", "yaml", ""])
def test_a_payload_of_another_kind_is_unreadable(kind: str) -> None:
    evil = b'{"lc": 1, "type": "constructor", "id": ["langchain_core", "messages", "AIMessage"], "kwargs": {}}'
    for data in (evil, b"cposix\nsystem\n(S'true'\ntR."):
        with pytest.raises((CorruptValueError, NotImplementedError)):
            CODEC.decode(payload_of(kind, data))


def test_every_truncated_payload_is_unreadable_or_no_other_value() -> None:
    value = deque([("messages", [ANSWER]), ("n", 3)])
    payload = CODEC.encode(value)
    for end in range(len(payload)):
        with pytest.raises(Exception):  # noqa: B017, PT011  (whatever it is: the engine makes a counted miss of it)
            CODEC.decode(payload[:end])


@pytest.mark.parametrize(
    ("payload", "value"),
    [
        ("046e756c6ce4a6a0577479b2b4", None),
        ("056279746573e4a6a0577479b2b400ff", b"\0\xff"),
        (
            "076d73677061636be4a6a0577479b2b481a2007192c09281a2007492a86d6573736167657392a2686981a2007494a161cb3ff800"
            "0000000000c0c381a2007492aa5f5f72657475726e5f5f81a200649292a161019202c40162",
            deque([("messages", ["hi", ("a", 1.5, None, True)]), ("__return__", {"a": 1, 2: b"b"})]),
        ),
        (
            "076d73677061636b7016a2a7447e284891c72d0093a475756964a455554944d9203030303030303030303030303030303030303030"
            "303030303030303030303037",
            [uuid.UUID(int=7)],
        ),
    ],
)
def test_payloads_of_every_release_stay_readable(payload: str, value: Any) -> None:
    assert same(CODEC.decode(bytes.fromhex(payload)), value)


def test_paths_are_carried_as_far_as_the_serializer_allows() -> None:
    with pytest.raises(UnsupportedValueError):
        CODEC.encode(PurePosixPath("/tmp"))
