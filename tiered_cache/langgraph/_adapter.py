"""LangGraph's `BaseCache`, over the engine."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, Final, NamedTuple

from langgraph.cache.base import BaseCache, FullKey, ValueT
from langgraph.cache.base import Namespace as GraphNamespace
from langgraph.checkpoint.serde.base import SerializerProtocol

from tiered_cache import _portal as portal
from tiered_cache._engine import Change, Result
from tiered_cache._errors import ConfigurationError, StoreUnavailableError, UnsupportedValueError
from tiered_cache._fail_open import FailOpen
from tiered_cache._keys import Key
from tiered_cache._namespace import MISSING, Namespace

from ._codec import LangGraphCodec, StrictSerializer

_DEFAULT_NAMESPACE: Final = ("langgraph",)

# Namespaces that are kept ready: a graph has one for each of its nodes.
_PARTS: Final = 1024


class _Changes(NamedTuple):
    """What a call of `set` comes down to: values to be stored, already serialized, and keys to be deleted."""

    stored: list[Change]
    deleted: list[Key]


class LangGraphCache(BaseCache[ValueT]):
    """Results of LangGraph's nodes and tasks, in both tiers.

    `cache` is a `TieredCache` or a part of one, `namespace` where in it the results live: give each tenant its own, and
    change it when a deployment gives the state another meaning. LangGraph's own namespaces are exact below it: clearing
    `("a",)` leaves `("a", "b")`, and `clear()` ends everything of this adapter and nothing else.

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
    ) -> None:
        super().__init__(serde=StrictSerializer() if serde is None else serde)
        if not isinstance(cache, Namespace):  # pyright: ignore[reportUnnecessaryIsInstance]  (callers without types)
            raise ConfigurationError(
                f"a LangGraphCache stands on a TieredCache or one of its namespaces, not on {type(cache).__name__}"
            )
        path = (namespace,) if isinstance(namespace, str) else namespace
        self._base: Final = cache.namespace(*path, codec=LangGraphCodec(self.serde))
        self._part: Final = lru_cache(_PARTS)(self._make_part)
        self._fail_open: Final = FailOpen(type(self).__name__, self._base)
        self._odd_ttls: Final = FailOpen(f"{type(self).__name__}: a ttl", self._base)
        # For each call of `get` under way, the keys that were set here meanwhile.
        self._set_meanwhile: Final[dict[int, set[FullKey]]] = {}

    def get(self, keys: Sequence[FullKey]) -> dict[FullKey, ValueT]:
        """What was found, under the very keys that were asked."""
        return portal.call(self.aget, keys)

    async def aget(self, keys: Sequence[FullKey]) -> dict[FullKey, ValueT]:
        """What was found, under the very keys that were asked."""
        with self._watching_sets() as set_meanwhile:
            values = await self._find(dict.fromkeys(keys))
        # LangGraph also asks for tasks that are running, and adds what is found to what they write themselves.
        return {key: value for key, value in values if value is not MISSING and key not in set_meanwhile}

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

    async def _find(self, keys: Iterable[FullKey]) -> list[tuple[FullKey, Any]]:
        """A value or MISSING for each, in one exchange."""
        views = [(asked, self._part(asked[0]).view) for asked in keys]
        results: list[Result] = [None] * len(views)

        async def read() -> None:
            results[:] = await self._base.view.shared.engine.read([view.scope.key(asked[1]) for asked, view in views])
            for result in results:
                if isinstance(result, StoreUnavailableError):
                    raise result

        if views:
            await self._fail_open.run("get", read(), None)
        # Where the store did not answer, the front may still have had some.
        return [
            (asked, MISSING if isinstance(result, StoreUnavailableError) else view.value(result))
            for (asked, view), result in zip(views, results, strict=True)
        ]

    def _changes(self, pairs: Mapping[FullKey, tuple[ValueT, float | None]]) -> _Changes:
        for keys in list(self._set_meanwhile.values()):
            keys.update(pairs)
        changes = _Changes([], [])
        for (path, key), (value, ttl) in pairs.items():
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

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._base.path!r}>"


def _segment(path: GraphNamespace) -> str:
    """A whole namespace of LangGraph's in one segment: no two have the same, and none lies below another."""
    if not all(isinstance(part, str) for part in path):  # pyright: ignore[reportUnnecessaryIsInstance]  (from outside)
        raise ConfigurationError(f"a namespace of LangGraph's is a tuple of str, not {path!r}")
    return "".join(f"{len(part)}:{part}" for part in path)


def _expires_at_once(ttl: object) -> bool:
    return isinstance(ttl, (int, float)) and not isinstance(ttl, bool) and ttl <= 0
