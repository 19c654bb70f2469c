"""The codecs: what comes out equals what went in, type and all, or it is refused when it goes in."""

from __future__ import annotations

import math
import sys
from collections import OrderedDict, UserDict, defaultdict, deque
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import IntEnum, StrEnum
from fractions import Fraction
from typing import Any, Final, NamedTuple, cast
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tiered_cache import ConfigurationError, PlainCodec, RawCodec, TieredCache, UnsupportedValueError

PLAIN = PlainCodec()

# Lone surrogates included, and pairs of them that a sloppy encoding would join.
TEXT = st.text(st.characters(codec=None, exclude_categories=())) | st.sampled_from(
    ["\ud83d\ude00", "\udcff", "\0", "\0b", "\0t", "\0d", "\0x", '"\\u0000', "\ufeff", "\u2028", ""]
)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXT | st.binary()
KEYS = st.recursive(SCALARS, lambda keys: st.lists(keys, max_size=3).map(tuple), max_leaves=4)
VALUES = st.recursive(
    SCALARS,
    lambda values: (
        st.lists(values, max_size=4)
        | st.lists(values, max_size=4).map(tuple)
        | st.dictionaries(TEXT, values, max_size=4)
        | st.dictionaries(KEYS, values, max_size=4)
    ),
    max_leaves=20,
)


def parts(value: object) -> list[Any]:
    """What a container holds, the keys of a dict before its values."""
    if isinstance(value, dict):
        pairs = cast("dict[Any, Any]", value)
        return [*pairs, *pairs.values()]
    return [*cast("list[Any]", value)] if isinstance(value, list | tuple) else []


def typed(value: object) -> Any:
    """The value with all its types spelled out: `1 == True == 1.0` are three here, and so are `0.0` and `-0.0`."""
    if type(value) in (dict, list, tuple):
        return type(value).__name__, [typed(part) for part in parts(value)]
    return type(value).__name__, repr(value) if isinstance(value, float) else value


def changeable(value: Any) -> list[Any]:
    """All lists and dicts in it."""
    return [each for part in parts(value) for each in changeable(part)] + [value] * isinstance(value, dict | list)


@given(VALUES)
def test_what_comes_out_equals_what_went_in_with_types_and_order(value: Any) -> None:
    payload = PLAIN.encode(value)
    decoded = PLAIN.decode(payload)
    assert typed(decoded) == typed(value)
    again = PLAIN.decode(payload)
    shared = {id(each) for each in changeable(decoded)} & {id(each) for each in changeable(again)}
    assert not shared, "two hits share an object"


def test_a_not_a_number_stays_one() -> None:
    (decoded,) = PLAIN.decode(PLAIN.encode([math.nan]))
    assert math.isnan(decoded)


def test_dicts_that_look_like_the_codecs_own_markup_stay_dicts() -> None:
    values: list[Any] = [
        {"\0b": "QQ=="},
        {"\0t": [1]},
        {"\0d": [[1, 2]]},
        {"\0x": 1},
        {"a": {"\0": 1}},
        {"\0t": {"\0t": []}},
    ]
    for value in values:
        assert typed(PLAIN.decode(PLAIN.encode(value))) == typed(value)


class Level(IntEnum):
    LOW = 1


class Word(StrEnum):
    A = "a"


class Pair(NamedTuple):
    a: int


@dataclass
class Record:
    a: int = 1


class Text(str):
    __slots__ = ()


class Bytes(bytes):
    pass


class Dict(dict[str, int]):
    pass


class List(list[int]):
    pass


class Number(float):
    pass


REFUSED: Final[list[Any]] = [
    *(Level.LOW, Word.A, Pair(1), Record(), Text("a"), Bytes(b"a"), Dict(a=1), List([1]), Number(1.0)),
    *(OrderedDict(a=1), defaultdict(int, a=1), UserDict(a=1), deque([1]), {1}, frozenset([1]), range(2)),
    *(1j, Decimal(1), Fraction(1), UUID(int=1), date(2024, 1, 1), datetime(2024, 1, 1, tzinfo=UTC)),
    *(bytearray(b"a"), memoryview(b"a"), object(), int, print, iter([1]), ValueError("a"), ...),
]


@pytest.mark.parametrize("value", REFUSED, ids=lambda value: type(value).__name__)
def test_what_would_come_out_different_is_refused_wherever_it_is(value: Any) -> None:
    for holding in (value, [value], (1, value), {"a": value}, {"a": [{"b": (value,)}]}):
        with pytest.raises(UnsupportedValueError, match=type(value).__qualname__):
            PLAIN.encode(holding)
    if value.__hash__ is not None and not isinstance(value, memoryview):
        with pytest.raises(UnsupportedValueError, match=type(value).__qualname__):
            PLAIN.encode({value: 1})


def test_the_refusal_never_quotes_the_value() -> None:
    for value in (Text("hunter2"), {"a": Bytes(b"hunter2")}, Record(), {Text("hunter2"): 1}, 10**5000):
        with pytest.raises(UnsupportedValueError) as caught:
            PLAIN.encode(value)
        assert "hunter2" not in str(caught.value)
        assert "0000" not in str(caught.value).replace("4300", "")


