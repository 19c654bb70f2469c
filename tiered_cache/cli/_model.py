"""A chat model that needs no key and no network, and takes its time as a real one does."""

from __future__ import annotations

import random
import time
from hashlib import blake2b
from typing import Any, Final, Literal

import anyio
from langchain_core.caches import BaseCache
from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from pydantic import PrivateAttr

_FASTEST_SECONDS: Final = 0.15
_SLOWEST_SECONDS: Final = 0.60
_LONGEST_ANSWER: Final = 6

_SENTENCES: Final = (
    "The short answer is that it depends on two things, and both can be checked in a minute.",
    "Begin with the cheapest step, since it settles the matter more often than not.",
    "Most people find that the second attempt goes better than the first.",
    "Keep a note of what you changed, so that you can go back.",
    "If you are in a hurry, the first half is enough.",
    "A specialist would add that the rules differ from place to place.",
    "There is one exception, and it is rarer than it is made out to be.",
    "Ask somebody who did it last month rather than somebody who did it ten years ago.",
    "It costs little to wait a day before deciding.",
    "What matters in the end is whether it works for you.",
)


class StandInModel(BaseChatModel):
    """Answers from a fixed stock, the same to the same question, after 0.15 to 0.6 s: longer answers take longer.

    `calls` counts what a service would have charged for.
    """

    speed: float = 1.0
    cache: BaseCache | bool | None = False

    _calls: int = PrivateAttr(default=0)

    @property
    def calls(self) -> int:
        return self._calls

    @property
    def _llm_type(self) -> Literal["stand-in"]:
        return "stand-in"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        return {"model": "stand-in-1"}

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        sentences = self._compose(messages)
        time.sleep(self._seconds(sentences))
        return _result(messages, sentences)

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        sentences = self._compose(messages)
        await anyio.sleep(self._seconds(sentences))
        return _result(messages, sentences)

    def _compose(self, messages: list[BaseMessage]) -> list[str]:
        self._calls += 1
        seed = blake2b("\0".join(message.text for message in messages).encode("utf-8", "surrogatepass")).digest()
        chance = random.Random(seed)  # noqa: S311  (no secret)
        return chance.sample(_SENTENCES, chance.randint(1, _LONGEST_ANSWER))

    def _seconds(self, sentences: list[str]) -> float:
        share = (len(sentences) - 1) / (_LONGEST_ANSWER - 1)
        return (_FASTEST_SECONDS + (_SLOWEST_SECONDS - _FASTEST_SECONDS) * share) / self.speed


def _result(messages: list[BaseMessage], sentences: list[str]) -> ChatResult:
    text = " ".join(sentences)
    read, written = sum(len(message.text.split()) for message in messages), len(text.split())
    message = AIMessage(
        text,
        response_metadata={"finish_reason": "stop", "model_name": "stand-in-1"},
        usage_metadata={"input_tokens": read, "output_tokens": written, "total_tokens": read + written},
    )
    return ChatResult(generations=[ChatGeneration(message=message)])
