"""Agents whose model calls are answered from a cache."""

from __future__ import annotations

import gc
import subprocess
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast
from weakref import ref

import langchain.agents
import pytest
from langchain.agents.middleware import AgentMiddleware, ModelRequest, ModelResponse
from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.messages import AIMessageChunk, BaseMessage, ToolMessage
from langchain_core.runnables import RunnableBinding
from langchain_core.tools import tool

from tests.langchain.streams import Chunks, StreamingChat, chunk
from tests.worlds import World, embedded
from tiered_cache.langchain import CacheMiddleware, LangChainCache, _middleware, cached_chat_model


@pytest.fixture
def world(sqlite_url: str) -> World:
    """One of them: this is about agents."""
    return embedded(sqlite_url)


create_agent = cast("Any", langchain.agents).create_agent  # its state is typed in part

if TYPE_CHECKING:
    Middleware = AgentMiddleware[Any, Any, Any]
else:
    Middleware = AgentMiddleware  # how many parameters it has depends on the release


@tool
def weigh(apples: int) -> str:
    """Weighs apples."""
    return f"{apples * 150} g"


def two_steps(nth: int) -> Chunks:
    """A tool call first, as a model streams it, and then what it came to."""
    if nth % 2:
        return [
            chunk("I shall weigh them."),
            chunk(tool_call_chunks=[{"name": "weigh", "args": '{"app', "id": f"call-{nth}", "index": 0}]),
            chunk(tool_call_chunks=[{"name": None, "args": 'les": 2}', "id": None, "index": 0}]),
        ]
    return [chunk(word) for word in ("They weigh ", "300 g, ", "which is about as much as ", f"two apples do. #{nth}")]


Agent = Callable[[StreamingChat, LangChainCache], Any]


def by_middleware(model: StreamingChat, answers: LangChainCache) -> Any:
    return create_agent(model, [weigh], middleware=[CacheMiddleware(answers)])


def by_model(model: StreamingChat, answers: LangChainCache) -> Any:
    return create_agent(cached_chat_model(model, answers), [weigh])


def question() -> dict[str, Any]:
    return {"messages": [("user", "How much do two apples weigh?")]}


def _texts(state: dict[str, Any]) -> list[Any]:
    return [(each.type, each.content, getattr(each, "tool_calls", None)) for each in state["messages"]]


@pytest.mark.parametrize("agent_of", [by_middleware, by_model])
class TestAgents:
    async def test_a_second_run_asks_no_model(self, answers: LangChainCache, agent_of: Agent) -> None:
        model = StreamingChat(script=two_steps)
        agent = agent_of(model, answers)
        first = agent.invoke(question())
        assert [each[0] for each in _texts(first)] == ["human", "ai", "tool", "ai"]
        assert first["messages"][2].content == "300 g"
        assert _texts(agent.invoke(question())) == _texts(await agent.ainvoke(question())) == _texts(first)
        assert model.calls == 2

    async def test_its_tokens_are_shown_as_the_models_were(self, answers: LangChainCache, agent_of: Agent) -> None:
        model = StreamingChat(script=two_steps)
        agent = agent_of(model, answers)
        runs: list[list[BaseMessage]] = []
        for _ in range(2):
            runs.append([each for each, _ in agent.stream(question(), stream_mode="messages")])
            runs.append([each async for each, _ in agent.astream(question(), stream_mode="messages")])
        assert model.calls == 2
        for shown in runs:
            chunks = [each for each in shown if isinstance(each, AIMessageChunk)]
            assert [type(each) for each in shown if each not in chunks] == [ToolMessage]
            calls, last = chunks[:-3], chunks[-3:]
            assert "".join(each.text for each in chunks).startswith("I shall weigh them.They weigh 300 g")
            assert any(each.tool_call_chunks for each in calls)
            assert not any(each.tool_call_chunks for each in last)

    async def test_a_run_shares_the_answers_of_one_that_was_streamed(
        self, answers: LangChainCache, agent_of: Agent
    ) -> None:
        model = StreamingChat(script=two_steps)
        agent = agent_of(model, answers)
        assert list(agent.stream(question(), stream_mode=["messages", "updates"]))
        events = [each["event"] async for each in agent.astream_events(question(), version="v2")]
        assert "on_chat_model_stream" in events
        state = await agent.ainvoke(question())
        assert state["messages"][1].tool_calls[0]["args"] == {"apples": 2}
        assert model.calls == 2

    async def test_the_answers_are_those_of_the_model_with_its_tools(
        self, answers: LangChainCache, agent_of: Agent
    ) -> None:
        model = StreamingChat(script=two_steps)
        agent_of(model, answers).invoke(question())
        usual = StreamingChat(script=two_steps, cache=answers)
        await create_agent(usual, [weigh]).ainvoke(question())
        assert usual.calls == 0


