"""LangChain's byte store, which its embeddings cache stands on."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator, Iterable, Sequence
from typing import Final

from langchain_core.stores import BaseStore

from tiered_cache import _portal as portal
from tiered_cache._codecs import RawCodec
from tiered_cache._errors import ConfigurationError, UnsupportedValueError
from tiered_cache._fail_open import FailOpen
from tiered_cache._namespace import Namespace
from tiered_cache._view import INHERIT

from ._cache import own_namespace

# Keys that a synchronous caller fetches in one call to the thread of the event loop.
_KEYS_A_HOP: Final = 256


class TieredByteStore(BaseStore[str, bytes]):
    """Bytes by name, for `CacheBackedEmbeddings.from_bytes_store` and the like.

    Nothing here raises because a tier fails: what was to be read is then absent, a change is dropped, and `stats()` of
    the cache counts it (`adapter_errors`). The names of keys stay in the store, in clear, so that they can be listed.

    Synchronous methods work on any thread, one that runs an event loop included.
    """

    def __init__(
        self,
        cache: Namespace,
        *,
        namespace: str | Sequence[str] = ("bytestore",),
        ttl: float | None = None,
    ) -> None:
        """`ttl` is in seconds; None: that of `cache`. All below `namespace` (seen from `cache`) is this store's own."""
        self._values: Final = own_namespace(self, cache, namespace).namespace(
            ttl=INHERIT if ttl is None else ttl, codec=RawCodec(), listed=True
        )
        self._fail_open: Final = FailOpen(type(self).__name__, self._values)

    def mget(self, keys: Sequence[str]) -> list[bytes | None]:
        """A value or None for each of `keys`, in their order, those that occur twice included."""
        return portal.call(self.amget, keys)

    async def amget(self, keys: Sequence[str]) -> list[bytes | None]:
        """A value or None for each of `keys`, in their order, those that occur twice included."""
        asked = _names(keys)
        found: dict[str, bytes] = await self._fail_open.run("mget", self._values.get_many(asked), {})
        return [found.get(key) for key in asked]

    def mset(self, key_value_pairs: Sequence[tuple[str, bytes]]) -> None:
        """Sets all in one transaction; of pairs with the same key the last counts.

        Raises UnsupportedValueError (a TypeError), before anything is written, where a value is not `bytes`.
        """
        portal.call(self.amset, key_value_pairs)

    async def amset(self, key_value_pairs: Sequence[tuple[str, bytes]]) -> None:
        """Sets all in one transaction; of pairs with the same key the last counts.

        Raises UnsupportedValueError (a TypeError), before anything is written, where a value is not `bytes`.
        """
        items = dict(key_value_pairs)
        for key in _names(items):
            if type(items[key]) is not bytes:
                raise UnsupportedValueError(f"{key[:60]!r}: a byte store holds bytes, not {type(items[key]).__name__}")
        await self._fail_open.run("mset", self._values.set_many(items), None)

    def mdelete(self, keys: Sequence[str]) -> None:
        """Deletes all in one transaction. Absent keys are no error."""
        portal.call(self.amdelete, keys)

    async def amdelete(self, keys: Sequence[str]) -> None:
        """Deletes all in one transaction. Absent keys are no error."""
        await self._fail_open.run("mdelete", self._values.delete_many(_names(keys)), None)

    def yield_keys(self, *, prefix: str | None = None) -> Generator[str]:
        """The keys that begin with `prefix`, in no order; no more of them once the store does not answer."""
        keys = self.ayield_keys(prefix=prefix)
        while some := portal.call(_next_few, keys):
            yield from some

    # The base class is annotated in a way that type checkers read as a coroutine; it is a generator, there as here.
    async def ayield_keys(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, *, prefix: str | None = None
    ) -> AsyncGenerator[str]:
        """The keys that begin with `prefix`, in no order; no more of them once the store does not answer."""
        keys = self._values.keys(prefix or "")
        while isinstance(key := await self._fail_open.run("yield_keys", anext(keys, None), None), str):
            yield key

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._values.path!r}>"


def _names(keys: Iterable[str]) -> list[str]:
    names = list(keys)
    for name in names:
        if not isinstance(name, str):  # pyright: ignore[reportUnnecessaryIsInstance]  (callers without types)
            raise ConfigurationError(f"the keys of a byte store are str, not {type(name).__name__}")
    return names


async def _next_few(keys: AsyncGenerator[str]) -> list[str]:
    few: list[str] = []
    async for key in keys:
        few.append(key)
        if len(few) == _KEYS_A_HOP:
            break
    return few
