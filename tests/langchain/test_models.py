"""Models of langchain-core, run with a cache: what the second run gives, and what it costs."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pytest
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.globals import get_llm_cache, set_llm_cache
from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage
from langchain_core.outputs import ChatGeneration
from langchain_core.runnables import RunnableLambda

from tests.langchain.answers import full_message
from tests.langchain.models import CountingChat, CountingText, SerializableChat, SeveralTexts
from tiered_cache import TieredCache
from tiered_cache.langchain import LangChainCache

pytestmark = pytest.mark.parametrize("world", ["embedded"], indirect=True)


def with_everything(messages: list[BaseMessage], nth: int) -> list[ChatGeneration]:
    return [ChatGeneration(message=full_message(), generation_info={"finish_reason": "tool_calls"})]


@pytest.fixture
def global_cache(answers: LangChainCache) -> Generator[LangChainCache]:
    before = get_llm_cache()
    set_llm_cache(answers)
    yield answers
    set_llm_cache(before)


@pytest.mark.parametrize("model", [CountingChat, SerializableChat])
class TestChatModels:
    async def test_all_ways_of_asking_share_one_answer(
        self, answers: LangChainCache, model: type[CountingChat]
    ) -> None:
        llm = model(cache=answers)
        first = await llm.ainvoke("apples?")
        assert first.text == "apples? #1"
        assert llm.invoke("apples?").text == first.text
        assert llm.invoke([HumanMessage("apples?")]).text == first.text
        assert [m.text for m in llm.batch(["apples?", "apples?"])] == [first.text] * 2
        assert [m.text for m in await llm.abatch(["apples?", "apples?"])] == [first.text] * 2
        result = await llm.agenerate([[HumanMessage("apples?")], [HumanMessage("pears?")]])
        assert [g[0].text for g in result.generations] == [first.text, "pears? #2"]
        assert llm.calls == 2

    async def test_a_hit_has_all_that_the_answer_had(self, answers: LangChainCache, model: type[CountingChat]) -> None:
        llm = model(cache=answers, answer=with_everything)
        first, second, third = await llm.ainvoke("q"), await llm.ainvoke("q"), llm.invoke("q")
        assert llm.calls == 1
        for hit in (second, third):
            assert type(hit) is AIMessage
            assert hit.content == first.content
            assert hit.tool_calls == first.tool_calls
            assert hit.invalid_tool_calls == first.invalid_tool_calls
            assert hit.response_metadata == {**first.response_metadata, "tiered_cache": {"hit": True}}
            assert hit.additional_kwargs == first.additional_kwargs
            assert first.usage_metadata is not None
            assert hit.usage_metadata is not None
            assert hit.usage_metadata.items() >= first.usage_metadata.items()  # langchain-core adds a cost of 0

    async def test_blocks_of_the_standard_form_are_cached(
        self, answers: LangChainCache, model: type[CountingChat], cache: TieredCache
    ) -> None:
        llm = model(cache=answers, answer=with_everything, output_version="v1")
        first, second = await llm.ainvoke("q"), await llm.ainvoke("q")
        assert llm.calls == 1
        assert second.content == first.content
        assert cache.stats().unsupported == 0

    async def test_changing_a_hit_poisons_no_later_one(
        self, answers: LangChainCache, model: type[CountingChat]
    ) -> None:
        llm = model(cache=answers, answer=with_everything)
        for _ in range(3):
            message = llm.invoke("q")
            assert message.tool_calls == full_message().tool_calls
            message.tool_calls[0]["args"].clear()
            message.content = "poisoned"
        assert llm.calls == 1

    async def test_settings_stop_words_and_tools_are_part_of_the_question(
        self, answers: LangChainCache, model: type[CountingChat]
    ) -> None:
        llm = model(cache=answers)
        tools: list[dict[str, Any]] = [
            {"type": "function", "function": {"name": "f", "description": "x" * 10_000, "parameters": {}}}
        ]
        variants = [llm, llm.bind(stop=["\n"]), llm.bind_tools(tools), llm.bind_tools(tools, tool_choice="f")]
        for variant in variants:
            await variant.ainvoke("q")
        assert llm.calls == len(variants)
        other = model(cache=answers, settings="m-2")
        await other.ainvoke("q")
        assert other.calls == 1
        for variant in [*variants, other]:
            await variant.ainvoke("q")
        assert (llm.calls, other.calls) == (len(variants), 1)

    async def test_an_answer_can_be_deleted_through_its_model(
        self, answers: LangChainCache, model: type[CountingChat]
    ) -> None:
        heard = _Ears()
        llm = model(cache=answers, callbacks=[heard])
        bound = llm.bind_tools([{"name": "f"}]).bind(stop=["\n"])
        for question in ("a", "b"):
            await llm.ainvoke(question)
            await bound.ainvoke(question)
            await llm.ainvoke(question, stop=["\n"])
        runs = heard.runs

        answers.delete_through_llm("a", llm)
        assert (llm.calls, heard.runs) == (6, runs), "asking for the name of a question runs no model"
        assert llm.cache is answers
        for question in ("a", "b"):
            await bound.ainvoke(question)
            await llm.ainvoke(question, stop=["\n"])
        await llm.ainvoke("b")
        assert llm.calls == 6
        await llm.ainvoke("a")
        assert llm.calls == 7

        await answers.adelete_through_llm([HumanMessage("a")], llm, stop=["\n"])
        await answers.adelete_through_llm([HumanMessage("b")], bound)
        await llm.ainvoke("a")
        await llm.ainvoke("b")
        assert llm.calls == 7
        await llm.ainvoke("a", stop=["\n"])
        await bound.ainvoke("b")
        assert llm.calls == 9


class TestTextModels:
    async def test_all_ways_of_asking_share_one_answer(self, answers: LangChainCache) -> None:
        llm = CountingText(cache=answers)
        assert await llm.ainvoke("q") == llm.invoke("q") == "q #1"
        assert llm.batch(["q", "r"]) == ["q #1", "r #2"]
        assert await llm.abatch(["q", "r", "s"]) == ["q #1", "r #2", "s #3"]
        assert llm.calls == 3
        assert CountingText(cache=answers, settings="m-2").invoke("q") == "q #1"

    async def test_all_generations_of_a_prompt_come_back(self, answers: LangChainCache) -> None:
        llm = SeveralTexts(cache=answers)
        first = llm.generate(["q", "r"])
        again = await llm.agenerate(["r", "q", "r"])
        assert llm.calls == 2
        assert again.generations == [first.generations[1], first.generations[0], first.generations[1]]

    async def test_an_answer_can_be_deleted_through_its_model(self, answers: LangChainCache) -> None:
        llm = CountingText(cache=answers)
        for stop in (None, ["\n"]):
            llm.invoke("q", stop=stop)
        answers.delete_through_llm("q", llm, stop=["\n"])
        llm.invoke("q")
        assert llm.calls == 2
        llm.invoke("q", stop=["\n"])
        assert llm.calls == 3
        await answers.adelete_through_llm("q", llm)
        await llm.ainvoke("q", stop=["\n"])
        assert llm.calls == 3
        await llm.ainvoke("q")
        assert llm.calls == 4


class TestWhichCacheIsAsked:
    async def test_the_global_one_without_a_word(self, global_cache: LangChainCache) -> None:
        llm, text = CountingChat(), CountingText()
        assert llm.invoke("q").text == (await llm.ainvoke("q")).text
        assert text.invoke("q") == await text.ainvoke("q")
        assert (llm.calls, text.calls) == (1, 1)

    def test_the_global_one_on_request_and_none_on_request(self, global_cache: LangChainCache) -> None:
        asking, refusing = CountingChat(cache=True), CountingChat(cache=False)
        for _ in range(2):
            asking.invoke("q")
            refusing.invoke("q")
        assert (asking.calls, refusing.calls) == (1, 2)

    def test_the_models_own_before_the_global_one(self, global_cache: LangChainCache, cache: TieredCache) -> None:
        mine = LangChainCache(cache, namespace="mine")
        CountingChat(cache=mine).invoke("q")
        assert CountingChat().invoke("q").text == "q #1"
        global_cache.clear()
        llm = CountingChat(cache=mine)
        llm.invoke("q")
        assert llm.calls == 0


async def test_a_model_of_langchain_cores_own_is_asked_once(answers: LangChainCache) -> None:
    llm = GenericFakeChatModel(messages=iter([AIMessage(content="the only one")]), cache=answers)
    assert (await llm.ainvoke("q")).text == llm.invoke("q").text == "the only one"


async def test_an_answer_streamed_to_a_listener_is_stored_whole(answers: LangChainCache) -> None:
    llm = GenericFakeChatModel(messages=iter([AIMessage(content="in several pieces")]), cache=answers)

    async def ask(question: str) -> str:
        return (await llm.ainvoke(question)).text

    chain = RunnableLambda(ask)
    for _ in range(2):
        events = [event async for event in chain.astream_events("q", version="v2")]
        assert events[-1]["data"].get("output") == "in several pieces"


@pytest.mark.parametrize("odd", ["a text", None, RunnableLambda(str)])
def test_deleting_through_what_is_no_model_is_an_error(answers: LangChainCache, odd: Any) -> None:
    with pytest.raises(ValueError, match="model"):
        answers.delete_through_llm("q", odd)


class _Ears(BaseCallbackHandler):
    def __init__(self) -> None:
        self.runs = 0

    def on_chat_model_start(self, *args: Any, **kwargs: Any) -> None:
        self.runs += 1
