"""How values become payloads: what comes out equals what went in, type and all, and is a new object each time."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterable
from typing import Any, Final, Protocol, cast

from ._errors import ConfigurationError, UnsupportedValueError
from ._keys import encode_text


class Codec(Protocol):
    """Turns values into bytes and back.

    `id` (1 to 255) is stored beside every payload, and a payload written under another id is a miss: give each form of
    data its own. This package uses 1 to 127: 1 plain data, 2 answers of LangChain's models, 3 results of LangGraph's
    nodes, 4 bytes as they are, 5 embeddings.
    """

    @property
    def id(self) -> int: ...

    def encode(self, value: Any) -> bytes:
        """Raises UnsupportedValueError for a value that would not come out equal."""
        ...

    def decode(self, payload: bytes) -> Any:
        """A new object. Whatever this raises for bytes it cannot read is counted, and is a miss."""
        ...


def checked(codec: Codec) -> Codec:
    """Raises ConfigurationError for what is no codec, before anything is written with it."""
    if not all(callable(getattr(codec, verb, None)) for verb in ("encode", "decode")):
        raise ConfigurationError(f"a codec has the methods encode and decode; a {type(codec).__name__} has not")
    number: Any = getattr(codec, "id", None)
    if type(number) is not int or not 1 <= number <= 255:
        raise ConfigurationError(f"the id of a codec is a number from 1 to 255, not {number!r}")
    return codec


_ESCAPE: Final = "\0"
_BYTES: Final = _ESCAPE + "b"
_TUPLE: Final = _ESCAPE + "t"
_PAIRS: Final = _ESCAPE + "d"

_RAW: Final = b"\x00"
_JSON: Final = b"\x01"

# Far more than data has, and few enough for `json.loads` under the recursion limit however deep its caller is.
_LEVELS: Final = 100

_SCALARS: Final = frozenset((str, int, float, bool, type(None)))

# Not escaped: two lone surrogates side by side would come out as one character.
_ENCODER: Final = json.JSONEncoder(separators=(",", ":"), check_circular=False, ensure_ascii=False)


class PlainCodec:
    """The default: None, bool, int, float, str, bytes, and lists, tuples and dicts of these.

    Types are exact: a tuple comes out as a tuple, a dict keeps the order and the types of its keys, and anything else,
    a subclass included, is refused, since JSON would silently make something different of it.
    """

    id: int = 1

    def encode(self, value: Any) -> bytes:
        if type(value) is bytes:
            return _RAW + value
        try:
            return _JSON + encode_text(_ENCODER.encode(_to_json(value, _LEVELS)))
        except ValueError as error:  # an int of more digits than Python converts to text
            raise UnsupportedValueError(f"a value cannot be stored: {error}") from None

    def decode(self, payload: bytes) -> Any:
        kind, body = payload[:1], payload[1:]
        if kind == _RAW:
            return body
        if kind != _JSON:
            raise ValueError("not a payload of this codec")
        return json.loads(body, object_hook=_from_json if b'"\\u0000' in body else None)


class RawCodec:
    """Bytes as they are, for stores whose values are bytes by contract."""

    id: int = 4

    def encode(self, value: Any) -> bytes:
        if type(value) is not bytes:
            raise UnsupportedValueError(f"this namespace holds bytes, not {type(value).__name__}")
        return value

    def decode(self, payload: bytes) -> bytes:
        return payload


def _to_json(value: Any, levels: int) -> Any:
    """The same in JSON's terms; what JSON has no word for is spelled out under an escaped key."""
    kind = cast("type[object]", type(value))
    if kind in _SCALARS:
        return value
    if levels == 0:
        raise UnsupportedValueError(f"a value in more than {_LEVELS} levels, or containing itself, cannot be stored")
    levels -= 1
    if kind is list:
        return _all_to_json(cast("list[Any]", value), levels)
    if kind is dict:
        pairs = cast("dict[Any, Any]", value)
        for key in pairs:
            if type(key) is not str or key[:1] == _ESCAPE:
                return {_PAIRS: [_all_to_json(pair, levels) for pair in pairs.items()]}
        return {key: item if type(item) in _SCALARS else _to_json(item, levels) for key, item in pairs.items()}
    if kind is bytes:
        return {_BYTES: base64.b64encode(value).decode()}
    if kind is tuple:
        return {_TUPLE: _all_to_json(cast("tuple[Any, ...]", value), levels)}
    raise UnsupportedValueError(
        f"a value of type {kind.__module__}.{kind.__qualname__} cannot be stored by the default codec, which carries "
        "None, bool, int, float, str, bytes, list, tuple and dict: convert it, or give the namespace a codec of its own"
    )


def _all_to_json(values: Iterable[Any], levels: int) -> list[Any]:
    return [item if type(item) in _SCALARS else _to_json(item, levels) for item in values]


_READERS: Final[dict[str, Callable[[Any], Any]]] = {
    _BYTES: lambda body: base64.b64decode(body, validate=True),
    _TUPLE: tuple,
    _PAIRS: lambda body: {key: item for key, item in body},  # noqa: C416  (two items each, or it is an error)
}


def _from_json(found: dict[str, Any]) -> Any:
    if len(found) == 1:
        ((key, body),) = found.items()
        if key.startswith(_ESCAPE):
            return _READERS[key](body)
    return found
