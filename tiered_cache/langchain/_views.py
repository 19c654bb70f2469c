"""Models that exist, under other methods: the same state, seen as an instance of another class.

Some integrations close their connections when a model is finalized. A view has the connections of its model: so it has
no finalizer, and a copy keeps alive what it was copied from.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeVar, cast

from langchain_core.language_models import BaseLanguageModel
from pydantic import BaseModel

KindT = TypeVar("KindT", bound=type[BaseLanguageModel[Any]])
ModelT = TypeVar("ModelT", bound=BaseLanguageModel[Any])

# Where a copy has its original. By the underscore pydantic knows that it is no field.
_ORIGINAL: Final = "_tiered_cache_original"


def once_for_each_kind(make: Callable[[KindT], KindT]) -> Callable[[KindT], KindT]:
    """What `make` makes of a class is kept with that class, and goes with it."""
    name = f"_tiered_cache_{make.__name__.strip('_')}"

    def made(kind: KindT) -> KindT:
        found = vars(kind).get(name)
        if found is None:
            found = make(kind)
            setattr(kind, name, found)
        return cast("KindT", found)

    return made


def subclass(kind: KindT, methods: dict[str, Any]) -> KindT:
    # The same names: from them langchain-core makes the names of runs, providers, and part of the cache's question.
    own = {name: getattr(kind, name) for name in ("__module__", "__qualname__", "__doc__")}
    if hasattr(kind, "__del__"):
        own["__del__"] = _nothing
    return cast("Any", type(kind))(kind.__name__, (kind,), {**own, **methods})


def _nothing(view: object) -> None:
    """Whose connections these are closes them."""


def unfinalized(kind: KindT) -> KindT:
    return kind if getattr(kind, "__del__", _nothing) is _nothing else _unfinalized(kind)


@once_for_each_kind
def _unfinalized(kind: KindT) -> KindT:
    return subclass(kind, {})


def seen_as(kind: type[ModelT], model: ModelT) -> ModelT:
    """`model` itself with the methods of `kind`: both have one state, so whatever one of them keeps the other has.

    For no longer than somebody has `model`.
    """
    view = object.__new__(kind)
    for part in BaseModel.__slots__:
        object.__setattr__(view, part, getattr(model, part))
    return view


def copied_as(kind: type[ModelT], model: ModelT, **changes: Any) -> ModelT:
    """A copy of `model` with the methods of `kind`."""
    copy = seen_as(kind, model)
    for part in BaseModel.__slots__:
        state: Any = getattr(model, part)
        object.__setattr__(copy, part, None if state is None else state.copy())  # at once, whoever changes it meanwhile
    vars(copy).update(changes, **{_ORIGINAL: model})
    copy.model_fields_set.update(changes)
    return copy


def forget_settings(copy: BaseLanguageModel[Any]) -> None:
    """langchain-core writes the settings of a model down once, and does not notice when they are changed."""
    vars(copy).pop("_serialized", None)
