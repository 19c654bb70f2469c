"""LangChain's cache of model answers."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Final

from langchain_core.caches import BaseCache
from langchain_core.language_models import LanguageModelInput
from langchain_core.outputs import Generation
from langchain_core.runnables import Runnable

from tiered_cache import _portal as portal
from tiered_cache._errors import ConfigurationError, UnsupportedValueError
from tiered_cache._fail_open import FailOpen
from tiered_cache._namespace import Namespace
from tiered_cache._view import INHERIT

from ._questions import Question, questions_of
from ._serde import GenerationsCodec

# Settings of models whose namespaces are kept ready: few in a service, and asked for with every prompt.
_MODELS: Final = 256


class LangChainCache(BaseCache):
    """Answers of language models, for `set_llm_cache` or a model's `cache`.

    Every hit is a new list of new objects, equal to what was stored, types included. Each model's settings have a
    namespace of their own, in which the prompt is the key, so no two questions share an answer and all answers of one
    model can be cleared at once.

    Nothing here raises because a tier fails or an answer cannot be stored: a lookup is then a miss, a change is
    dropped, and `stats()` of the cache counts it (`adapter_errors`, `unsupported`). Wrong arguments raise
    ConfigurationError.

    An answer that would not come out equal (see `unsupported`) is not stored, and the one it was to replace is deleted:
    the next lookup is a miss, not the older answer. An update without any generation is ignored; an older answer stays.

    Synchronous methods work on any thread, one that runs an event loop included.
    """

    def __init__(
        self,
        cache: Namespace,
        *,
        ttl: float | None = None,
        namespace: str | Sequence[str] = ("langchain",),
    ) -> None:
        """`ttl` is in seconds; None: that of `cache`. All below `namespace`, as seen from `cache`, is the adapter's."""
        self._answers: Final = own_namespace(self, cache, namespace).namespace(
            ttl=INHERIT if ttl is None else ttl, codec=GenerationsCodec()
        )
        self._fail_open: Final = FailOpen(type(self).__name__, self._answers)
        self._model: Final = lru_cache(_MODELS)(self._answers.namespace)

    def lookup(self, prompt: str, llm_string: str) -> list[Generation] | None:
        """A new list of new objects, never empty; or None."""
        return portal.call(self.alookup, prompt, llm_string)

    async def alookup(self, prompt: str, llm_string: str) -> list[Generation] | None:
        """A new list of new objects, never empty; or None."""
        return await self._fail_open.run("lookup", self._model(llm_string).get(prompt), None)

    def update(self, prompt: str, llm_string: str, return_val: Sequence[Generation]) -> None:
        """Replaces the whole answer. When it returns without a failure being counted, the answer is durable."""
        portal.call(self.aupdate, prompt, llm_string, return_val)

    async def aupdate(self, prompt: str, llm_string: str, return_val: Sequence[Generation]) -> None:
        """Replaces the whole answer. When it returns without a failure being counted, the answer is durable."""
        if generations := list(return_val):
            await self._fail_open.run("update", self._replace(prompt, llm_string, generations), None)

    async def _replace(self, prompt: str, llm_string: str, generations: list[Generation]) -> None:
        answers = self._model(llm_string)
        try:
            await answers.set(prompt, generations)
        except UnsupportedValueError as error:
            self._fail_open.unsupported("update", error)
            await answers.delete(prompt)

    def clear(self, **kwargs: Any) -> None:
        """Ends all answers of this adapter; with `llm_string=` only those of one model's settings. Takes one step."""
        portal.call(self._clear, kwargs)

    async def aclear(self, **kwargs: Any) -> None:
        """Ends all answers of this adapter; with `llm_string=` only those of one model's settings. Takes one step."""
        await self._clear(kwargs)

    async def _clear(self, wanted: dict[str, Any]) -> None:
        if unknown := wanted.keys() - {"llm_string"}:
            raise ConfigurationError(f"clear takes llm_string= or nothing, not {', '.join(sorted(unknown))}")
        answers = self._answers.namespace(wanted["llm_string"]) if wanted else self._answers
        await self._fail_open.run("clear", answers.clear(), None)

    def delete(self, prompt: str, llm_string: str) -> None:
        """Forgets one answer. An absent one is no error."""
        portal.call(self.adelete, prompt, llm_string)

    async def adelete(self, prompt: str, llm_string: str) -> None:
        """Forgets one answer. An absent one is no error."""
        await self._fail_open.run("delete", self._model(llm_string).delete(prompt), None)

    def delete_through_llm(
        self, prompt: LanguageModelInput, llm: Runnable[LanguageModelInput, Any], stop: list[str] | None = None
    ) -> None:
        """Forgets what `llm.invoke(prompt, stop=stop)` would find; `llm` is a model, or one with tools bound to it.

        The model does not run. Raises ConfigurationError for an `llm` that is no model.
        """
        portal.call(self._delete_all, questions_of(llm, prompt, stop))

    async def adelete_through_llm(
        self, prompt: LanguageModelInput, llm: Runnable[LanguageModelInput, Any], stop: list[str] | None = None
    ) -> None:
        """Forgets what `llm.invoke(prompt, stop=stop)` would find; `llm` is a model, or one with tools bound to it.

        The model does not run. Raises ConfigurationError for an `llm` that is no model.
        """
        await self._delete_all(questions_of(llm, prompt, stop))

    async def _delete_all(self, questions: Sequence[Question]) -> None:
        for prompt, llm_string in questions:
            await self.adelete(prompt, llm_string)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._answers.path!r}>"


def own_namespace(adapter: object, cache: Namespace, namespace: str | Sequence[str]) -> Namespace:
    """The adapter's base below what it was given. Raises ConfigurationError where that is no cache."""
    if not isinstance(cache, Namespace):  # pyright: ignore[reportUnnecessaryIsInstance]  (callers without types)
        raise ConfigurationError(
            f"{type(adapter).__name__} stands on a TieredCache or one of its namespaces, not on {type(cache).__name__}"
        )
    return cache.namespace(*((namespace,) if isinstance(namespace, str) else namespace))
