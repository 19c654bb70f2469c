"""How LangGraph's values become payloads: by a LangGraph serializer, and only where that is proved not to change them.

    payload    length of the type (1)  type  shape (8)  what the serializer made of the packed value

LangGraph's own serializer makes lists of tuples, and a plain dict of an object whose class it does not know, without
an error. So tuples and the like are packed (spelled out in dicts) before it sees them; what it gives back for a value
is compared with the value before it is stored; and the shape, a digest of the classes in it, is compared on reading,
so that a class renamed or given other fields by a deployment is a miss.

Messages of langchain-core's own classes that hold nothing but plain data are spelled out as well (`_compact`): reading
them so takes half the time, and there is no class in them to look for.
"""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Collection, Iterable
from contextlib import suppress
from functools import lru_cache
from hashlib import blake2b
from typing import Any, Final, cast

from langchain_core.messages.base import TextAccessor
from langgraph.checkpoint.serde.base import SerializerProtocol
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

from tiered_cache._compact import MESSAGES, message, spelled
from tiered_cache._errors import CorruptValueError, UnsupportedValueError

_ESCAPE: Final = "\0"
_TUPLE: Final = _ESCAPE + "t"
_DEQUE: Final = _ESCAPE + "q"
_PAIRS: Final = _ESCAPE + "d"
_TEXT: Final = _ESCAPE + "s"
_MESSAGE: Final = _ESCAPE + "m"

_SCALARS: Final = frozenset((str, int, float, bool, bytes, type(None)))
_CONTAINERS: Final = frozenset((list, tuple, deque))
_PACKED: Final = frozenset((list, tuple, deque, dict, TextAccessor, *MESSAGES))
_SHAPE_BYTES: Final = 8

# Far more than data has, and well below the recursion limit: what runs at that may be anybody's finalizer.
_LEVELS: Final = 200
_NAMED: Final = 8


class StrictSerializer(JsonPlusSerializer):
    """LangGraph's serializer without pickle, and with nothing but LangGraph's own list of safe types.

    To have more types stored, pass `JsonPlusSerializer(allowed_msgpack_modules=[MyState, ...])` instead.
    """

    def __init__(self) -> None:
        super().__init__(pickle_fallback=False, allowed_msgpack_modules=None)

    def loads_typed(self, data: tuple[str, bytes]) -> Any:
        if data[0] == "json":  # never written, and its reader has a wider list
            raise CorruptValueError("not a payload of this serializer")
        return super().loads_typed(data)


class LangGraphCodec:
    """Carries what the serializer carries without changing it."""

    id: int = 3

    def __init__(self, serde: SerializerProtocol) -> None:
        self._serde = serde

    def encode(self, value: Any) -> bytes:
        """Raises UnsupportedValueError, naming classes and never contents, for what would not come out equal."""
        try:
            kind, data = self._serde.dumps_typed(_pack(value, _LEVELS))
            classes: list[type] = []
            equal = self._same(value, _unpack(self._serde.loads_typed((kind, data)), classes))
        except UnsupportedValueError:
            raise
        except Exception as error:  # serializers, and the values' own methods, raise what they like
            raise UnsupportedValueError(f"{_describe(value)} cannot be serialized ({type(error).__name__})") from error
        if not equal:
            raise UnsupportedValueError(
                f"{_describe(value)} would not come out equal: give the cache a serde that knows the classes, such as "
                "JsonPlusSerializer(allowed_msgpack_modules=[...])"
            )
        name = kind.encode()
        return bytes((len(name),)) + name + _shape(classes) + data

    def decode(self, payload: bytes) -> Any:
        start = 1 + payload[0]
        body = start + _SHAPE_BYTES
        classes: list[type] = []
        value = _unpack(self._serde.loads_typed((payload[1:start].decode(), payload[body:])), classes)
        if _shape(classes) != payload[start:body]:
            raise CorruptValueError("the classes of a stored value are no longer what they were")
        return value

    def _same(self, one: Any, other: Any) -> bool:
        """Equal, type and all; what has no equality of its own must at least serialize to the same bytes."""
        kind = cast("type[object]", type(one))
        if kind is not type(other):
            return False
        if kind in _SCALARS:
            return one == other or (one != one and other != other)  # NaN
        if isinstance(one, dict):
            a, b = cast("dict[Any, Any]", one), cast("dict[Any, Any]", other)
            return self._all_same(a, b) and self._all_same(a.values(), b.values())
        if isinstance(one, deque) and cast("deque[Any]", one).maxlen != other.maxlen:
            return False
        if isinstance(one, (list, tuple, deque)):
            return self._all_same(cast("Collection[Any]", one), cast("Collection[Any]", other))
        equal = one == other
        if isinstance(equal, bool) and kind.__eq__ is not object.__eq__:
            alike = equal or (one != one and other != other)
            return alike and all(self._same(getattr(one, name), getattr(other, name)) for name in _fields(kind))
        return self._serde.dumps_typed(one) == self._serde.dumps_typed(other)

    def _all_same(self, ones: Collection[Any], others: Collection[Any]) -> bool:
        return len(ones) == len(others) and all(map(self._same, ones, others))


