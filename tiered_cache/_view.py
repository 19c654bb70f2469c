"""What stands behind a namespace: its place, its settings, and how values get into envelopes and out again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any, Final, Literal

from ._cells import made_at, payload_of, seal
from ._codecs import Codec, checked
from ._engine import Change, Engine, Result
from ._errors import StoreUnavailableError, UnsupportedValueError
from ._flights import Flights
from ._freshness import Freshness, around
from ._keys import Key, Scope, encode_text, scope_of
from ._look import Answer
from ._observe import NOBODY, Observers, Watch
from ._options import check_ttl, milliseconds
from ._stats import Recorder


class Absent(Enum):
    """The type of `MISSING`, so that None can be a value like any other."""

    MISSING = "missing"

    def __repr__(self) -> str:
        return "MISSING"


MISSING: Final = Absent.MISSING


class Inherit(Enum):
    """The type of `INHERIT`: the setting of the namespace above, where None has a meaning of its own."""

    INHERIT = "inherit"

    def __repr__(self) -> str:
        return "INHERIT"


INHERIT: Final = Inherit.INHERIT

_SHOWN_CHARACTERS: Final = 60

Ttl = float | None | Literal[Inherit.INHERIT]

#: Whether an intact envelope is fresh enough for one reader.
Judge = Callable[[bytes], bool]


def everything_is_fresh(envelope: bytes) -> bool:
    """The judge of a reader who asks for nothing, whatever is said round him."""
    return True


def nothing_is_fresh(envelope: bytes) -> bool:
    """The judge of a reader who wants everything anew."""
    return False


@dataclass(frozen=True, slots=True)
class Shared:
    """What all views of one cache have in common."""

    engine: Engine
    flights: Flights
    recorder: Recorder
    serve_miss: bool
    compress_above: int | None
    lease_ttl: float
    observers: Observers

    @property
    def unwatched(self) -> bool:
        """Whether nobody is told of what is read now, and nothing is said round it: most of the time."""
        return not self.observers.told and around.get() is None

    def judge(self, wanted: Freshness | None) -> Judge | None:
        """None where everything is fresh enough. Before one is asked, the engine is to `learn_time`."""
        if wanted is None:
            return None
        if wanted.refresh:
            return nothing_is_fresh
        if wanted.max_age is None:
            return None
        clock, most = self.engine.clock, milliseconds(wanted.max_age)

        def is_young(envelope: bytes) -> bool:
            age = clock.age(made_at(envelope))
            return age is not None and age <= most

        return is_young

    async def write(self, changes: Sequence[Change]) -> None:
        keys = [change.key for change in changes]
        with self.observers.of_keys("set", keys), self.flights.overtaken(keys):
            await self.engine.write(changes)

    async def delete(self, keys: Sequence[Key]) -> None:
        with self.observers.of_keys("delete", keys), self.flights.overtaken(keys):
            await self.engine.delete(keys)

    async def clear(self, scope: Scope) -> None:
        with self.observers.operation("clear", scope.path), self.flights.cleared(scope):
            await self.engine.clear(scope)

    async def erase(self, scope: Scope) -> int:
        with self.observers.operation("erase", scope.path), self.flights.cleared(scope):
            return await self.engine.erase(scope)


@dataclass(frozen=True, slots=True)
class Settings:
    """What a view adds to its path."""

    ttl: float | None
    codec: Codec
    listed: bool = False


@dataclass(frozen=True, slots=True)
class View:
    """A namespace as the engine knows it. Namespaces and adapters are faces of it."""

    shared: Shared
    scope: Scope
    settings: Settings

    def below(self, segments: tuple[str, ...], ttl: Ttl, codec: Codec | None, *, listed: bool) -> View:
        settings = Settings(self.ttl(ttl), self.settings.codec if codec is None else checked(codec), listed)
        return replace(self, scope=scope_of(self.scope.path + segments), settings=settings)

    def ttl(self, given: Ttl) -> float | None:
        """In seconds. Raises ConfigurationError for one that is not above 0."""
        if given is INHERIT:
            return self.settings.ttl
        return None if given is None else check_ttl(given)

    def change(self, name: str | bytes, value: Any, ttl: float | None) -> Change:
        """The value, encoded. Raises UnsupportedValueError naming the key and the type."""
        key = self.scope.key(name)
        codec = self.settings.codec
        try:
            payload = codec.encode(value)
        except UnsupportedValueError as error:
            raise UnsupportedValueError(f"{_shown(name)}: {error}") from error
        except Exception as error:  # a codec may raise anything; its message may quote the value
            raise UnsupportedValueError(f"{_shown(name)}: the codec raised {type(error).__name__}") from error
        milli = None if ttl is None else milliseconds(check_ttl(ttl))
        envelope = seal(key.digest, codec.id, payload, self.shared.compress_above, self.shared.engine.clock.earliest())
        return Change(key, envelope, milli, self.settings.listed)

    def value(self, result: Result, judge: Judge | None = None) -> Any:
        """A new object, or MISSING. Raises the error where the store would have been needed."""
        if isinstance(result, StoreUnavailableError):
            if self.shared.serve_miss:
                return MISSING
            raise result.with_traceback(None)  # one for all who asked: it would collect their tracebacks
        if result is None:
            return MISSING
        value = self.open(result.envelope) if judge is None or judge(result.envelope) else MISSING
        if value is MISSING:  # it was counted as a hit when it was found
            self.shared.recorder.add("hits_front" if result.from_front else "hits_store", -1)
            self.shared.recorder.add("misses")
        return value

    def open(self, envelope: bytes) -> Any:
        """What an intact envelope holds, or MISSING where this view's codec cannot read it."""
        payload = payload_of(envelope, self.settings.codec.id)
        if payload is not None:
            try:
                return self.settings.codec.decode(payload)
            except Exception:  # noqa: BLE001, S110  (a codec may raise anything; what cannot be read is a miss)
                pass
        self.shared.recorder.add("corrupt")
        return MISSING

    async def page(self, prefix: str | bytes, after: bytes) -> Sequence[tuple[bytes, bytes]]:
        """The next valid (digest, name) after a digest, of names that begin with `prefix`; nothing at the end."""
        wanted = b"s" + encode_text(prefix) if isinstance(prefix, str) else b"b" + prefix
        return await self.shared.engine.upkeep.names(self.scope, wanted, after)


