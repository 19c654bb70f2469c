"""How a model's answers become a payload: what comes out equals what went in, or it is refused when written."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from math import isnan
from typing import Any, Final, cast

from langchain_core.load import Serializable, dumps, loads
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    ChatMessage,
    ChatMessageChunk,
    FunctionMessage,
    FunctionMessageChunk,
    HumanMessage,
    HumanMessageChunk,
    SystemMessage,
    SystemMessageChunk,
    ToolMessage,
    ToolMessageChunk,
)
from langchain_core.messages.base import TextAccessor
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, Generation, GenerationChunk

from tiered_cache._errors import CorruptValueError, UnsupportedValueError

_GENERATIONS: Final[tuple[type[Generation], ...]] = (Generation, GenerationChunk, ChatGeneration, ChatGenerationChunk)

#: All that a payload can construct. Plain data holders: none of them opens, reads, calls or configures anything.
_ALLOWED: Final[tuple[type[Serializable], ...]] = (
    *_GENERATIONS,
    AIMessage,
    AIMessageChunk,
    HumanMessage,
    HumanMessageChunk,
    SystemMessage,
    SystemMessageChunk,
    ToolMessage,
    ToolMessageChunk,
    FunctionMessage,
    FunctionMessageChunk,
    ChatMessage,
    ChatMessageChunk,
)

# What JSON gives back with the same type, and the str subclass that a chat generation's own `text` is.
_SCALARS: Final = frozenset((str, int, float, bool, type(None), TextAccessor))

# The function under the decorator that announces, once a process, that it is beta. The announcement is for whoever
# chose to call it; the users of a cache did not, and some of them turn warnings into errors.
_loads: Final[Callable[..., Any]] = inspect.unwrap(loads)

_CORE: Final = b"\x01"


class GenerationsCodec:
    """Lists of generations, as langchain-core itself writes them, behind one byte that names the form.

    Carried exactly: text and generation info; messages of langchain-core's own classes with their content blocks, tool
    calls, usage and metadata, NaN and infinities among the numbers. Refused, since langchain-core would make something
    else of it: bytes, tuples, dates, keys that are not text, pydantic models (a parsed answer in `additional_kwargs`),
    classes of other packages, fields that a class does not declare.
    """

    id: int = 2

    def encode(self, value: Any) -> bytes:
        """Raises UnsupportedValueError unless decoding gives back an equal list, types included."""
        try:
            _refuse_foreign(value)
            payload = _CORE + dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")
            if _same(value, self.decode(payload)):
                return payload
        except UnsupportedValueError:
            raise
        except Exception as error:  # noqa: BLE001  (validators of any class may raise anything; each means: not like this)
            raise UnsupportedValueError(f"{_described(value)} cannot be serialized: {type(error).__name__}") from None
        raise UnsupportedValueError(f"{_described(value)} would not come out of langchain-core's serialization equal")

    def decode(self, payload: bytes) -> list[Generation]:
        """New objects. Raises for anything but a list, not empty, of generations."""
        if payload[:1] != _CORE:
            raise CorruptValueError("not a payload of this codec")
        text = payload[1:].decode("utf-8", "surrogatepass")
        found: Any = _loads(text, allowed_objects=_ALLOWED, secrets_from_env=False)
        if type(found) is not list or not found:
            raise CorruptValueError("not a list of generations")
        generations = cast("list[Any]", found)
        if any(type(each) not in _GENERATIONS for each in generations):
            raise CorruptValueError("not a list of generations")
        return generations


def _refuse_foreign(value: Any) -> None:
    """Raises UnsupportedValueError for what langchain-core would turn into its `repr`, without ever asking for it."""
    kind = cast("type[Any]", type(value))
    if kind in _SCALARS:
        return
    if kind is list:
        inner: Iterable[Any] = value
    elif kind is dict:
        inner = (part for pair in value.items() for part in pair)
        if any(type(key) is not str for key in value):
            raise UnsupportedValueError("a dict with keys other than str cannot be stored")
    elif kind in _ALLOWED:
        inner = _fields(value).values()
    else:
        raise UnsupportedValueError(f"a value of type {kind.__module__}.{kind.__qualname__} cannot be stored exactly")
    for each in inner:
        _refuse_foreign(each)


def _same(given: Any, found: Any) -> bool:
    kind = cast("type[Any]", type(given))
    if type(found) is not kind:
        return False
    if kind is list:
        return len(given) == len(found) and all(map(_same, given, found))
    if kind is dict:
        return given.keys() == found.keys() and all(_same(item, found[key]) for key, item in given.items())
    if kind in _ALLOWED:
        return _same(_fields(given), _fields(found))
    return given == found or (kind is float and isnan(given) and isnan(found))


def _fields(model: Serializable) -> dict[str, Any]:
    """The declared fields and, apart from them, what else the instance was given."""
    held = vars(model)
    return {**{name: held[name] for name in type(model).model_fields}, "": model.model_extra or {}}


def _described(value: Any) -> str:
    held = cast("list[Any]", value) if type(value) is list else [value]
    return "an answer of " + ", ".join(sorted({type(each).__qualname__ for each in held}))
