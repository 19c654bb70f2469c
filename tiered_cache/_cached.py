"""`Namespace.cached`: functions whose results are kept by their arguments."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine, Mapping
from functools import update_wrapper
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Protocol, Self, TypeVar, cast, overload

from ._arguments import KeyOf, Target
from ._errors import ConfigurationError, UnsupportedValueError
from ._spelling import qualified_name
from ._stats import logger

if TYPE_CHECKING:
    from ._namespace import Namespace

P = ParamSpec("P")
Q = ParamSpec("Q")
S = TypeVar("S")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)


class Cached(Protocol[P, R_co]):
    """A function decorated by `Namespace.cached`. In a class, these are attributes of the function: pass `self` too."""

    @property
    def cache(self) -> Namespace:
        """The namespace of this function alone."""
        ...

    @property
    def uncached(self) -> Callable[P, R_co]:
        """The function as it was."""
        ...

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co: ...

    def key_for(self, *args: P.args, **kwargs: P.kwargs) -> str | bytes:
        """The key of these arguments in `cache`. Raises UnsupportedValueError where they have none."""
        ...

    def invalidate(self, *args: P.args, **kwargs: P.kwargs) -> None:
        """Deletes the result for these arguments."""
        ...

    def clear(self) -> None:
        """Ends all results of this function, of this `version`."""
        ...

    # Under `classmethod`; on the class; as a method; under `staticmethod`.
    @overload
    def __get__(self: Cached[Concatenate[type[S], Q], R], instance: object, owner: type[S], /) -> Callable[Q, R]: ...
    @overload
    def __get__(self, instance: None, owner: type, /) -> Self: ...
    @overload
    def __get__(self: Cached[Concatenate[S, Q], R], instance: S, owner: type, /) -> Callable[Q, R]: ...
    @overload
    def __get__(self, instance: object, owner: type, /) -> Callable[P, R_co]: ...


class AsyncCached(Protocol[P, R_co]):
    """An `async def` decorated by `Namespace.cached`: as `Cached`, where what touches the tiers is awaited."""

    @property
    def cache(self) -> Namespace: ...

    @property
    def uncached(self) -> Callable[P, Coroutine[Any, Any, R_co]]: ...

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R_co]: ...

    def key_for(self, *args: P.args, **kwargs: P.kwargs) -> str | bytes: ...

    async def invalidate(self, *args: P.args, **kwargs: P.kwargs) -> None: ...

    async def clear(self) -> None: ...

    @overload
    def __get__(
        self: AsyncCached[Concatenate[type[S], Q], R], instance: object, owner: type[S], /
    ) -> Callable[Q, Coroutine[Any, Any, R]]: ...
    @overload
    def __get__(self, instance: None, owner: type, /) -> Self: ...
    @overload
    def __get__(
        self: AsyncCached[Concatenate[S, Q], R], instance: S, owner: type, /
    ) -> Callable[Q, Coroutine[Any, Any, R]]: ...
    @overload
    def __get__(self, instance: object, owner: type, /) -> Callable[P, Coroutine[Any, Any, R_co]]: ...


class Tool(Protocol):
    """A tool of LangChain's, by what its types say. It has to be one round a function: `Tool`, `StructuredTool`."""

    name: str
    description: str

    def model_copy(self) -> Any: ...


ToolT = TypeVar("ToolT", bound=Tool)


class Decorator:
    """What `Namespace.cached` returns. `below` makes a namespace of the segments that say which function it is."""

    def __init__(
        self,
        below: Callable[..., Namespace],
        *,
        identified: bool,
        version: str,
        key: KeyOf | None,
        ignore: frozenset[str],
        computing: Mapping[str, Any],
    ) -> None:
        if key is not None and ignore:
            raise ConfigurationError("give a key or what to ignore, not both: a key decides by itself")
        self._below = below
        self._identified = identified
        self._version = [version] if version else []
        self._key = key
        self._ignore = ignore
        self._computing = computing

    @overload
    def __call__(self, function: ToolT, /) -> ToolT: ...
    @overload
    def __call__(  # pyright: ignore[reportOverlappingOverload]  (the more special one comes first)
        self, function: Callable[P, Coroutine[Any, Any, R]], /
    ) -> AsyncCached[P, R]: ...
    @overload
    def __call__(self, function: Callable[P, R], /) -> Cached[P, R]: ...
    def __call__(self, function: Any, /) -> Any:
        if isinstance(function, staticmethod):
            return staticmethod(self(cast("staticmethod[..., Any]", function).__func__))
        if isinstance(function, classmethod):
            return classmethod(self(cast("classmethod[Any, ..., Any]", function).__func__))
        if all(hasattr(function, name) for name in ("func", "coroutine", "model_copy")):
            return self._tool(function)
        target = Target.of(function)
        if not self._identified:
            target.refuse_unidentified()
        space = self._below(qualified_name(target.function), *self._version)
        key_for = target.keys(self._key, self._ignore)
        make = _async if inspect.iscoroutinefunction(function) else _sync
        decorated, invalidate, clear = make(function, space, key_for, self._computing)
        update_wrapper(decorated, target.function)
        decorated.__wrapped__ = decorated.uncached = function
        decorated.cache, decorated.key_for = space, key_for
        decorated.invalidate, decorated.clear = invalidate, clear
        return decorated

    def _tool(self, tool: Any) -> Any:
        copy = tool.model_copy()
        for name in ("func", "coroutine"):
            if getattr(tool, name) is not None:
                setattr(copy, name, self(getattr(tool, name)))
        return copy


class _Call:
    """One call of a function, if it comes to that."""

    __slots__ = ("begun", "done", "result")

    result: Any

    def __init__(self) -> None:
        self.begun = self.done = False

    def not_stored(self, space: Namespace, error: UnsupportedValueError) -> None:
        """The codec cannot carry a result. That costs nobody the result; who waited for another's computes his own."""
        if self.begun and not self.done:  # the function's own error
            raise error
        if self.done:
            space.view.shared.recorder.add("unsupported")
            logger.debug("%s: a result was not stored: %s", space.path, error)


def _async(function: Any, space: Namespace, key_for: KeyOf, computing: Mapping[str, Any]) -> tuple[Any, Any, Any]:
    async def decorated(*args: Any, **kwargs: Any) -> Any:
        key, call = key_for(*args, **kwargs), _Call()

        async def compute() -> Any:
            call.begun = True
            call.result = await function(*args, **kwargs)
            call.done = True
            return call.result

        try:
            return await space.get_or_compute(key, compute, **computing)
        except UnsupportedValueError as error:
            call.not_stored(space, error)
        return call.result if call.done else await function(*args, **kwargs)

    async def invalidate(*args: Any, **kwargs: Any) -> None:
        await space.delete(key_for(*args, **kwargs))

    return decorated, invalidate, space.clear


def _sync(function: Any, space: Namespace, key_for: KeyOf, computing: Mapping[str, Any]) -> tuple[Any, Any, Any]:
    verbs = space.sync

    def decorated(*args: Any, **kwargs: Any) -> Any:
        key, call = key_for(*args, **kwargs), _Call()

        def compute() -> Any:
            call.begun = True
            call.result = function(*args, **kwargs)
            call.done = True
            return call.result

        try:
            return verbs.get_or_compute(key, compute, **computing)
        except UnsupportedValueError as error:
            call.not_stored(space, error)
        return call.result if call.done else function(*args, **kwargs)

    def invalidate(*args: Any, **kwargs: Any) -> None:
        verbs.delete(key_for(*args, **kwargs))

    return decorated, invalidate, verbs.clear
