"""Functions and the arguments of their calls: which function it is, and one key for one call however it is written."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final, NamedTuple, cast

from ._errors import ConfigurationError
from ._stable import digest

_CURE: Final = "; an argument is left out by naming it: cached(ignore=...)"

_ANYTHING: Final = {inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD}

KeyOf = Callable[..., str | bytes]


def _signature_of(function: Any, *, follow_wrapped: bool = True) -> inspect.Signature | None:
    try:
        return inspect.signature(function, follow_wrapped=follow_wrapped)
    except ValueError:
        return None


class Target(NamedTuple):
    """The function behind methods and partials, and the arguments these bring along."""

    function: Any
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = {}

    @classmethod
    def of(cls, function: Any) -> Target:
        """Raises ConfigurationError for what cannot be cached."""
        if isinstance(function, partial):
            given = cast("partial[Any]", function)
            inner = cls.of(given.func)
            return Target(inner.function, (*inner.args, *given.args), {**inner.kwargs, **given.keywords})
        if inspect.ismethod(function):
            return cls.of(function.__func__)._replace(args=(function.__self__,))
        if not callable(function) or inspect.isclass(function) or not hasattr(function, "__qualname__"):
            raise ConfigurationError(
                f"cached is for functions, methods, and functools.partial of these, not a {type(function).__name__}"
            )
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise ConfigurationError(f"{function.__qualname__} is a generator, which is used up once: return a list")
        return Target(function)

    def refuse_unidentified(self) -> None:
        """Raises ConfigurationError where another function of the same name may be a different one."""
        function = inspect.unwrap(self.function)
        name: str = function.__qualname__
        variables = set(getattr(getattr(function, "__code__", None), "co_freevars", ()))
        variables -= {"__class__", function.__name__}  # of `super()`, and of a function that calls itself
        if variables or function.__name__ == "<lambda>":
            used = f", which uses {', '.join(sorted(variables))} of where it is defined," if variables else ""
            raise ConfigurationError(f"{name}{used} is not known by its name: say which it is, cached(namespace=...)")

    def keys(self, own: KeyOf | None, ignore: frozenset[str]) -> KeyOf:
        """What makes the key of a call: `own`, or that of the arguments by their names, without those to ignore."""
        return self._by_signature(ignore) if own is None else self._completed(own)

    def _completed(self, own: KeyOf) -> KeyOf:
        if not self.args and not self.kwargs:
            return own
        return lambda *args, **kwargs: own(*self.args, *args, **{**self.kwargs, **kwargs})

    def _signature(self) -> tuple[inspect.Signature | None, bool]:
        """That of the function, and whether it is its own.

        One that takes anything, below a decorator, has that of what is decorated: but what is passed on, and with which
        defaults, is for the decorator to say.
        """
        own, below = _signature_of(self.function, follow_wrapped=False), _signature_of(self.function)
        if own is not None and not (below != own and {each.kind for each in own.parameters.values()} == _ANYTHING):
            return own, True
        return below, False

    def _by_signature(self, ignore: frozenset[str]) -> KeyOf:
        name: str = self.function.__qualname__
        signature, own = self._signature()
        if signature is None:  # some builtins
            raise ConfigurationError(f"{name} does not tell its arguments: give a key")
        kinds = {parameter.kind: parameter.name for parameter in signature.parameters.values()}
        rest = kinds.get(inspect.Parameter.VAR_KEYWORD)
        unknown = ignore - set(signature.parameters)
        if unknown and rest is None:
            raise ConfigurationError(f"{name} has no argument {', '.join(sorted(unknown))} to ignore")

        def key_for(*args: Any, **kwargs: Any) -> str:
            args, kwargs = (*self.args, *args), {**self.kwargs, **kwargs}
            try:
                bound = signature.bind(*args, **kwargs)
            except TypeError:
                if own:
                    raise
                # A decorator that gives some of the arguments itself, or has some of its own.
                return digest(args, {name: value for name, value in kwargs.items() if name not in ignore}, cure=_CURE)
            if own:
                bound.apply_defaults()
            named = {name: value for name, value in bound.arguments.items() if name not in ignore}
            if unknown and rest in named:
                named[rest] = {name: value for name, value in named[rest].items() if name not in ignore}
            return digest((), named, cure=_CURE)

        return key_for
