"""How the adapters keep the promise that a cache never breaks its caller."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from ._errors import ConfigurationError, NotCachedError, TieredCacheError, UnsupportedValueError
from ._guard import Condition
from ._namespace import Namespace
from ._stats import logger

T = TypeVar("T")


class FailOpen:
    """Turns failures into an answer for one adapter: counted, and logged once per change of state.

    A wrong argument is still an exception: it would fail on every call, and nobody would look into the counters. So is
    what the caller has asked for, where nothing is cached.
    """

    def __init__(self, name: str, namespace: Namespace) -> None:
        self._recorder = namespace.view.shared.recorder
        self._condition = Condition(name, "going on without the cache")
        self._name = name

    async def run(self, operation: str, call: Awaitable[T], otherwise: T) -> T:
        """What `call` returns, or `otherwise`."""
        try:
            result = await call
        except TieredCacheError as error:
            self._go_on(operation, error)
            return otherwise
        self._condition.worked()
        return result

    def call(self, operation: str, call: Callable[[], T], otherwise: T) -> T:
        """The same for what has to run in the thread of a synchronous caller."""
        try:
            result = call()
        except TieredCacheError as error:
            self._go_on(operation, error)
            return otherwise
        self._condition.worked()
        return result

    def _go_on(self, operation: str, error: TieredCacheError) -> None:
        if isinstance(error, (ConfigurationError, NotCachedError)):
            raise error
        if isinstance(error, UnsupportedValueError):
            self.unsupported(operation, error)
        else:
            self.failed(operation, error)

    def failed(self, operation: str, error: TieredCacheError) -> None:
        """A call, or a part of one, that went on without the cache."""
        self._recorder.add("adapter_errors")
        self._condition.failed(f"{operation}: {error}")

    def unsupported(self, operation: str, error: UnsupportedValueError) -> None:
        """A value that cannot be stored: counted, and described at debug level, since it may quote a key."""
        self._recorder.add("unsupported")
        logger.debug("%s: %s: not stored: %s", self._name, operation, error)
