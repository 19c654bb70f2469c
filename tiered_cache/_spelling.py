"""How plain values are spelled out in bytes, so that no two values are spelled alike.

    tag:length:content

with contents made of such pieces again. Nothing in it depends on memory, on hash seeds or on the order of a dict or a
set. It is a public format: keys are digests of it.
"""

from __future__ import annotations

import re
import struct
import sys
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterable
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from types import EllipsisType, NoneType
from typing import Any, Final, cast
from uuid import UUID

# Far more than data has, and few enough for the recursion limit however deep the caller is.
_LEVELS: Final = 100

_SHOWN_STEPS: Final = 12
_SHOWN_CHARACTERS: Final = 40


class SpellingError(Exception):
    """A value that cannot be spelled, and (in reverse) the way to it. Becomes an UnsupportedValueError."""

    def __init__(self, what: str, cure: str = "") -> None:
        super().__init__(what)
        self.cure: str = cure
        self.steps: list[str] = []

    @property
    def place(self) -> str:
        steps = self.steps[::-1]
        return "".join(steps[:_SHOWN_STEPS]) + ("..." if len(steps) > _SHOWN_STEPS else "")


class Walk:
    """Spells values. `plan` tells how those are spelled that are not in the tables below.

    `alike`: what LangGraph's checkpoints do not keep apart is spelled alike.
    """

    def __init__(self, plan: Callable[[type], Handler], *, alike: bool) -> None:
        self._plan: Final = plan
        self.alike: Final = alike
        self._left = _LEVELS

    def spell(self, value: Any) -> bytes:
        kind = cast("type[object]", type(value))
        leaf = LEAVES.get(kind)
        if leaf is not None:
            return leaf(value)
        if not self._left:
            raise SpellingError(f"a value in more than {_LEVELS} levels, or containing itself,")
        self._left -= 1
        try:
            return (CONTAINERS.get(kind) or self._plan(kind))(self, value)
        finally:
            self._left += 1

    def members(self, values: Iterable[tuple[Any, Any]], step: Callable[[Any], str]) -> list[bytes]:
        """The values, in their order. `step` describes the way to one."""
        place: Any = None
        spelled: list[bytes] = []
        try:
            for place, value in values:  # noqa: B007  (needed where it fails)
                spelled.append(self.spell(value))
        except SpellingError as error:
            error.steps.append(step(place))
            raise
        return spelled

    def pairs(self, items: Iterable[tuple[Any, Any]], step: Callable[[Any], str]) -> list[bytes]:
        """Names and values, in their order."""
        key: Any = None
        spelled: list[bytes] = []
        try:
            for key, item in items:
                spelled.append(self.spell(key) + self.spell(item))
        except SpellingError as error:
            error.steps.append(step(key))
            raise
        return spelled

    def record(self, kind: type, fields: Iterable[tuple[str, Any]]) -> bytes:
        """An object, by its class and its fields."""
        return framed(b"object", text(qualified_name(kind)), *sorted(self.pairs(fields, ".{}".format)))


Handler = Callable[[Walk, Any], bytes]


def class_of(value: object) -> type[object]:
    return type(value)


def framed(tag: bytes, *parts: bytes) -> bytes:
    body = b"".join(parts)
    return b"%b:%d:%b" % (tag, len(body), body)


def text(value: str) -> bytes:
    return framed(b"str", str.encode(value, "utf-8", "surrogatepass"))


