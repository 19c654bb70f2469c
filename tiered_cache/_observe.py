"""Who is told of every operation of a caller, and what: one immutable fact each, without any key or value."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from inspect import iscoroutinefunction
from time import perf_counter
from types import TracebackType
from typing import Any, Final, Literal, NamedTuple, Protocol, Self, runtime_checkable

from ._errors import ConfigurationError
from ._fork import forget_after_fork
from ._keys import Key, Path
from ._stats import logger

OperationName = Literal["get", "set", "delete", "clear", "erase", "get_or_compute"]
Computation = Literal["computed", "joined", "waited", "overtaken", "stale"]


class Operation(NamedTuple):
    """One call of a user of the cache, when it has ended. Holds no key and no value.

    `get_many` is a "get" of many keys, and so on; adapters call the same operations. `namespace` is the path; for keys
    of several namespaces, that of the nearest one above all of them. `keys` is 0 where a namespace as a whole is meant.

    `hits_front`, `hits_store` and `misses` count keys, as `Stats` does; a `get_or_compute` counts each time it looks.
    `seconds` is how long the caller waited, computing included. `outcome` is "ok", "cancelled" (or interrupted), or the
    name of the class of the error that was raised. `computation` is what `Stats` counts of a `get_or_compute`: nothing
    where there was a value; else, in their order, that it "waited" for another process, "joined" another call in this
    one, "computed", was given a "stale" value, and that its result was "overtaken" by a change.
    """

    name: OperationName
    namespace: Path
    keys: int
    hits_front: int
    hits_store: int
    misses: int
    seconds: float
    outcome: str
    computation: tuple[Computation, ...]


@runtime_checkable
class SpanObserver(Protocol):
    """An observer that is told of the beginning as well.

    Both are called in the context of the operation: a context variable that `begin` sets is seen by all that the
    operation does, `compute` of `get_or_compute` above all, and `end` can reset it.
    """

    def begin(self, name: OperationName, namespace: Path, keys: int, /) -> Any:
        """What it returns is handed to `end`."""
        ...

    def end(self, begun: Any, operation: Operation, /) -> object: ...


Observer = Callable[[Operation], object] | SpanObserver


class _AtTheEnd:
    """A plain function as an observer of both ends."""

    def __init__(self, tell: Callable[[Operation], object]) -> None:
        self._tell = tell

    def begin(self, name: OperationName, namespace: Path, keys: int) -> None:
        pass

    def end(self, begun: None, operation: Operation) -> None:
        self._tell(operation)


class Watch:
    """Round an operation, and told what becomes of it. This one tells nobody."""

    __slots__ = ()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        pass

    def found(self, front: int, store: int, missing: int) -> None:
        """How many keys the front had, the store had, neither had."""

    def failed(self, error: Exception) -> None:
        """The operation failed, though it raises nothing."""

    def note(self, what: Computation) -> None:
        pass


NOBODY: Final = Watch()


class _Watched(Watch):
    """Tells observers: those that there were when it began, whoever comes or goes meanwhile."""

    __slots__ = ("_began", "_begun", "_clock", "_computation", "_finds", "_observers", "_outcome", "_what")

    def __init__(
        self,
        observers: Sequence[SpanObserver],
        clock: Callable[[], float],
        name: OperationName,
        namespace: Path,
        keys: int,
    ) -> None:
        self._observers = observers
        self._clock = clock
        self._what = (name, namespace, keys)
        self._begun: list[tuple[SpanObserver, Any]] = []
        self._finds = (0, 0, 0)
        self._outcome = "ok"
        self._computation: tuple[Computation, ...] = ()

    def __enter__(self) -> Self:
        for observer in self._observers:
            try:
                self._begun.append((observer, observer.begin(*self._what)))
            except Exception:  # noqa: BLE001  (its defect must not fail who uses the cache; it is not told of the end)
                logger.exception("an observer failed at the beginning of %s", self._what[0])
        self._began = self._clock()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        seconds = self._clock() - self._began
        if kind is not None:
            self._outcome = kind.__name__ if issubclass(kind, Exception) else "cancelled"
        operation = Operation(*self._what, *self._finds, seconds, self._outcome, self._computation)
        for observer, begun in reversed(self._begun):  # who began last may have set something upon what others set
            try:
                observer.end(begun, operation)
            except Exception:  # noqa: BLE001  (as above)
                logger.exception("an observer failed at the end of %s", operation.name)

    def found(self, front: int, store: int, missing: int) -> None:
        before = self._finds
        self._finds = (before[0] + front, before[1] + store, before[2] + missing)

    def failed(self, error: Exception) -> None:
        self._outcome = type(error).__name__

    def note(self, what: Computation) -> None:
        self._computation += (what,)


class Observers:
    """The observers of one cache, for any thread. `clock` counts seconds and never goes back."""

    def __init__(self, clock: Callable[[], float] = perf_counter) -> None:
        self._clock = clock
        #: Nobody, most of the time: then an operation costs no more than to see that.
        self.told: tuple[SpanObserver, ...] = ()
        self._all: dict[object, SpanObserver] = {}
        self.forget()
        forget_after_fork(self)

    def forget(self) -> None:
        """After a fork, in the child: a thread of the parent may hold the lock."""
        self._lock = threading.Lock()

    def add(self, observer: Observer) -> Callable[[], None]:
        """Returns what removes it. Raises ConfigurationError for what is no observer."""
        if isinstance(observer, SpanObserver):
            one: SpanObserver = observer
        elif callable(observer) and not iscoroutinefunction(observer):  # nobody would await that
            one = _AtTheEnd(observer)
        else:
            raise ConfigurationError(
                f"an observer is a plain function of an Operation (not async), or has begin and end, not {observer!r}"
            )
        mine = object()  # the same observer may be added twice
        with self._lock:
            self._all[mine] = one
            self.told = tuple(self._all.values())

        def remove() -> None:
            with self._lock:
                self._all.pop(mine, None)
                self.told = tuple(self._all.values())

        return remove

    def operation(self, name: OperationName, namespace: Path, keys: int = 0) -> Watch:
        return _Watched(self.told, self._clock, name, namespace, keys) if self.told else NOBODY

    def of_keys(self, name: OperationName, keys: Sequence[Key]) -> Watch:
        return self.operation(name, _above_all(keys), len(keys)) if self.told else NOBODY


def _above_all(keys: Sequence[Key]) -> Path:
    """The longest path that those of all keys begin with."""
    paths = {key.scope.path for key in keys}
    if len(paths) == 1:
        return paths.pop()
    first, last = min(paths), max(paths)
    same = 0
    while same < len(first) and first[same] == last[same]:
        same += 1
    return first[:same]