class _Choosing(Middleware):
    def __init__(self, models: list[BaseChatModel]) -> None:
        super().__init__()
        self.models = models
        self.seen: list[BaseChatModel] = []

    def wrap_model_call(
        self, request: ModelRequest[Any], handler: Callable[[ModelRequest[Any]], ModelResponse[Any]]
    ) -> ModelResponse[Any]:
        model = self.models[len(self.seen) % len(self.models)]
        self.seen.append(model)
        return handler(request.override(model=model))


class TestTheMiddleware:
    def test_caches_the_model_that_another_has_chosen(self, answers: LangChainCache) -> None:
        models = [
            StreamingChat(settings="a", script=lambda nth: two_steps(1)),
            StreamingChat(settings="b", script=lambda nth: two_steps(2)),
        ]
        middleware = [_Choosing([*models]), CacheMiddleware(answers)]
        agent = create_agent(StreamingChat(settings="never asked"), [weigh], middleware=middleware)
        states = [agent.invoke(question()) for _ in range(3)]
        assert [_texts(state) for state in states] == [_texts(states[0])] * 3
        assert [model.calls for model in models] == [1, 1]

    def test_keeps_one_for_each_model_and_not_many(self, answers: LangChainCache) -> None:
        middleware = CacheMiddleware(answers)
        models = [StreamingChat(settings=str(n)) for n in range(100)]
        assert middleware._cached(models[0]) is middleware._cached(models[0])
        for model in models:
            cached = middleware._cached(model)
            assert isinstance(cached, StreamingChat)
            assert cached.settings == model.settings
        assert len(middleware._models) <= 16

    def test_a_model_that_is_known_stays_so_that_no_other_is_taken_for_it(self, answers: LangChainCache) -> None:
        middleware = CacheMiddleware(answers)
        gone = StreamingChat()
        middleware._cached(gone)
        kept = ref(gone)
        del gone
        gc.collect()
        assert kept() is not None

    def test_refuses_what_is_no_cache(self) -> None:
        agent = create_agent(StreamingChat(), [], middleware=[CacheMiddleware(cast("Any", None))])
        with pytest.raises(ValueError, match="LangChainCache"):
            agent.invoke(question())

    def test_the_cached_model_is_what_other_middleware_knows(self, answers: LangChainCache) -> None:
        seen: list[Any] = []

        class Looking(Middleware):
            def wrap_model_call(self, request: ModelRequest[Any], handler: Any) -> Any:
                seen.append(request.model)
                return handler(request)

        agent = create_agent(
            StreamingChat(script=lambda nth: two_steps(2)), middleware=[CacheMiddleware(answers), Looking()]
        )
        agent.invoke(question())
        assert type(seen[0]).__name__ == "StreamingChat"
        assert isinstance(seen[0], StreamingChat)
        assert not isinstance(seen[0], RunnableBinding)


@pytest.mark.parametrize("dressed", ["configured", "bound twice"])
async def test_a_model_with_settings_bound_to_it_is_cached(answers: LangChainCache, dressed: str) -> None:
    model = StreamingChat(script=two_steps)
    bound: Any = model.with_config(tags=["a"])
    if dressed == "bound twice":
        bound = bound.with_config(tags=["b"])
    agent = create_agent(bound, [weigh], middleware=[CacheMiddleware(answers)])
    first = await agent.ainvoke(question())
    assert model.calls == 2
    assert _texts(await agent.ainvoke(question())) == _texts(first)
    assert model.calls == 2


async def test_a_model_that_cannot_be_cached_runs_as_without(
    answers: LangChainCache, caplog: pytest.LogCaptureFixture
) -> None:
    model = StreamingChat(script=two_steps)
    middleware = CacheMiddleware(answers)
    _middleware._warn.cache_clear()
    fallbacks = model.with_fallbacks([StreamingChat()])
    assert middleware._cached(fallbacks) is middleware._cached(fallbacks) is fallbacks
    assert [record.message for record in caplog.records if "RunnableWithFallbacks" in record.message] == [
        "CacheMiddleware: the agent's model is a RunnableWithFallbacks, whose calls are not cached: make it of models "
        "that are each a cached_chat_model"
    ]


def test_without_langchain_the_error_names_the_extra() -> None:
    script = (
        "import sys\n"
        "sys.modules['langchain'] = None\n"
        "import tiered_cache\n"
        "from tiered_cache.langchain import *\n"
        "from tiered_cache.langchain import cached_chat_model\n"
        "try:\n"
        "    from tiered_cache.langchain import CacheMiddleware\n"
        "except ImportError as error:\n"
        "    assert isinstance(error, tiered_cache.MissingExtraError), error\n"
        "    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert "pip install 'tiered-cache[agents]'" in done.stdout


def test_what_does_not_exist_is_no_attribute() -> None:
    import tiered_cache.langchain

    with pytest.raises(AttributeError, match="Nonsense"):
        _ = cast("Any", tiered_cache.langchain).Nonsense
