"""One key for equal values, in every process, on every version of Python and in every release of this package.

A value is spelled out in bytes (`_spelling`), and the key is a digest of that; nothing is pickled. `FORMAT` is part of
every digest, and a table of golden keys in the tests holds the spelling.

What can be told apart has different keys: 1, 1.0 and True; 0.0 and -0.0; a list and a tuple; `Decimal("1.0")` and
`Decimal("1.00")`. A key too many costs a computation, a key too few gives a wrong answer.

Here is how objects are spelled. Those of libraries are known by the names of their classes: nothing is imported.
"""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import Enum, Flag
from functools import cached_property, lru_cache
from hashlib import blake2b
from pathlib import PurePath
from types import BuiltinFunctionType, FunctionType, MemberDescriptorType
from typing import Any, Final

from ._errors import UnsupportedValueError
from ._spelling import CONTAINERS, LEAVES, Handler, SpellingError, Walk, class_of, framed, number, qualified_name, text

FORMAT: Final = b"stable key 1"

_CURE: Final = (
    "convert it to plain data, leave it out of the key, or give its class a method __stable_key__(self) that returns "
    "what identifies it"
)


def stable_key(*args: Any, **kwargs: Any) -> str:
    """A key for these arguments, of 64 hexadecimal digits: the same for equal ones in every process.

    For None, bool, int, float, complex, str, bytes, Decimal, Fraction, dates and times, UUIDs, paths, ranges, slices,
    patterns; enums; lists, tuples, deques, sets and dicts (the order of these two does not matter), and subclasses of
    these that add no state; named tuples; dataclasses (fields with `compare=False` aside); pydantic models (fields and
    extras; not private attributes, and not which fields were set); LangChain's messages; numpy's arrays and scalars;
    functions and classes that can be imported by their name. Types count, those of whole objects by module and name.
    NaN has one key.

    Of a message, what says nothing to a model is left out: its `id`, fields that are empty, and what a cache adds to a
    hit (`total_cost` in its usage, `tiered_cache` in its response metadata).

    Any other class says what identifies its objects by a method `__stable_key__(self)`, which returns any of the above;
    it goes before all these rules. Raises UnsupportedValueError for everything else: it names the type and the place,
    such as `args[0]['docs'][3].metadata`, never the value.
    """
    return digest(args, kwargs)


def digest(args: Sequence[Any], kwargs: Mapping[str, Any], *, alike: bool = False, cure: str = "") -> str:
    """`alike`: types that LangGraph's checkpoints do not keep apart have one key (see `tiered_cache.langgraph`).

    `cure`: what else can be done about a value that has no key.
    """
    walk = Walk(_plan, alike=alike)
    try:
        positional = walk.members(enumerate(args), "args[{}]".format)
        named = walk.pairs(kwargs.items(), str)
    except SpellingError as error:
        raise UnsupportedValueError(f"{error.place}: {error} has no stable key: {error.cure or _CURE}{cure}") from None
    hasher = blake2b(framed(b"args", *positional), digest_size=32, person=FORMAT)
    hasher.update(framed(b"kwargs", *sorted(named)))
    return hasher.hexdigest()


def _refuse(walk: Walk, value: Any) -> bytes:
    raise SpellingError(f"a value of type {qualified_name(class_of(value))}")


def _own_word(walk: Walk, value: Any) -> bytes:
    return framed(b"own", text(qualified_name(class_of(value))), walk.spell(value.__stable_key__()))


def _dataclass(walk: Walk, value: Any) -> bytes:
    kind = class_of(value)
    if "__dataclass_fields__" not in vars(kind):  # a plain class below one: nobody declared what it adds
        known = {field.name for field in dataclasses.fields(value)}
        held: dict[str, Any] = getattr(value, "__dict__", {})
        if not all(isinstance(getattr(kind, name, None), cached_property) for name in held.keys() - known):
            raise SpellingError(f"a value of type {qualified_name(kind)}, whose own attributes are no fields,")
    names = [field.name for field in dataclasses.fields(value) if field.compare]
    return walk.record(class_of(value), [(name, getattr(value, name)) for name in names if hasattr(value, name)])


def _named_tuple(walk: Walk, value: Any) -> bytes:
    kind: Any = class_of(value)
    if getattr(value, "__dict__", None):
        _refuse(walk, value)
    names: Sequence[str] = kind._fields
    return walk.record(kind, zip(names, value, strict=True))


def _enum(walk: Walk, value: Enum) -> bytes:
    """A member is its name, whatever its value; flags may be several, in no order.

    What `_missing_` made is no member, whatever it calls itself: it is its value.
    """
    is_member = class_of(value).__dict__["_member_map_"].get(getattr(value, "_name_", "")) is value
    word = text(value.name) if is_member and not isinstance(value, Flag) else walk.spell(value.value)
    return framed(b"enum", text(qualified_name(class_of(value))), word)


def _path(walk: Walk, value: PurePath) -> bytes:
    """By the bare name of the class: the module that pathlib's are in depends on the version of Python."""
    if getattr(value, "__dict__", None):
        _refuse(walk, value)
    return framed(b"path", text(class_of(value).__name__), text(os.fspath(value)))


def _importable(walk: Walk, value: Any) -> bytes:
    """A function or a class, where its name leads to it."""
    found: Any = sys.modules.get(value.__module__ or "")
    for name in value.__qualname__.split("."):
        found = getattr(found, name, None)
    if found is not value:
        raise SpellingError(
            f"{value.__qualname__}, which cannot be imported by that name,",
            "pass a function or class of a module, or leave it out of the key",
        )
    return framed(b"name", text(qualified_name(value)))