def number(value: int) -> bytes:
    return framed(b"int", int.to_bytes(value, int.bit_length(value) // 8 + 1, "big", signed=True))


def _ieee(value: float) -> bytes:
    return struct.pack(">d", value) if value == value else b"nan"


def _decimal(value: Decimal) -> bytes:
    sign, digits, exponent = value.as_tuple()
    return framed(b"decimal", f"{sign} {''.join(map(str, digits))} {exponent}".encode())


def _searched(pattern: Any) -> bytes:
    """A subclass of `str`, or anything that has bytes, searches for the same as these do."""
    return text(pattern) if isinstance(pattern, str) else framed(b"bytes", bytes(pattern))


LEAVES: Final[dict[type, Callable[[Any], bytes]]] = {
    NoneType: lambda _: framed(b"none"),
    EllipsisType: lambda _: framed(b"ellipsis"),
    bool: lambda value: framed(b"bool", b"1" if value else b"0"),
    int: number,
    float: lambda value: framed(b"float", _ieee(value)),
    complex: lambda value: framed(b"complex", framed(b"re", _ieee(value.real)), framed(b"im", _ieee(value.imag))),
    str: text,
    bytes: lambda value: framed(b"bytes", value),
    Decimal: _decimal,
    Fraction: lambda value: framed(b"fraction", number(value.numerator), number(value.denominator)),
    date: lambda value: framed(b"date", value.isoformat().encode()),
    timedelta: lambda value: framed(b"timedelta", *map(number, (value.days, value.seconds, value.microseconds))),
    UUID: lambda value: framed(b"uuid", value.bytes),
    range: lambda value: framed(b"range", *map(number, (value.start, value.stop, value.step))),
    re.Pattern: lambda value: framed(b"pattern", _searched(value.pattern), number(value.flags)),
}


def _sequence(tag: bytes, walk: Walk, values: Iterable[Any]) -> bytes:
    return framed(tag, *walk.members(enumerate(values), "[{}]".format))


def _list(walk: Walk, value: list[Any]) -> bytes:
    return _sequence(b"list", walk, value)


def _tuple(walk: Walk, value: tuple[Any, ...]) -> bytes:
    return _sequence(b"list" if walk.alike else b"tuple", walk, value)


def _deque(walk: Walk, value: deque[Any]) -> bytes:
    return framed(b"deque", walk.spell(None if walk.alike else value.maxlen), _sequence(b"list", walk, value))


def _dict(walk: Walk, value: dict[Any, Any]) -> bytes:
    return framed(b"dict", *sorted(walk.pairs(value.items(), _shown)))


def _ordered_dict(walk: Walk, value: OrderedDict[Any, Any]) -> bytes:
    """Two of them are equal only in the same order."""
    return _dict(walk, value) if walk.alike else framed(b"ordered", *walk.pairs(value.items(), _shown))


def _default_dict(walk: Walk, value: defaultdict[Any, Any]) -> bytes:
    """What is found in it depends on what makes the values that are missing."""
    if walk.alike:
        return _dict(walk, value)
    return framed(b"default", walk.spell(value.default_factory), _dict(walk, value))


def _set(walk: Walk, value: set[Any]) -> bytes:
    return framed(b"set", *sorted(walk.members(enumerate(value), lambda _: "{...}")))


def _frozenset(walk: Walk, value: frozenset[Any]) -> bytes:
    return framed(b"frozenset", *sorted(walk.members(enumerate(value), lambda _: "{...}")))


def _slice(walk: Walk, value: slice) -> bytes:
    return _sequence(b"slice", walk, (value.start, value.stop, value.step))


def _bytearray(walk: Walk, value: bytearray) -> bytes:
    return framed(b"bytes" if walk.alike else b"bytearray", bytes(value))


def _moment(walk: Walk, value: datetime | time) -> bytes:
    """Two zones with one offset part where summer begins."""
    spelled = text(value.isoformat())
    if not walk.alike:
        spelled += number(value.fold) + walk.spell(getattr(value.tzinfo, "key", None))
    return framed(type(value).__name__.encode(), spelled)


CONTAINERS: Final[dict[type, Handler]] = {
    list: _list,
    tuple: _tuple,
    deque: _deque,
    dict: _dict,
    OrderedDict: _ordered_dict,
    defaultdict: _default_dict,
    set: _set,
    frozenset: _frozenset,
    slice: _slice,
    bytearray: _bytearray,
    datetime: _moment,
    time: _moment,
}


def _shown(key: Any) -> str:
    """The way to a value of a dict. Keys that are no names may be anybody's data, and are not told."""
    if type(key) is int or (type(key) is str and key.isidentifier() and len(key) <= _SHOWN_CHARACTERS):
        return f"[{key!r}]"
    return f"[<{type(key).__name__}>]"


def qualified_name(thing: Any) -> str:
    """Module and name of a class or a function, the same whether its file is run, imported, or run by a child.

    What is run is called `__main__` in its process, whatever it is, and `__mp_main__` in those it spawns.
    """
    module: str = thing.__module__
    return f"{_main() if module in ('__main__', '__mp_main__') else module}:{thing.__qualname__}"


def _main() -> str:
    main = sys.modules["__main__"]
    spec, file = getattr(main, "__spec__", None), getattr(main, "__file__", None)
    if spec is not None:
        return spec.name
    return Path(file).stem if file else "__main__"