def _pack(value: Any, levels: int) -> Any:
    """The same in lists and dicts with string keys, of whatever stands in exactly these containers."""
    if not levels:
        raise UnsupportedValueError(f"a value in more than {_LEVELS} levels, or containing itself, cannot be stored")
    levels -= 1
    kind = cast("type[object]", type(value))
    if kind is list:
        return _packed(value, levels)
    if kind is tuple:
        return {_TUPLE: _packed(value, levels)}
    if kind is deque:
        return {_DEQUE: [value.maxlen, _packed(value, levels)]}
    if kind is dict:
        for key in value:
            if type(key) is not str or key[:1] == _ESCAPE:
                return {_PAIRS: [_packed(pair, levels) for pair in value.items()]}
        return {key: _pack(item, levels) if type(item) in _PACKED else item for key, item in value.items()}
    if kind is TextAccessor:  # what `message.text` is
        return {_TEXT: str(value)}
    if kind in MESSAGES and not value.model_extra:
        body = spelled(value)
        return {_MESSAGE: body} if _is_plain(body, levels) else value
    return value


def _packed(values: Iterable[Any], levels: int) -> list[Any]:
    return [_pack(each, levels) if type(each) in _PACKED else each for each in values]


def _is_plain(value: Any, levels: int) -> bool:
    """Whether a serializer gives it back as it is, and nothing in it is to be unpacked."""
    kind = cast("type[object]", type(value))
    if kind is list:
        inner: Iterable[Any] = value
    elif kind is dict:
        if any(type(key) is not str for key in value):
            return False
        inner = value.values()
    else:
        return kind in _SCALARS
    return levels > 0 and all(type(each) in _SCALARS or _is_plain(each, levels - 1) for each in inner)


def _unpack(value: Any, classes: list[type]) -> Any:
    """What was packed. Adds to `classes` those that are neither containers nor plain data, in their order."""
    kind = cast("type[object]", type(value))
    if kind is list:
        return _unpacked(value, classes)
    if kind is not dict:
        _add_classes((value,), classes)
        return value
    if len(value) == 1:
        ((key, body),) = value.items()
        if key == _TUPLE:
            return tuple(_unpacked(body, classes))
        if key == _DEQUE:
            return deque(_unpacked(body[1], classes), body[0])
        if key == _PAIRS:
            return {_unpack(key, classes): _unpack(item, classes) for key, item in body}
        if key == _MESSAGE:
            made = message(body)
            classes.append(type(made))
            return made
        if key == _TEXT:
            classes.append(TextAccessor)
            return TextAccessor(body)
    return {key: item if type(item) in _SCALARS else _unpack(item, classes) for key, item in value.items()}


def _unpacked(values: Iterable[Any], classes: list[type]) -> list[Any]:
    return [each if type(each) in _SCALARS else _unpack(each, classes) for each in values]


def _shape(classes: Iterable[type]) -> bytes:
    digest = blake2b(digest_size=_SHAPE_BYTES)
    for kind in classes:
        digest.update(_description(kind))
    return digest.digest()


def _add_classes(values: Iterable[Any], classes: list[type]) -> None:
    for value in values:
        kind = cast("type[object]", type(value))
        if kind in _SCALARS:
            continue
        if kind is dict:
            for key, item in cast("dict[Any, Any]", value).items():
                if type(key) not in _SCALARS or type(item) not in _SCALARS:
                    _add_classes((key, item), classes)
        elif kind in _CONTAINERS:
            _add_classes(value, classes)
        else:
            classes.append(kind)
            _add_classes([getattr(value, name) for name in _fields(kind)], classes)


@lru_cache(maxsize=4096)
def _fields(kind: Any) -> tuple[str, ...]:
    if dataclasses.is_dataclass(kind):
        return tuple(field.name for field in dataclasses.fields(kind))
    return tuple(getattr(kind, "model_fields", None) or getattr(kind, "_fields", ()))


@lru_cache(maxsize=4096)
def _description(kind: type) -> bytes:
    return repr((kind.__module__, kind.__qualname__, _fields(kind))).encode()


def _describe(value: Any) -> str:
    found: list[type[object]] = [type(value)]
    with suppress(AttributeError, RecursionError):  # the outermost will do
        _add_classes((value,), found)
    names = dict.fromkeys(f"{kind.__module__}.{kind.__qualname__}" for kind in found)
    return "a value of " + ", ".join(list(names)[:_NAMED])