def _shown(name: str | bytes) -> str:
    """The beginning of a key: enough to find it, and no prompt as a whole in anybody's logs."""
    text = repr(name[:_SHOWN_CHARACTERS])
    return text if len(name) <= _SHOWN_CHARACTERS else f"{text}..."


async def read_across(
    wanted: Sequence[tuple[View, Key]], watch: Watch | None = None, judge: Judge | None = None
) -> list[Any]:
    """One value or MISSING each, for keys of any namespaces of one cache, in one exchange.

    Those that are fresh enough for `judge`; None: for what is said round the call. With a `watch` it is a part of that
    operation, else one of its own. Raises the error where the store would have been needed.
    """
    if not wanted:
        return []
    shared = wanted[0][0].shared
    if judge is not None or not shared.unwatched:
        values, error = await (find_across(wanted, judge) if watch is None else _find(wanted, watch, judge))
        if error is not None and not shared.serve_miss:
            raise error.with_traceback(None)
        return values
    results = await shared.engine.read([key for _, key in wanted])
    return [view.value(result) for (view, _), result in zip(wanted, results, strict=True)]


async def find_across(
    wanted: Sequence[tuple[View, Key]], judge: Judge | None = None
) -> tuple[list[Any], StoreUnavailableError | None]:
    """The same for those who take what there is: the values, and the error where the store would have been needed."""
    shared = wanted[0][0].shared
    with shared.observers.of_keys("get", [key for _, key in wanted]) as watch:
        values, error = await _find(wanted, watch, judge)
        if error is not None and not shared.serve_miss:
            watch.failed(error)
        return values, error


async def _find(
    wanted: Sequence[tuple[View, Key]], watch: Watch, judge: Judge | None
) -> tuple[list[Any], StoreUnavailableError | None]:
    shared = wanted[0][0].shared
    if judge is None:
        judge = shared.judge(around.get())
    if judge is nothing_is_fresh:
        shared.recorder.add("misses", len(wanted))
        results: Sequence[Result] = [None] * len(wanted)
    else:
        results = await shared.engine.read([key for _, key in wanted])
    if judge is not None:
        await shared.engine.inquiries.learn_time()
    error = next((result for result in results if isinstance(result, StoreUnavailableError)), None)
    values = [
        MISSING if isinstance(result, StoreUnavailableError) else view.value(result, judge)
        for (view, _), result in zip(wanted, results, strict=True)
    ]
    if watch is not NOBODY:
        had = [
            result.from_front
            for result, value in zip(results, values, strict=True)
            if value is not MISSING and isinstance(result, Answer)
        ]
        front = sum(had)
        watch.found(front, len(had) - front, len(values) - len(had))
    return values, error