def _subclass(walk: Walk, value: Any) -> bytes:
    """Of a container or of plain data: an object like any other of that kind, as long as it has no state of its own."""
    kind = class_of(value)
    base = next(base for base in kind.__mro__ if base in _BASES)
    own = kind.__mro__[: kind.__mro__.index(base)]
    slots = (item for each in own for item in vars(each).values() if isinstance(item, MemberDescriptorType))
    if getattr(value, "__dict__", None) or any(slots):  # those of classes in C too, such as `time.struct_time`
        _refuse(walk, value)
    spelled = LEAVES[base](value) if base in LEAVES else CONTAINERS[base](walk, value)
    return spelled if walk.alike else framed(b"subclass", text(qualified_name(kind)), spelled)


_BASES: Final = frozenset({kind for kind in CONTAINERS if hasattr(kind, "__iter__")} | {str, bytes, int, float})


# --- objects of libraries ---------------------------------------------------------------------------------------------


def _fields(model: Any) -> dict[str, Any]:
    values: dict[str, Any] = model.__dict__  # among them cached properties
    kind: Any = class_of(model)
    names: Iterable[str] = kind.model_fields
    return {name: values[name] for name in names if name in values} | (getattr(model, "__pydantic_extra__", None) or {})


def _model(walk: Walk, value: Any) -> bytes:
    return walk.record(class_of(value), _fields(value).items())


# What a hit in a cache of a model adds to the answer: LangChain's own code the first, this package the second.
_ADDED: Final = {"usage_metadata": "total_cost", "response_metadata": "tiered_cache"}


def _message(walk: Walk, value: Any) -> bytes:
    """Empty fields are left out: a hit makes a usage of none, and releases add fields that are empty by default."""
    fields = _fields(value)
    if fields.get("type") != "remove":  # which is nothing but an id
        fields.pop("id", None)
    for name, added in _ADDED.items():
        if isinstance(fields.get(name), dict):
            fields[name] = {key: item for key, item in fields[name].items() if key != added}
    return walk.record(class_of(value), [(name, item) for name, item in fields.items() if not _is_empty(item)])


def _is_empty(item: Any) -> bool:
    return item is None or (type(item) in (list, dict) and not item)


def _array(walk: Walk, value: Any) -> bytes:
    """An array or a scalar of numpy: dtype, shape, and the elements in C order, little-endian."""
    dtype = value.dtype
    name: str = dtype.kind
    if dtype.names:
        content = walk.pairs([(name, value[name]) for name in dtype.names], "[{!r}]".format)
    elif dtype.kind in "OT":
        elements: list[Any] = value.reshape(-1).tolist()
        content = walk.members(enumerate(elements), ".flat[{}]".format)
    elif dtype.kind in "biufcmMSU" and dtype.char not in "gG":  # the bytes of a long double mean nothing elsewhere
        dtype = dtype.newbyteorder("<")
        name = dtype.str
        content = [_elements(value.reshape(-1), dtype)]
    else:
        raise SpellingError(f"an array of {dtype.name}", "convert it to another dtype, such as float64")
    tag = b"array" if class_of(value).__name__ in ("ndarray", "memmap") else b"scalar"
    return framed(tag, text(name), framed(b"shape", *map(number, value.shape)), *content)


def _elements(flat: Any, dtype: Any) -> bytes:
    flat = flat.astype(dtype, order="C", copy=False)
    if dtype.kind in "fc":
        numbers = flat.view(f"<f{dtype.itemsize // 2}") if dtype.kind == "c" else flat
        nan = numbers != numbers
        if nan.any():  # its sign depends on the processor
            flat = numbers.copy()
            flat[nan] = float("nan")
    return framed(b"elements", flat.tobytes())


# --- which of these a class is ----------------------------------------------------------------------------------------


def _named(*names: str) -> Callable[[type], bool]:
    return lambda kind: qualified_name(kind) in names


def _below(name: str) -> Callable[[type], bool]:
    return lambda kind: any(qualified_name(base) == name for base in kind.__mro__)


def _among(*kinds: type) -> Callable[[type], bool]:
    return lambda kind: issubclass(kind, kinds)


def _is_named_tuple(kind: type) -> bool:
    return hasattr(kind, "_fields") and issubclass(kind, tuple)


def _is_dataclass(kind: type) -> bool:
    return dataclasses.is_dataclass(kind) and not issubclass(kind, tuple(_BASES))


#: In this order.
_PLANS: Final[tuple[tuple[Callable[[type], bool], Handler], ...]] = (
    (lambda kind: hasattr(kind, "__stable_key__"), _own_word),
    (_below("langchain_core.messages.base:BaseMessage"), _message),
    (_below("numpy:generic"), _array),
    (_named("numpy:ndarray", "numpy:memmap"), _array),
    (lambda kind: _below("pydantic.main:BaseModel")(kind) and hasattr(kind, "model_fields"), _model),
    (_among(Enum), _enum),
    (_among(type, FunctionType, BuiltinFunctionType), _importable),
    (_among(PurePath), _path),
    (_is_named_tuple, _named_tuple),
    (_is_dataclass, _dataclass),
    (_among(*_BASES), _subclass),
)


@lru_cache(maxsize=4096)
def _plan(kind: type) -> Handler:
    return next((handler for fits, handler in _PLANS if fits(kind)), _refuse)
