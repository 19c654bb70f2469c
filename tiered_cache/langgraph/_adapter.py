"""LangGraph's `BaseCache`, over the engine."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, NamedTuple, NoReturn, Self, cast

from langgraph.cache.base import BaseCache, FullKey, ValueT
from langgraph.cache.base import Namespace as GraphNamespace
from langgraph.checkpoint.serde.base import SerializerProtocol
from langgraph.checkpoint.serde.types import ERROR, INTERRUPT, RESUME

from tiered_cache import _portal as portal
from tiered_cache._engine import Change
from tiered_cache._errors import ConfigurationError, UnsupportedValueError, no_attribute
from tiered_cache._fail_open import FailOpen
from tiered_cache._freshness import check_cached
from tiered_cache._keys import Key
from tiered_cache._namespace import MISSING, Namespace
from tiered_cache._view import find_across

from ._asking import keys_to_look_up
from ._codec import LangGraphCodec, StrictSerializer

_DEFAULT_NAMESPACE: Final = ("langgraph",)

_FAILED: Final = frozenset((ERROR, INTERRUPT))
_RESUMED: Final = frozenset((RESUME,))

_FOR_MODELS: Final = (
    "this is LangGraph's cache of nodes and tasks; for set_llm_cache and a model's cache= use "
    "tiered_cache.langchain.LangChainCache"
)

# Namespaces that are kept ready: a graph has one for each of its nodes.
_PARTS: Final = 1024


class _Changes(NamedTuple):
    """What a call of `set` comes down to: values to be stored, already serialized, and keys to be deleted."""

    stored: list[Change]
    deleted: list[Key]


class LangGraphCache(BaseCache[ValueT]):
    """Results of LangGraph's nodes and tasks, in both tiers.

    `cache` is a `TieredCache` or a part of one, `namespace` where in it the results live: give each tenant its own.
    LangGraph's own namespaces are exact below it: clearing `("a",)` leaves `("a", "b")`, and `clear()` ends everything
    of this adapter and nothing else.

    `version` names a deployment: results of other versions are not read. Change it with what a node does or returns;
    the key, made of the node's name and input, tells nothing of that. `clear()` without a version ends all of them.

    A task is looked up once, before it starts. While it runs, LangGraph asks for it again, and would add a result that
    another run stored meanwhile to what the task writes itself.

    A `ttl` is in seconds, a float too; 0 and less mean expired at once, None never.

    Values are serialized by `serde`, without pickle, and stored only where they come out equal: by default those made
    of plain data, messages and LangGraph's own types. For others, name their classes:
    `serde=JsonPlusSerializer(allowed_msgpack_modules=[MyState])`.

    No failure of a tier, no value that cannot be stored and no odd `ttl` fails a run: it is counted (`adapter_errors`,
    `unsupported` in `stats()`), the node runs as if there were no cache, and an older value under the key is deleted.
    """

    def __init__(
        self,
        cache: Namespace,
        *,
        serde: SerializerProtocol | None = None,
        namespace: str | Sequence[str] = _DEFAULT_NAMESPACE,
        version: str | None = None,
    ) -> None:
        super().__init__(serde=StrictSerializer() if serde is None else serde)
        if not isinstance(cache, Namespace):  # pyright: ignore[reportUnnecessaryIsInstance]  (callers without types)
            raise ConfigurationError(
                f"a LangGraphCache stands on a TieredCache or one of its namespaces, not on {type(cache).__name__}"
            )
        path = ((namespace,) if isinstance(namespace, str) else tuple(namespace)) + _version(version)
        self._base: Final = cache.namespace(*path, codec=LangGraphCodec(self.serde))
        self._part: Final = lru_cache(_PARTS)(self._make_part)
        self._fail_open: Final = FailOpen(type(self).__name__, self._base)
        self._odd_ttls: Final = FailOpen(f"{type(self).__name__}: a ttl", self._base)
        # For each call of `get` under way, the keys that were set here meanwhile.
        self._set_meanwhile: Final[dict[int, set[FullKey]]] = {}

    def get(self, keys: Sequence[FullKey]) -> dict[FullKey, ValueT]:
        """What was found, under the very keys that were asked. Of a run's own tasks, those that run are left out."""
        return portal.call(self._get, keys, keys_to_look_up(keys))

    async def aget(self, keys: Sequence[FullKey]) -> dict[FullKey, ValueT]:
        """What was found, under the very keys that were asked. Of a run's own tasks, those that run are left out."""
        return await self._get(keys, keys_to_look_up(keys))

    def set(self, pairs: Mapping[FullKey, tuple[ValueT, float | None]]) -> None:
        """Stores all in one transaction; durable on return, unless a failure was counted."""
        portal.call(self._apply, self._changes(pairs))

    async def aset(self, pairs: Mapping[FullKey, tuple[ValueT, float | None]]) -> None:
        """Stores all in one transaction; durable on return, unless a failure was counted."""
        # Serialized before the first await, since LangGraph hands over the very deque that it goes on working with.
        await self._apply(self._changes(pairs))

    def clear(self, namespaces: Sequence[GraphNamespace] | None = None) -> None:
        """Ends everything of this adapter, or of exactly these namespaces; one step each, whatever they hold."""
        portal.call(self.aclear, namespaces)

    async def aclear(self, namespaces: Sequence[GraphNamespace] | None = None) -> None:
        """Ends everything of this adapter, or of exactly these namespaces; one step each, whatever they hold."""
        parts = [self._base] if namespaces is None else [self._part(path) for path in dict.fromkeys(namespaces)]
        for part in parts:
            await self._fail_open.run("clear", part.clear(), None)

    async def _get(self, keys: Sequence[FullKey], wanted: Sequence[FullKey] | None) -> dict[FullKey, ValueT]:
        if wanted is not None:
            values = await self._find(dict.fromkeys(wanted))
            return _found(values, set())
        # Somebody else asks, or a LangGraph that asks in another way. At least no task that ends meanwhile is answered.
        with self._watching_sets() as set_meanwhile:
            values = await self._find(dict.fromkeys(keys))
        return _found(values, set_meanwhile)

    async def _find(self, keys: Iterable[FullKey]) -> list[tuple[FullKey, Any]]:
        """A value or MISSING for each, in one exchange."""
        views = [(asked, self._part(asked[0]).view) for asked in keys]
        # Where the store does not answer, the front may still have some.
        values: list[Any] = [MISSING] * len(views)

        async def read() -> None:
            values[:], error = await find_across([(view, view.scope.key(asked[1])) for asked, view in views])
            if error is not None:
                raise error

        if views:
            await self._fail_open.run("get", read(), None)
        return [(asked, value) for (asked, _), value in zip(views, values, strict=True)]

    def _changes(self, pairs: Mapping[FullKey, tuple[ValueT, float | None]]) -> _Changes:
        for keys in list(self._set_meanwhile.values()):
            keys.update(pairs)
        changes = _Changes([], [])
        for (path, key), (value, ttl) in pairs.items():
            if _is_no_result(value):
                continue
            view = self._part(path).view
            if not _expires_at_once(ttl):
                try:
                    changes.stored.append(view.change(key, value, ttl))
                    continue
                except UnsupportedValueError as error:
                    self._fail_open.unsupported("set", error)
                except ConfigurationError as error:
                    self._odd_ttls.failed("set", error)
            changes.deleted.append(view.scope.key(key))
        return changes

    async def _apply(self, changes: _Changes) -> None:
        shared = self._base.view.shared
        if changes.stored:
            await self._fail_open.run("set", shared.write(changes.stored), None)
        if changes.deleted:
            await self._fail_open.run("set", shared.delete(changes.deleted), None)

    @contextmanager
    def _watching_sets(self) -> Generator[set[FullKey]]:
        keys: set[FullKey] = set()
        self._set_meanwhile[id(keys)] = keys
        try:
            yield keys
        finally:
            del self._set_meanwhile[id(keys)]

    def _make_part(self, path: GraphNamespace) -> Namespace:
        return self._base.namespace(_segment(path))

    def __deepcopy__(self, memo: object) -> Self:
        """Itself: the tiers below are one for all."""
        return self

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> NoReturn:
            raise no_attribute(self, name, {"lookup", "alookup", "update", "aupdate"}, _FOR_MODELS)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._base.path!r}>"


