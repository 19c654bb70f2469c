"""Under which names a model asks its cache."""

from __future__ import annotations

from contextvars import Context
from typing import Any, NamedTuple, cast

from langchain_core.caches import BaseCache
from langchain_core.language_models import LanguageModelInput
from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.language_models.llms import BaseLLM
from langchain_core.messages import BaseMessage
from langchain_core.outputs import Generation
from langchain_core.runnables import Runnable, RunnableBinding

from tiered_cache._errors import ConfigurationError

from ._views import copied_as, forget_settings, unfinalized


class Question(NamedTuple):
    """What LangChain asks a cache for."""

    prompt: str
    llm_string: str


def questions_of(
    llm: Runnable[LanguageModelInput, Any], prompt: LanguageModelInput, stop: list[str] | None
) -> list[Question]:
    """What `llm.invoke(prompt, stop=stop)` asks its cache for.

    How prompts and settings become text differs between kinds of models and releases of langchain-core, so a copy of
    the model is run against a cache that takes notes and says yes to everything.
    """
    arguments: dict[str, Any] = {} if stop is None else {"stop": stop}
    model: Any = llm
    while isinstance(model, RunnableBinding):
        binding = cast("RunnableBinding[Any, Any]", model)
        arguments = {**binding.kwargs, **arguments}
        model = binding.bound
    if not isinstance(model, (BaseChatModel, BaseLLM)):
        raise ConfigurationError(f"a language model is needed to know its question, not a {type(model).__name__}")
    notes = _Notes()
    copy: Any = copied_as(unfinalized(type(model)), model, cache=notes, callbacks=None)
    # A context of its own: this is no step of the chain the caller may be in, and none of its handlers hears of it.
    Context().run(copy.invoke, prompt, **arguments)
    return notes.questions


def question_of(
    model: BaseChatModel, messages: list[BaseMessage], stop: list[str] | None, kwargs: dict[str, Any]
) -> Question:
    """The same for one call that is under way, with its messages and arguments as langchain-core passes them on."""
    notes = _Notes()
    copy = copied_as(type(model), model, cache=notes)
    forget_settings(copy)
    BaseChatModel._generate_with_cache(copy, messages, stop=stop, **kwargs)  # noqa: SLF001  (where it asks)
    return notes.questions[0]


class _Notes(BaseCache):
    """Has an answer to every question, so that no model runs, and remembers the questions."""

    def __init__(self) -> None:
        self.questions: list[Question] = []

    def lookup(self, prompt: str, llm_string: str) -> list[Generation]:
        self.questions.append(Question(prompt, llm_string))
        return [Generation(text="")]

    def update(self, prompt: str, llm_string: str, return_val: object) -> None:
        """Nothing to remember: it was answered."""

    def clear(self, **kwargs: Any) -> None:
        """Nothing is kept."""
