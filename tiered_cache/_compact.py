"""langchain-core's messages and generations, compact: the class and those fields that construction would not give.

    ["AIMessage", {"content": "...", ...}]
    [["ChatGeneration", {"generation_info": ..., "message": ["AIMessage", {"content": "...", ...}]}], ...]    in JSON

Neither direction promises anything alone: whoever writes proves, by reading back, that the result equals the value.
Reading makes nothing but these classes, whoever wrote the bytes: fields that are plainly of their declared types are
put in place, and all others go through the class's own validation.
"""

from __future__ import annotations

from collections.abc import Callable
from types import NoneType
from typing import Any, Final, cast

from langchain_core.load import Serializable
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    BaseMessage,
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
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, Generation, GenerationChunk
from pydantic_core import from_json, to_json

from tiered_cache._errors import CorruptValueError

GENERATIONS: Final[tuple[type[Generation], ...]] = (Generation, GenerationChunk, ChatGeneration, ChatGenerationChunk)
MESSAGES: Final[tuple[type[BaseMessage], ...]] = (
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

_GENERATION_OF: Final = {kind.__name__: kind for kind in GENERATIONS}
_MESSAGE_OF: Final = {kind.__name__: kind for kind in MESSAGES}

# What construction gives; where that takes more than looking, something that equals nothing.
_DEFAULTS: Final[dict[type[Serializable], dict[str, Any]]] = {
    kind: {
        name: field.default_factory() if field.default_factory in (dict, list) else field.default
        for name, field in kind.model_fields.items()
    }
    for kind in (*GENERATIONS, *MESSAGES)
}


def pack(generations: list[Generation]) -> bytes:
    """Raises where JSON has no word for something in it, a lone surrogate included."""
    return to_json([spelled(each) for each in generations], inf_nan_mode="constants")


def unpack(data: bytes) -> list[Generation]:
    """New objects. Raises for anything but a list, not empty, of generations."""
    found: Any = from_json(data)
    if type(found) is not list or not found:
        raise CorruptValueError("not a list of generations")
    return [_generation(each) for each in cast("list[Any]", found)]


def spelled(model: Any) -> list[Any]:
    """The name of the class, and the fields, for a model of one of the classes above."""
    kind = cast("type[Any]", type(model))
    held, given = vars(cast("Serializable", model)), model.model_fields_set
    fields: dict[str, Any] = {
        name: held[name]
        for name, default in _DEFAULTS[kind].items()
        if name in given or (held[name] is not default and held[name] != default)
    }
    if "message" in fields:
        fields["message"] = spelled(model.message)
        fields.pop("text", None)  # what the message says, or the proof fails
    return [kind.__name__, fields]


def message(found: Any) -> BaseMessage:
    """A new one of what `spelled` made of it. Raises for anything else."""
    name, fields = found
    return _made(_MESSAGE_OF[name], fields)


def _generation(found: Any) -> Generation:
    name, fields = found
    if "message" in fields:
        fields["message"] = message(fields["message"])
    return _made(_GENERATION_OF[name], fields)


def _made(kind: Any, fields: dict[str, Any]) -> Any:
    plain = _PLAIN.get(kind)
    if plain is not None and plain.fits(fields):
        return plain.made(fields)
    if not fields.keys() <= _DEFAULTS[kind].keys():
        raise CorruptValueError("not the fields of its class")
    return kind(**fields)


class _Plain:
    """Makes a model of fields that are known to be valid, in half the time that validating them takes."""

    def __init__(self, kind: type[Serializable]) -> None:
        self._kind = kind
        self._required = {name for name, field in kind.model_fields.items() if field.is_required()}
        self._held = _DEFAULTS[kind]
        self._type = self._held["type"]
        self._fresh = [name for name, default in self._held.items() if type(default) in (dict, list)]
        self._types = {name: types for name, types in _TYPES.items() if name in self._held}
        self._extra_allowed = kind.model_config.get("extra") == "allow"
        self._has_message = "message" in self._held

    def fits(self, fields: dict[str, Any]) -> bool:
        """Whether validation would surely leave all as it is. A no is no verdict: let validation decide."""
        types = self._types
        for name, value in fields.items():
            if name not in types or type(value) not in types[name]:
                return False
            if name in _PARTS and not _PARTS[name](value):
                return False
        return self._required <= fields.keys() and fields.get("type", self._type) == self._type

    def made(self, fields: dict[str, Any]) -> Any:
        held, given = {**self._held, **fields}, {*fields}
        for name in self._fresh:
            if name not in given:
                held[name] = held[name].copy()
        if self._has_message:
            held["text"] = _SAID(held["message"].content)
            given.add("text")
        model = _new(self._kind)
        _set(model, "__dict__", held)
        _set(model, "__pydantic_fields_set__", given)
        _set(model, "__pydantic_extra__", {} if self._extra_allowed else None)
        _set(model, "__pydantic_private__", None)
        return model


# As pydantic's own `model_construct` and `__setstate__` do.
_new: Final[Callable[[type[Any]], Any]] = object.__new__
_set: Final = object.__setattr__


def _are_content(value: Any) -> bool:
    return type(value) is str or all(type(each) in (str, dict) for each in cast("list[Any]", value))


def _are_counts(value: dict[str, Any]) -> bool:
    for name, count in value.items():
        if name in _DETAILS:
            if type(count) is not dict or not all(type(each) is int for each in cast("dict[str, Any]", count).values()):
                return False
        elif type(count) is not int:
            return False
    return value.keys() >= _COUNTS


def _are_tool_calls(value: list[Any]) -> bool:
    return all(
        type(each) is dict
        and each.keys() == _TOOL_CALL
        and type(each["name"]) is str
        and type(each["args"]) is dict
        and type(each["id"]) in _TEXT_OR_NONE
        and each["type"] == "tool_call"
        for each in value
    )


# `str`, or what a message's `text` is.
_SAID: Final[type[str]] = type(ChatGeneration(message=AIMessage("a")).text)

_COUNTS: Final = {"input_tokens", "output_tokens", "total_tokens"}
_DETAILS: Final = {"input_token_details", "output_token_details"}
_TOOL_CALL: Final = {"name", "args", "id", "type"}

_TEXT_OR_NONE: Final = frozenset((str, NoneType))
_DICT_OR_NONE: Final = frozenset((dict, NoneType))

_TYPES: Final[dict[str, frozenset[type]]] = {
    "type": frozenset((str,)),
    "text": frozenset((str,)),
    "generation_info": _DICT_OR_NONE,
    "message": frozenset(MESSAGES),  # made a moment ago
    "content": frozenset((str, list)),
    "additional_kwargs": frozenset((dict,)),
    "response_metadata": frozenset((dict,)),
    "name": _TEXT_OR_NONE,
    "id": _TEXT_OR_NONE,
    "tool_calls": frozenset((list,)),
    "invalid_tool_calls": frozenset((list,)),
    "usage_metadata": _DICT_OR_NONE,
}

_PARTS: Final[dict[str, Callable[[Any], bool]]] = {
    "message": lambda message: type(message.content) is str,  # what blocks say is for the class to find out
    "content": _are_content,
    "tool_calls": _are_tool_calls,
    "invalid_tool_calls": lambda calls: not calls,  # rare
    "usage_metadata": lambda counts: counts is None or _are_counts(counts),
}

_SAMPLES: Final[dict[type[Serializable], dict[str, Any]]] = {
    Generation: {"text": "a", "generation_info": {"b": 1}},
    ChatGeneration: {"message": AIMessage("a"), "generation_info": {"b": 1}},
    AIMessage: {
        "content": "a",
        "additional_kwargs": {"b": 1},
        "response_metadata": {"c": 1},
        "tool_calls": [{"name": "d", "args": {"e": 1}, "id": "f", "type": "tool_call"}],
        "usage_metadata": {"input_tokens": 1, "output_tokens": 2, "total_tokens": 3, "input_token_details": {"g": 1}},
    },
}


def _proved(kind: type[Serializable]) -> _Plain | None:
    """None where this release of langchain-core makes something else of a class's fields: they are to be validated."""
    plain, sample = _Plain(kind), _SAMPLES[kind]
    return plain if plain.fits(sample) and plain.made(sample).__getstate__() == kind(**sample).__getstate__() else None


_PLAIN: Final = {kind: _proved(kind) for kind in _SAMPLES}
