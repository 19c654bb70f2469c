"""Models that count how often they are asked. Everything else about them is langchain-core's own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from langchain_core.callbacks import CallbackManagerForLLMRun
from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.language_models.llms import LLM
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatResult, Generation, LLMResult
from langchain_core.runnables import Runnable
from pydantic import Field


def echo(messages: list[BaseMessage], nth: int) -> list[ChatGeneration]:
    """Answers differ from call to call, as those of models do."""
    return [ChatGeneration(message=AIMessage(content=f"{messages[-1].text} #{nth}"))]


class CountingChat(BaseChatModel):
    """Answers what `answer` makes of the messages and of the number of the call."""

    settings: str = "m-1"
    answer: Callable[[list[BaseMessage], int], list[ChatGeneration]] = Field(default=echo, exclude=True)
    asked: list[list[BaseMessage]] = Field(default_factory=list[list[BaseMessage]], exclude=True)

    @property
    def _llm_type(self) -> str:
        return "counting-chat"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        return {"settings": self.settings}

    @property
    def calls(self) -> int:
        return len(self.asked)

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        self.asked.append(messages)
        return ChatResult(generations=self.answer(messages, self.calls))

    def bind_tools(self, tools: Any, *, tool_choice: str | None = None, **kwargs: Any) -> Runnable[Any, AIMessage]:
        return self.bind(tools=tools, tool_choice=tool_choice, **kwargs)


class SerializableChat(CountingChat):
    """The settings become text in another way for models that langchain-core can serialize, as those of partners."""

    @classmethod
    def is_lc_serializable(cls) -> bool:
        return True


class CountingText(LLM):
    settings: str = "m-1"
    asked: list[str] = Field(default_factory=list[str], exclude=True)

    @property
    def _llm_type(self) -> str:
        return "counting-text"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        return {"settings": self.settings}

    @property
    def calls(self) -> int:
        return len(self.asked)

    def _call(
        self,
        prompt: str,
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> str:
        self.asked.append(prompt)
        return f"{prompt} #{self.calls}"


class SeveralTexts(CountingText):
    """Gives two generations for each prompt, with information."""

    def _generate(
        self,
        prompts: list[str],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> LLMResult:
        self.asked += prompts
        info = {"finish_reason": "stop"}
        return LLMResult(
            generations=[[Generation(text=f"{p} {n}", generation_info=info) for n in ("a", "b")] for p in prompts]
        )