def _found(values: Sequence[tuple[FullKey, Any]], without: set[FullKey]) -> dict[FullKey, Any]:
    found = {key: value for key, value in values if value is not MISSING and key not in without}
    if len(found) < len(values) and any(value is MISSING and key not in without for key, value in values):
        check_cached()
    return found


def _segment(path: GraphNamespace) -> str:
    """A whole namespace of LangGraph's in one segment: no two have the same, and none lies below another."""
    if not all(isinstance(part, str) for part in path):  # pyright: ignore[reportUnnecessaryIsInstance]  (from outside)
        raise ConfigurationError(f"a namespace of LangGraph's is a tuple of str, not {path!r}")
    return "".join(f"{len(part)}:{part}" for part in path)


def _version(version: str | None) -> tuple[str, ...]:
    """A segment that is none of LangGraph's namespaces: those are empty, or begin with a figure."""
    if version is None:
        return ()
    if not isinstance(version, str) or not version:  # pyright: ignore[reportUnnecessaryIsInstance]  (from outside)
        raise ConfigurationError(f"version is a str that names a deployment, or None, not {version!r}")
    return (f"version={version}",)


def _is_no_result(value: object) -> bool:
    """What a task has written that failed or was interrupted: in `invoke`, older LangGraphs hand over that as well.

    Found later, it would skip the task, or, empty, raise IndexError in LangGraph.
    """
    if not isinstance(value, deque):
        return False
    channels = set(map(_channel, cast("deque[object]", value)))
    return channels <= _RESUMED or not channels.isdisjoint(_FAILED)


def _channel(write: object) -> str | None:
    if not isinstance(write, tuple) or not write:
        return None
    channel = cast("tuple[object, ...]", write)[0]
    return channel if isinstance(channel, str) else None


def _expires_at_once(ttl: object) -> bool:
    return isinstance(ttl, (int, float)) and not isinstance(ttl, bool) and ttl <= 0
