"""How a model's answers become a payload: what comes out equals what went in, or it is refused when written."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from math import isnan
from typing import Any, Final, cast

from langchain_core.load import Serializable, dumps, loads
from langchain_core.messages.base import TextAccessor
from langchain_core.outputs import Generation

from tiered_cache._compact import GENERATIONS, MESSAGES, pack, unpack
from tiered_cache._errors import CorruptValueError, UnsupportedValueError

#: All that a payload can construct. Plain data holders: none of them opens, reads, calls or configures anything.
_ALLOWED: Final[tuple[type[Serializable], ...]] = (*GENERATIONS, *MESSAGES)
_MODELS: Final = frozenset(_ALLOWED)

# What JSON gives back with the same type, and the str subclass that a chat generation's own `text` is.
_SCALARS: Final = frozenset((str, int, float, bool, type(None), TextAccessor))

# The function under the decorator that announces, once a process, that it is beta. The announcement is for whoever
# chose to call it; the users of a cache did not, and some of them turn warnings into errors.
_loads: Final[Callable[..., Any]] = inspect.unwrap(loads)

# Far more than data has, and well below the recursion limit: what runs at that may be anybody's finalizer.
_LEVELS: Final = 400

_CORE: Final = b"\x01"
_COMPACT: Final = b"\x02"


class GenerationsCodec:
    """Lists of generations behind one byte that names the form: compact, or as langchain-core itself writes them.

    Carried exactly: text and generation info; messages of langchain-core's own classes with their content blocks, tool
    calls, usage and metadata, NaN and infinities among the numbers. Refused, since langchain-core would make something
    else of it: bytes, tuples, dates, keys that are not text, pydantic models (a parsed answer in `additional_kwargs`),
    classes of other packages, fields that a class does not declare.
    """

    id: int = 2

    def encode(self, value: Any) -> bytes:
        """Raises UnsupportedValueError unless decoding gives back an equal list, types included."""
        try:
            _refuse_foreign(value, _LEVELS)
            payload = _compact(value) or _core(value)
        except UnsupportedValueError:
            raise
        except Exception as error:  # noqa: BLE001  (validators of any class may raise anything; each means: not like this)
            raise UnsupportedValueError(f"{_described(value)} cannot be serialized: {type(error).__name__}") from None
        if payload is None:
            raise UnsupportedValueError(
                f"{_described(value)} would not come out of langchain-core's serialization equal"
            )
        return payload

    def decode(self, payload: bytes) -> list[Generation]:
        """New objects. Raises for anything but a list, not empty, of generations."""
        form, body = payload[:1], payload[1:]
        if form == _COMPACT:
            return unpack(body)
        if form == _CORE:
            return _read_core(body)
        raise CorruptValueError("not a payload of this codec")


def _compact(value: Any) -> bytes | None:
    """None where the compact form would not give back an equal list."""
    try:
        body = pack(value)
        return _COMPACT + body if _same(value, unpack(body)) else None
    except Exception:  # noqa: BLE001  (whatever it is, the general form may still carry the value)
        return None


def _core(value: Any) -> bytes | None:
    """None where langchain-core's form would not give back an equal list."""
    body = dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")
    return _CORE + body if _same(value, _read_core(body)) else None


def _read_core(body: bytes) -> list[Generation]:
    found: Any = _loads(body.decode("utf-8", "surrogatepass"), allowed_objects=_ALLOWED, secrets_from_env=False)
    if type(found) is not list or not found:
        raise CorruptValueError("not a list of generations")
    generations = cast("list[Any]", found)
    if any(type(each) not in GENERATIONS for each in generations):
        raise CorruptValueError("not a list of generations")
    return generations


def _refuse_foreign(value: Any, levels: int) -> None:
    """Raises UnsupportedValueError for what serializers would turn into something else, without ever asking for it."""
    if not levels:
        raise UnsupportedValueError(f"an answer in more than {_LEVELS} levels, or containing itself, cannot be stored")
    kind = cast("type[Any]", type(value))
    if kind is dict:
        if any(type(key) is not str for key in value):
            raise UnsupportedValueError("a dict with keys other than str cannot be stored")
        inner: Iterable[Any] = value.values()
    elif kind is list:
        inner = value
    elif kind in _MODELS:
        inner = _fields(value).values()
    elif kind in _SCALARS:
        return
    else:
        raise UnsupportedValueError(f"a value of type {kind.__module__}.{kind.__qualname__} cannot be stored exactly")
    for item in inner:
        if type(item) not in _SCALARS:
            _refuse_foreign(item, levels - 1)


def _same(given: Any, found: Any) -> bool:
    kind = cast("type[Any]", type(given))
    if type(found) is not kind:
        return False
    if kind in _SCALARS:
        return given == found or (kind is float and isnan(given) and isnan(found))
    if kind is dict:
        return given.keys() == found.keys() and all(map(_same, given.values(), [found[key] for key in given]))
    if kind is list:
        return len(given) == len(found) and all(map(_same, given, found))
    return kind in _MODELS and _same(_fields(given), _fields(found))


def _fields(model: Serializable) -> dict[str, Any]:
    """The declared fields and, apart from them, what else the instance was given."""
    held = vars(model)
    return {**{name: held[name] for name in type(model).model_fields}, "": model.model_extra or {}}


def _described(value: Any) -> str:
    held = cast("list[Any]", value) if type(value) is list else [value]
    return "an answer of " + ", ".join(sorted({type(each).__qualname__ for each in held}))
