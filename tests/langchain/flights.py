"""Models whose calls are stopped and failed at will, and what there is to see of those who wait for them."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.language_models.llms import BaseLLM
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatResult, Generation, LLMResult
from pydantic import Field

from tiered_cache import TieredCache
from tiered_cache.langchain import LangChainCache

#: Longer than any test: whoever waits for the limit is seen waiting.
FOR_EVER = 600.0


class Log:
    """Who computes what: how often, and how many at once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.calls: Counter[str] = Counter()
        self.now: Counter[str] = Counter()
        self.most: Counter[str] = Counter()

    @contextmanager
    def call(self, question: str) -> Generator[int]:
        with self._lock:
            self.calls[question] += 1
            nth = self.calls[question]
            self.now[question] += 1
            self.most[question] = max(self.most[question], self.now[question])
        try:
            yield nth
        finally:
            with self._lock:
                self.now[question] -= 1


Work = Callable[[str, int], Any]


class Chat(BaseChatModel):
    """Runs `work(question, nth call)`, awaiting what it returns where it is asked asynchronously."""

    work: Work = Field(exclude=True)
    log: Log = Field(default_factory=Log, exclude=True)
    generations: Callable[[str], list[ChatGeneration]] = Field(
        default=lambda text: [ChatGeneration(message=AIMessage(content=text))], exclude=True
    )

    @property
    def _llm_type(self) -> str:
        return "stopped-chat"

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        question = messages[-1].text
        with self.log.call(question) as nth:
            self.work(question, nth)
        return ChatResult(generations=self.generations(f"{question} #{nth}"))

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        question = messages[-1].text
        with self.log.call(question) as nth:
            await self.work(question, nth)
        return ChatResult(generations=self.generations(f"{question} #{nth}"))


class Text(BaseLLM):
    """The same for a text model: the question is that of all prompts together."""

    work: Work = Field(exclude=True)
    log: Log = Field(default_factory=Log, exclude=True)

    @property
    def _llm_type(self) -> str:
        return "stopped-text"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        return {"model": "stopped-text"}

    def _generate(
        self,
        prompts: list[str],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> LLMResult:
        with self.log.call("+".join(prompts)) as nth:
            self.work("+".join(prompts), nth)
        return LLMResult(generations=[[Generation(text=f"{prompt} #{nth}")] for prompt in prompts])

    async def _agenerate(
        self,
        prompts: list[str],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> LLMResult:
        with self.log.call("+".join(prompts)) as nth:
            await self.work("+".join(prompts), nth)
        return LLMResult(generations=[[Generation(text=f"{prompt} #{nth}")] for prompt in prompts])


def waiting(cache: TieredCache) -> int:
    """How many callers wait for another of this process."""
    flights = cache.view.shared.flights
    return sum(len(flight._wake) for under_way in list(flights._flights.values()) for flight in list(under_way))


def left_behind(cache: TieredCache, answers: LangChainCache) -> list[Any]:
    """Whatever of leads, flights and leases is still there."""
    single_flight = answers._single_flight
    assert single_flight is not None
    shared = cache.view.shared
    held = {} if shared.engine.leases is None else shared.engine.leases._held
    return [*single_flight._leads, *shared.flights._flights, *held]
