"""Agents of `create_agent`: what their tools and middleware start as cached tasks is cached."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from langchain import agents
from langchain_core.callbacks import CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, ToolCall, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.tools import tool
from langgraph.func import task
from langgraph.types import CachePolicy

from tests.langgraph.running import Invoke, ainvoke, invoke
from tiered_cache import TieredCache
from tiered_cache.langgraph import LangGraphCache


class Forecaster(BaseChatModel):
    """Asks its tool for two cities at once, and then tells what it heard."""

    @property
    def _llm_type(self) -> str:
        return "forecaster"

    def bind_tools(self, tools: Any, **kwargs: Any) -> Any:
        return self

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        return ChatResult(generations=[ChatGeneration(message=self._answer(messages))])

    def _answer(self, messages: Sequence[BaseMessage]) -> AIMessage:
        heard = [message.text for message in messages if isinstance(message, ToolMessage)]
        if heard:
            return AIMessage(", ".join(map(str, heard)))
        calls = [ToolCall(name="weather", args={"city": city}, id=city) for city in ("Oslo", "Rome")]
        return AIMessage("", tool_calls=calls)


@pytest.mark.parametrize("call", [ainvoke, invoke])
async def test_a_tool_of_an_agent_runs_its_cached_task_once(
    call: Invoke, cache: TieredCache, results: LangGraphCache[Any]
) -> None:
    looked_up: list[str] = []

    @task(cache_policy=CachePolicy(ttl=3600))
    def look_up(city: str) -> str:
        looked_up.append(city)
        return f"sun in {city}"

    @tool
    def weather(city: str) -> str:
        """The weather in a city."""
        return look_up(city).result()

    library: Any = agents
    agent = library.create_agent(Forecaster(), [weather], cache=results)
    for _ in range(3):
        found = await call(agent, {"messages": [("user", "the weather?")]})
        assert found["messages"][-1].content == "sun in Oslo, sun in Rome"
    assert sorted(looked_up) == ["Oslo", "Rome"]
    assert (cache.stats().misses, cache.stats().hits) == (2, 4)
    assert cache.stats().adapter_errors == 0
