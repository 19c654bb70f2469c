"""LangChain's cache of model answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, Final, NoReturn, Self

from langchain_core.caches import BaseCache
from langchain_core.language_models import LanguageModelInput
from langchain_core.outputs import Generation
from langchain_core.runnables import Runnable

from tiered_cache import _portal as portal
from tiered_cache._engine import Change
from tiered_cache._errors import ConfigurationError, UnsupportedValueError, no_attribute
from tiered_cache._fail_open import FailOpen
from tiered_cache._freshness import check_cached
from tiered_cache._namespace import Namespace
from tiered_cache._stats import Price
from tiered_cache._view import Ttl

from ._complete import is_complete
from ._hits import Hits
from ._keeping import REFUSED, AnswerTtl, Keeping, ShouldCache
from ._nameless import warn_of
from ._notes import Findable, Notes, Remember
from ._parsed import warn_of_parsed, with_dicts
from ._prompts import canonical
from ._questions import Question, questions_of
from ._serde import GenerationsCodec
from ._single_flight import Lead, SingleFlight

# Settings of models whose namespaces are kept ready: few in a service, and asked for with every prompt.
_MODELS: Final = 256

_FOR_GRAPHS: Final = (
    "this is LangChain's cache of model answers; for compile(cache=), @entrypoint(cache=) and create_agent(cache=) use "
    "tiered_cache.langgraph.LangGraphCache"
)


class LangChainCache(Findable, BaseCache):
    """Answers of language models, for `set_llm_cache` or a model's `cache`.

    Every hit is a new list of new objects, equal to what was stored, types included, but for the id and the marker of
    a chat message (`fresh_ids`, `mark_hits`). Each model's settings have a namespace of their own, in which the prompt
    is the key, so no two questions share an answer and all answers of one model can be cleared at once. What an earlier
    hit left in the history of a conversation (its marker, its cost of 0) is no part of the key.

    A model whose settings do not say which model it is shares its answers with all such models; that is warned of once.

    Nothing here raises because a tier fails or an answer cannot be stored: a lookup is then a miss, a change is
    dropped, and `stats()` of the cache counts it (`adapter_errors`, `unsupported`). Wrong arguments raise
    ConfigurationError.

    An answer that would not come out equal (see `unsupported`) is not stored, and the one it was to replace is deleted:
    the next lookup is a miss, not the older answer. An update without any generation is ignored, as is one that
    `should_cache` says no to; an older answer stays.

    Synchronous methods work on any thread, one that runs an event loop included.
    """

    def __init__(
        self,
        cache: Namespace,
        *,
        ttl: float | AnswerTtl | None = None,
        namespace: str | Sequence[str] = ("langchain",),
        version: str | None = None,
        should_cache: ShouldCache = is_complete,
        fresh_ids: bool = True,
        mark_hits: bool = True,
        prices: Mapping[str, Price] | None = None,
        parsed_as_dict: bool = False,
        single_flight: float | None = None,
        remember: Remember | None = None,
    ) -> None:
        """All below `namespace`, as seen from `cache`, is the adapter's; below `version` in it, where one is given.

        `ttl` is in seconds, or a function of the prompt, the settings of the model (`llm_string`) and the answer;
        None, or a function that returns None: that of `cache`. An answer that `should_cache` says no to is not stored
        (`skipped` in `stats()`), nor is one that either function fails on, or gives a wrong ttl for
        (`adapter_errors`); the caller has it all the same.

        With `fresh_ids` the message of a hit has an id of its own, as that of another run of the model would, so that
        what goes by ids (LangGraph's `add_messages`) takes it for a new one; without, it has the id of the answer that
        was stored. With `mark_hits` its `response_metadata` says `{"tiered_cache": {"hit": True}}`. `prices` are for
        `saved` in `stats()`, by the names that models give themselves there.

        With `parsed_as_dict`, structured output of OpenAI's models, in which an object of your class stands beside the
        text (`additional_kwargs["parsed"]`), is stored with the dict that makes an equal object in its place: that is
        what a hit has there, and `with_structured_output` makes your class of it. Without, it is not stored.

        With `single_flight`, in seconds, equal questions that are asked at once cost one call of the model, in all
        processes that share the front: the others wait for its update, at most for so long, and then ask the model as
        well. If it fails or is cancelled, one of them asks it; each does for an answer that is not stored. A lookup
        that is to be followed by an update gives an empty tuple then, not None, and lets the others go on once that is
        let go of; so `if not answers.lookup(...)` tells a miss.

        With `remember`, the prompt, the settings of the model and the metadata that it gives for them (the same for
        all, or a plain function of prompt, `llm_string` and answer; pairs of str) are stored beside each answer, as
        long as it is, in clear, in the store alone: for `find` and `forget`. An answer that the function fails on is
        not stored (`adapter_errors`), since nobody could find it. Whoever shares the answers should remember them as
        well. None: a question leaves the process only as a digest.
        """
        answers = own_namespace(self, cache, namespace)
        self._keeping: Final = Keeping(should_cache, ttl, answers.view.shared.recorder)
        self._answers: Final = answers.namespace(
            *(() if version is None else (version,)), ttl=self._keeping.otherwise, codec=GenerationsCodec()
        )
        self._fail_open: Final = FailOpen(type(self).__name__, self._answers)
        self._single_flight: Final = None if single_flight is None else SingleFlight(single_flight, self._fail_open)
        self._parsed_as_dict: Final = parsed_as_dict
        self._hits: Final = Hits(self._answers, fresh_ids=fresh_ids, mark_hits=mark_hits, prices=prices)
        self._notes = None if remember is None else Notes(self._answers, remember)
        self._model: Final = lru_cache(_MODELS)(partial(_of_model, self._answers))

    def lookup(self, prompt: str, llm_string: str) -> list[Generation] | None:
        """A new list of new objects, never empty; or None."""
        if self._single_flight is None:
            return portal.call(self.alookup, prompt, llm_string)
        answers, key = self._question(prompt, llm_string)
        return self._served(self._single_flight.look_sync(answers.view, key))

    async def alookup(self, prompt: str, llm_string: str) -> list[Generation] | None:
        """A new list of new objects, never empty; or None."""
        answers, key = self._question(prompt, llm_string)
        if self._single_flight is not None:
            return self._served(await self._single_flight.look(answers.view, key))
        return self._served(await self._fail_open.run("lookup", answers.get(key), None))

    def _served(self, found: list[Generation] | None) -> list[Generation] | None:
        if found is None:
            return check_cached()
        return self._hits.served(found) if found else found

    def update(self, prompt: str, llm_string: str, return_val: Sequence[Generation]) -> None:
        """Replaces the whole answer. When it returns and nothing was counted against it, the answer is durable."""
        portal.call(self.aupdate, prompt, llm_string, return_val)

    async def aupdate(self, prompt: str, llm_string: str, return_val: Sequence[Generation]) -> None:
        """Replaces the whole answer. When it returns and nothing was counted against it, the answer is durable."""
        generations = list(return_val)
        if self._single_flight is not None:
            answers, key = self._question(prompt, llm_string)
            with self._single_flight.answering(answers.view, key) as lead:
                await self._keep(prompt, llm_string, generations, lead)
        else:
            await self._keep(prompt, llm_string, generations)

    def _question(self, prompt: str, llm_string: str) -> tuple[Namespace, str]:
        """Where the answer belongs: the namespace of the model's settings, and the key in it."""
        return self._model(llm_string), canonical(prompt)

    async def _keep(
        self, prompt: str, llm_string: str, generations: list[Generation], lead: Lead | None = None
    ) -> bool:
        """Whether the answer is stored now."""
        if not generations:
            return False
        terms = self._keeping.terms(prompt, llm_string, generations)
        if terms is REFUSED:
            return False
        question = Question(prompt, llm_string)
        if self._parsed_as_dict:
            generations = with_dicts(generations)
        return await self._fail_open.run("update", self._replace(question, generations, terms, lead), False)

    async def _replace(self, question: Question, generations: list[Generation], ttl: Ttl, lead: Lead | None) -> bool:
        answers, key = self._question(*question)
        try:
            changes: Sequence[Change] | None = [answers.view.change(key, generations, answers.view.ttl(ttl))]
            if self._notes is not None:
                changes = self._notes.with_notes(changes[0], question, generations)
            if changes is None:
                return False
            await (answers.view.shared.write(changes) if lead is None else lead.land(changes))
        except UnsupportedValueError as error:
            self._fail_open.unsupported("update", error)
            warn_of_parsed(generations)
            await self._forget(*question)
            return False
        return True

    async def _forget(self, prompt: str, llm_string: str) -> None:
        answers, key = self._question(prompt, llm_string)
        await (answers.delete(key) if self._notes is None else self._notes.delete(llm_string, key))

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
        await self._fail_open.run("delete", self._forget(prompt, llm_string), None)

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

    def __deepcopy__(self, memo: object) -> Self:
        """Itself: pydantic copies models that are defaults of fields, and the tiers below are one for all."""
        return self

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> NoReturn:
            raise no_attribute(self, name, {"get", "aget", "set", "aset"}, _FOR_GRAPHS)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._answers.path!r}>"


def _of_model(answers: Namespace, llm_string: str) -> Namespace:
    own = answers.namespace(llm_string)
    warn_of(llm_string)
    return own


def own_namespace(adapter: object, cache: Namespace, namespace: str | Sequence[str]) -> Namespace:
    """The adapter's base below what it was given. Raises ConfigurationError where that is no cache."""
    if not isinstance(cache, Namespace):  # pyright: ignore[reportUnnecessaryIsInstance]  (callers without types)
        raise ConfigurationError(
            f"{type(adapter).__name__} stands on a TieredCache or one of its namespaces, not on {type(cache).__name__}"
        )
    return cache.namespace(*((namespace,) if isinstance(namespace, str) else namespace))