def test_what_contains_itself_or_is_nested_without_end_is_refused() -> None:
    circle: list[Any] = []
    circle.append(circle)
    deep: Any = ()
    for _ in range(sys.getrecursionlimit() * 2):
        deep = (deep,)
    for value in (circle, {"a": circle}, deep):
        with pytest.raises(UnsupportedValueError):
            PLAIN.encode(value)


def wrapped(value: Any, kind: str) -> Any:
    kinds: dict[str, Any] = {"list": [value], "tuple": (value,), "dict": {"a": value}, "pairs": {1: value}}
    return kinds[kind]


@pytest.mark.parametrize("kind", ["list", "tuple", "dict", "pairs"])
def test_whatever_depth_is_taken_can_be_read_again(kind: str) -> None:
    """Also from somewhat further down the stack than where it was written."""
    value, depth, payload = None, 0, b""
    while True:
        value = wrapped(value, kind)
        depth += 1
        try:
            payload = PLAIN.encode(value)
        except UnsupportedValueError:
            break
    assert depth > 90

    def deeper(levels: int) -> Any:
        return deeper(levels - 1) if levels else PLAIN.decode(payload)

    decoded = deeper(300)
    for _ in range(depth - 1):
        decoded = parts(decoded)[-1]
    assert decoded is None


@given(st.binary(max_size=200))
def test_bytes_that_no_codec_wrote_raise_an_ordinary_exception_or_are_plain_data(payload: bytes) -> None:
    try:
        decoded = PLAIN.decode(payload)
    except Exception:  # noqa: BLE001  (the engine counts whatever is raised)
        return
    PLAIN.encode(decoded)  # nothing but the types that it carries


GOLDEN: Final[dict[bytes, Any]] = {
    b"\x00raw \x00\xff": b"raw \x00\xff",
    b"\x00": b"",
    b"\x01null": None,
    b"\x01true": True,
    b"\x01-12": -12,
    b"\x011.5": 1.5,
    b"\x011e+300": 1e300,
    b"\x01-0.0": -0.0,
    b"\x01Infinity": math.inf,
    b'\x01"text"': "text",
    '\x01"grün \U0001f600"'.encode(): "grün \U0001f600",
    b'\x01"gr\\u00fcn"': "grün",
    b'\x01"\xed\xb3\xbf"': "\udcff",
    b'\x01[1,"a",[]]': [1, "a", []],
    b'\x01{"a":{"b":null}}': {"a": {"b": None}},
    b'\x01{"\\u0000t":[1,{"\\u0000b":"eHk="}]}': (1, b"xy"),
    b'\x01{"\\u0000d":[[1,"a"],[{"\\u0000t":[]},2],["b",true]]}': {1: "a", (): 2, "b": True},
    b'\x01{"\\u0000d":[["\\u0000b","not bytes"]]}': {"\0b": "not bytes"},
}


@pytest.mark.parametrize(("payload", "value"), GOLDEN.items(), ids=map(repr, GOLDEN))
def test_payloads_of_every_release_are_read_for_ever(payload: bytes, value: Any) -> None:
    assert typed(PLAIN.decode(payload)) == typed(value)


def test_the_form_in_which_payloads_are_written_now() -> None:
    written = {PLAIN.encode(value): value for payload, value in GOLDEN.items() if b"u00fc" not in payload}
    assert written.keys() == GOLDEN.keys() - {b'\x01"gr\\u00fcn"'}


def test_the_raw_codec_carries_bytes_and_nothing_else() -> None:
    raw = RawCodec()
    assert raw.decode(raw.encode(b"\x00\xff")) == b"\x00\xff"
    for value in ("a", bytearray(b"a"), memoryview(b"a"), Bytes(b"a"), None):
        with pytest.raises(UnsupportedValueError, match=type(value).__name__):
            raw.encode(value)


def test_codec_ids_are_part_of_the_format() -> None:
    assert (PlainCodec().id, RawCodec().id) == (1, 4)


class Numbered:
    """A codec that is right but for its number."""

    def __init__(self, number: Any) -> None:
        self.id = number

    def encode(self, value: Any) -> bytes:
        return b""

    def decode(self, payload: bytes) -> Any:
        return None


@pytest.mark.parametrize("number", [0, 256, -1, True, "1", None], ids=repr)
def test_a_codec_whose_id_fits_no_byte_is_refused_at_the_door(number: Any) -> None:
    with pytest.raises(ConfigurationError, match="id of a codec"):
        TieredCache(codec=Numbered(number))
    with pytest.raises(ConfigurationError, match="id of a codec"):
        TieredCache().namespace("n", codec=Numbered(number))


def test_what_is_no_codec_is_refused_at_the_door() -> None:
    with pytest.raises(ConfigurationError, match="encode and decode"):
        TieredCache(codec=object())  # pyright: ignore[reportArgumentType]
