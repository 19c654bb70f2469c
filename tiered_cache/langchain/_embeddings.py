"""A cache round a model of embeddings."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence, Sized
from typing import Any, Final, Literal, cast, get_args

from langchain_core.embeddings import Embeddings

from tiered_cache import _portal as portal
from tiered_cache._engine import Change
from tiered_cache._errors import ConfigurationError, UnsupportedValueError
from tiered_cache._fail_open import FailOpen
from tiered_cache._freshness import check_cached
from tiered_cache._namespace import Namespace
from tiered_cache._view import INHERIT, MISSING, find_across

from ._cache import own_namespace
from ._model_names import model_name
from ._vectors import VectorCodec, numbers_of, odd, rounded

Precision = Literal["float32", "exact"]

# Vectors that are read, decoded or written in one go: some milliseconds in which nothing else runs on the loop.
_PORTION: Final = 64


class _NotStored(Exception):  # noqa: N818  (how an odd vector gets past the cache, to everybody who waits for it)
    def __init__(self, numbers: list[float], why: str) -> None:
        super().__init__(why)
        self.numbers = numbers


class CachedEmbeddings(Embeddings):
    """Embeddings that ask their model for each text once.

    Of a call, only those texts go to the model that are not stored, each once, in their order; every vector is a new
    list of floats. A query that several callers, of any process, ask at once is embedded once. Each model, with its
    settings, has a namespace of its own, and so have queries and documents.

    Nothing here raises because a tier fails: what is not found is embedded, what cannot be written is returned all the
    same, and `stats()` of the cache counts it (`adapter_errors`). What the model raises is raised. A vector with NaN or
    infinity in it, or without numbers, is returned and not stored (`unsupported`).

    Synchronous methods work on any thread, one that runs an event loop included; the model runs in that of the caller.
    """

    def __init__(
        self,
        embeddings: Embeddings,
        cache: Namespace,
        *,
        model: str | None = None,
        precision: Precision = "float32",
        symmetric: bool = False,
        batch_size: int | None = None,
        ttl: float | None = None,
        version: str | None = None,
        namespace: str | Sequence[str] = ("embeddings",),
    ) -> None:
        """`ttl` is in seconds; None: that of `cache`. All below `namespace`, as seen from `cache`, is the adapter's.

        `model` names the model; None: as `embeddings` itself names it, together with its class and its server. In both
        cases the settings known to change vectors (dimensions, normalization, instructions and the like) count. What
        else does is for `version`: another one begins anew.

        With `precision` "float32" every number is rounded to 4 bytes, also when the model has just returned it, so a
        text has one vector; most models compute in no more. "exact" stores what the model returned, in 8 bytes a number
        where 4 would change one.

        `symmetric`: the model embeds queries as it embeds documents, so both share what is stored.

        `batch_size` texts at most go to the model in one call, and are stored before the next; None: all that are
        missing, for models that make batches themselves.

        Raises ConfigurationError where the model's name cannot be known, and for arguments of another kind.
        """
        if not isinstance(embeddings, Embeddings):  # pyright: ignore[reportUnnecessaryIsInstance]  (without types)
            raise ConfigurationError(f"embeddings are langchain_core's Embeddings, not a {type(embeddings).__name__}")
        if precision not in get_args(Precision):
            raise ConfigurationError(f"precision is one of {', '.join(get_args(Precision))}, not {precision!r}")
        if batch_size is not None and not (type(batch_size) is int and batch_size > 0):
            raise ConfigurationError(f"batch_size is a number of texts above 0, or None, not {batch_size!r}")
        self._embeddings: Final = embeddings
        self._rounds: Final = precision == "float32"
        self._batch_size: Final = batch_size
        self._name: Final = model_name(embeddings, model, {"precision": precision, "version": version})
        self._vectors: Final = own_namespace(self, cache, namespace).namespace(
            *self._name, ttl=INHERIT if ttl is None else ttl, codec=VectorCodec()
        )
        self._documents: Final = self._vectors.namespace("documents")
        self._queries: Final = self._documents if symmetric else self._vectors.namespace("queries")
        self._fail_open: Final = FailOpen(type(self).__name__, self._vectors)

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """A new list for each of `texts`, in their order.

        Raises what the model raises; ConfigurationError where it returns another number of vectors than it was given
        texts, or vectors of another length than those it returned before. Nothing of that batch is stored then.
        """
        asked = _checked(texts)
        vectors = portal.call(self._find, asked)
        for batch in self._batches(asked, vectors):
            portal.call(self._take, batch, self._embeddings.embed_documents(batch), vectors)
        return _in_order(asked, vectors)

    async def aembed_documents(self, texts: list[str]) -> list[list[float]]:
        """A new list for each of `texts`, in their order. Raises what `embed_documents` raises."""
        asked = _checked(texts)
        vectors = await self._find(asked)
        for batch in self._batches(asked, vectors):
            await self._take(batch, await self._embeddings.aembed_documents(batch), vectors)
        return _in_order(asked, vectors)

    def embed_query(self, text: str) -> list[float]:
        """A new list. Raises what the model raises."""
        _checked([text])

        def embed() -> list[float]:
            return self._storable(self._embeddings.embed_query(text))

        try:
            found = self._fail_open.call("embed_query", lambda: self._queries.sync.get_or_compute(text, embed), None)
            if found is None:
                check_cached()
                return embed()
        except _NotStored as odd_one:
            return self._returned(odd_one)
        return found

    async def aembed_query(self, text: str) -> list[float]:
        """A new list. Raises what the model raises."""
        _checked([text])

        async def embed() -> list[float]:
            return self._storable(await self._embeddings.aembed_query(text))

        try:
            found = await self._fail_open.run("embed_query", self._queries.get_or_compute(text, embed), None)
            if found is None:
                check_cached()
                return await embed()
        except _NotStored as odd_one:
            return self._returned(odd_one)
        return found

    def clear(self) -> None:
        """Ends all vectors of this model with these settings, in one step."""
        portal.call(self.aclear)

    async def aclear(self) -> None:
        """Ends all vectors of this model with these settings, in one step."""
        await self._fail_open.run("clear", self._vectors.clear(), None)

    def delete(self, texts: Sequence[str]) -> None:
        """Forgets these texts, as documents and as queries. Absent ones are no error."""
        portal.call(self.adelete, texts)

    async def adelete(self, texts: Sequence[str]) -> None:
        """Forgets these texts, as documents and as queries. Absent ones are no error."""
        for part in dict.fromkeys((self._documents, self._queries)):
            await self._fail_open.run("delete", part.delete_many(_checked(texts)), None)

    async def _find(self, texts: Sequence[str]) -> dict[str, list[float]]:
        """The vectors that are stored, by text."""
        found: dict[str, list[float]] = {}
        wanted = list(dict.fromkeys(texts))
        for portion in _portions(wanted, _PORTION):
            await self._fail_open.run("embed_documents", self._read(portion, found), None)
        if len(found) < len(wanted):
            check_cached()
        return found

    async def _read(self, texts: Sequence[str], found: dict[str, list[float]]) -> None:
        """Where the store does not answer, the front may still have some."""
        view = self._documents.view
        values, error = await find_across([(view, view.scope.key(text)) for text in texts])
        found.update((text, value) for text, value in zip(texts, values, strict=True) if value is not MISSING)
        if error is not None:
            raise error.with_traceback(None)

    def _batches(self, texts: Sequence[str], found: dict[str, list[float]]) -> Generator[list[str]]:
        missing = [text for text in dict.fromkeys(texts) if text not in found]
        return _portions(missing, self._batch_size or max(1, len(missing)))

    async def _take(self, batch: Sequence[str], returned: Any, vectors: dict[str, list[float]]) -> None:
        """Checks what the model returned for a batch, adds it to `vectors`, and stores it."""
        rows = self._rows(batch, returned, vectors)
        for portion in _portions(list(zip(batch, rows, strict=True)), _PORTION):
            changes: list[Change] = []
            for text, row in portion:
                vectors[text] = numbers = self._numbers(row)
                try:
                    changes.append(self._documents.view.change(text, numbers, self._documents.view.settings.ttl))
                except UnsupportedValueError as error:
                    self._fail_open.unsupported("embed_documents", error)
            if changes:
                await self._fail_open.run("embed_documents", self._documents.view.shared.write(changes), None)

    def _rows(self, batch: Sequence[str], returned: Any, vectors: dict[str, list[float]]) -> list[Any]:
        rows = list(returned)
        if len(rows) != len(batch):
            raise ConfigurationError(
                f"{self._name.name} returned {len(rows)} vectors for {len(batch)} texts, so it is not known which is "
                "whose: none of them is stored or returned; Embeddings return one for each text, in their order"
            )
        lengths = {len(row) for row in (*rows, *vectors.values()) if isinstance(row, Sized)} - {0}
        if len(lengths) > 1:
            raise ConfigurationError(
                f"{self._name.name} has vectors of {' and of '.join(map(str, sorted(lengths)))} numbers: where its "
                "settings have changed, say so by another version=, or clear() what is stored"
            )
        return rows

    def _numbers(self, row: Any) -> list[float]:
        try:
            numbers = numbers_of(row)
        except TypeError as error:
            raise ConfigurationError(
                f"{self._name.name} returned a {type(row).__name__} as a vector, not numbers: {error}"
            ) from None
        return rounded(numbers) if self._rounds else numbers

    def _storable(self, returned: Any) -> list[float]:
        numbers = self._numbers(returned)
        if why := odd(numbers):
            raise _NotStored(numbers, why)
        return numbers

    def _returned(self, odd_one: _NotStored) -> list[float]:
        self._fail_open.unsupported("embed_query", UnsupportedValueError(str(odd_one)))
        return list(odd_one.numbers)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._vectors.path!r}>"


def _checked(texts: Iterable[str]) -> list[str]:
    """Raises ConfigurationError for what would be embedded as something else than was meant, or not at all."""
    if isinstance(texts, str):
        raise ConfigurationError("a list of texts is embedded, not one str: embed_documents([text])")
    asked = list(cast("Iterable[Any]", texts))
    for text in asked:
        if not isinstance(text, str):
            raise ConfigurationError(f"texts are str, not {type(text).__name__}")
    return asked


def _portions(items: list[Any], size: int) -> Generator[list[Any]]:
    return (items[start : start + size] for start in range(0, len(items), size))


def _in_order(texts: Sequence[str], vectors: dict[str, list[float]]) -> list[list[float]]:
    """Nobody's vector is somebody else's object, in one answer either."""
    if len(texts) == len(vectors):
        return [vectors[text] for text in texts]
    return [list(vectors[text]) for text in texts]
