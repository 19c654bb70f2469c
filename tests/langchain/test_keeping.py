"""Which answers are stored, for how long, and under which version of the application."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatGeneration, Generation

from tests.doubles import DictStore
from tests.langchain.answers import chat
from tests.langchain.models import CountingChat, CountingText
from tests.langchain.shapes import COMPLETE, INCOMPLETE, OPENAI, said
from tiered_cache import INHERIT, ConfigurationError, MemoryFront, TieredCache
from tiered_cache.langchain import LangChainCache, is_complete
from tiered_cache.testing import ManualClock

pytestmark = pytest.mark.parametrize("world", ["embedded"], indirect=True)


@pytest.mark.usefixtures("world")
class TestComplete:
    @pytest.mark.parametrize("kind", COMPLETE)
    def test_whole_answers_are(self, kind: str) -> None:
        assert is_complete([chat(said("two", COMPLETE[kind]))])
        assert is_complete([Generation(text="two", generation_info=COMPLETE[kind])])

    @pytest.mark.parametrize("kind", INCOMPLETE)
    def test_answers_cut_short_are_not_wherever_they_say_so(self, kind: str) -> None:
        whole = chat(said("two", OPENAI))
        for cut in (
            chat(AIMessage("two"), **INCOMPLETE[kind]),
            chat(said("two", INCOMPLETE[kind])),
            Generation(text="two", generation_info=INCOMPLETE[kind]),
        ):
            assert not is_complete([cut])
            assert not is_complete([whole, cut])

    @pytest.mark.parametrize("reason", ["lengthlength", "STOPMAX_TOKENS", "content_filterlength", "stopstopSAFETY"])
    def test_reasons_that_a_stream_gave_in_several_chunks(self, reason: str) -> None:
        assert not is_complete([chat(said("two", {"finish_reason": reason}))])

    @pytest.mark.parametrize("reason", ["stopstop", "tool_callstool_calls", "lengthy", "no_error"])
    def test_reasons_that_only_look_like_it(self, reason: str) -> None:
        assert is_complete([chat(said("two", {"finish_reason": reason}))])

    def test_what_a_user_says_in_it_is_no_reason(self) -> None:
        assert is_complete([chat(said("finish_reason: length", OPENAI, additional_kwargs={"finish_reason": "length"}))])


class TestShouldCache:
    @pytest.mark.parametrize("kind", INCOMPLETE)
    async def test_an_answer_cut_short_is_asked_for_again(
        self, cache: TieredCache, answers: LangChainCache, kind: str
    ) -> None:
        metadata = [INCOMPLETE[kind], INCOMPLETE[kind], OPENAI]
        llm = CountingChat(cache=answers, answer=lambda _, nth: [chat(said(f"#{nth}", metadata[nth - 1]))])
        assert [(await llm.ainvoke("q")).text for _ in range(2)] == ["#1", "#2"]
        assert [llm.invoke("q").text for _ in range(2)] == ["#3", "#3"]
        stats = cache.stats()
        assert (stats.skipped, stats.sets, stats.hits, stats.adapter_errors) == (2, 1, 1, 0)

    async def test_it_leaves_the_older_answer(self, answers: LangChainCache) -> None:
        await answers.aupdate("q", "m", [Generation(text="whole")])
        await answers.aupdate("q", "m", [Generation(text="cu", generation_info={"finish_reason": "length"})])
        assert await answers.alookup("q", "m") == [Generation(text="whole")]

    async def test_users_decide_otherwise(self, cache: TieredCache) -> None:
        def short(generations: Sequence[Generation]) -> bool:
            return all(len(each.text) < 5 for each in generations)

        answers = LangChainCache(cache, should_cache=short)
        await answers.aupdate("q", "m", [Generation(text="cut", generation_info={"finish_reason": "length"})])
        answers.update("r", "m", [Generation(text="a"), Generation(text="too long")])
        assert await answers.alookup("q", "m") is not None
        assert answers.lookup("r", "m") is None
        assert cache.stats().skipped == 1

    async def test_one_that_fails_costs_no_answer_and_is_logged_once(
        self, cache: TieredCache, caplog: pytest.LogCaptureFixture
    ) -> None:
        def broken(generations: Sequence[Generation]) -> bool:
            raise KeyError(generations[0].text)

        llm = CountingChat(cache=LangChainCache(cache, should_cache=broken))
        assert [(await llm.ainvoke("secret")).text, llm.invoke("secret").text] == ["secret #1", "secret #2"]
        stats = cache.stats()
        assert (stats.adapter_errors, stats.skipped, stats.sets) == (2, 0, 0)
        (line,) = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
        assert "should_cache" in line
        assert "KeyError" in line
        assert "secret" not in line

    async def test_one_whose_result_is_neither_true_nor_false_fails(self, cache: TieredCache) -> None:
        def several(generations: Sequence[Generation]) -> Any:
            return np.array([True, False])

        llm = CountingChat(cache=LangChainCache(cache, should_cache=several))
        assert [(await llm.ainvoke("q")).text, llm.invoke("q").text] == ["q #1", "q #2"]
        assert (cache.stats().adapter_errors, cache.stats().sets) == (2, 0)

    @pytest.mark.parametrize("wrong", [None, True, "is_complete"])
    def test_what_is_no_function_is_an_error(self, cache: TieredCache, wrong: Any) -> None:
        with pytest.raises(ConfigurationError, match="should_cache"):
            LangChainCache(cache, should_cache=wrong)

    def test_an_async_function_is_an_error(self, cache: TieredCache) -> None:
        async def later(*_: Any) -> Any: ...

        for option in ("should_cache", "ttl"):
            wrong: Any = {option: later}
            with pytest.raises(ConfigurationError, match=f"{option}.*async"):
                LangChainCache(cache, **wrong)


class TestTtl:
    async def test_every_answer_has_its_own(self, world: object) -> None:
        clock = ManualClock()
        cache = TieredCache(MemoryFront(clock=clock), DictStore(clock=lambda: clock() * 1000), ttl=100)
        asked: list[tuple[str, str, str]] = []

        def ttl(prompt: str, llm_string: str, generations: Sequence[Generation]) -> Any:
            asked.append((prompt, llm_string, generations[0].text))
            return {"news": 5, "history": 1000.0, "inherited": INHERIT}.get(prompt)

        answers = LangChainCache(cache, ttl=ttl)
        prompts = ("news", "history", "as the cache says", "inherited")
        for prompt in prompts:
            await answers.aupdate(prompt, "m", [Generation(text=prompt.upper())])
        assert asked == [(prompt, "m", prompt.upper()) for prompt in prompts]

        left: list[list[str]] = []
        for seconds in (4, 2, 95, 900):
            clock.advance(seconds)
            left.append([prompt for prompt in prompts if await answers.alookup(prompt, "m")])
        assert left == [list(prompts), list(prompts[1:]), ["history"], []]
        await cache.aclose()

    async def test_it_sees_the_prompt_as_it_was_asked(self, cache: TieredCache) -> None:
        seen: list[str] = []

        def ttl(prompt: str, *_: Any) -> None:
            seen.append(prompt)

        llm = CountingChat(cache=LangChainCache(cache, ttl=ttl))
        history = [await llm.ainvoke("q"), await llm.ainvoke("q")]
        await llm.ainvoke(history)
        assert "tiered_cache" in seen[-1]

    @pytest.mark.parametrize("bad", [0, -1, float("nan"), "5", True, 1e300, ZeroDivisionError])
    async def test_a_bad_one_costs_no_answer(
        self, cache: TieredCache, bad: Any, caplog: pytest.LogCaptureFixture
    ) -> None:
        def ttl(*_: Any) -> Any:
            return 1 / 0 if bad is ZeroDivisionError else bad

        llm, text = (
            CountingChat(cache=LangChainCache(cache, ttl=ttl)),
            CountingText(cache=LangChainCache(cache, ttl=ttl)),
        )
        assert (await llm.ainvoke("q")).text == "q #1"
        assert llm.invoke("q").text == "q #2", "nobody knows how long it would have been true"
        assert text.invoke("q") == "q #1"
        stats = cache.stats()
        assert (stats.adapter_errors, stats.sets, stats.skipped) == (3, 0, 0)
        lines = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
        assert len([line for line in lines if "ttl" in line]) == 2, "once for each adapter"

    async def test_it_is_not_asked_about_what_is_not_stored(self, cache: TieredCache) -> None:
        def ttl(*_: Any) -> float:
            raise AssertionError

        answers = LangChainCache(cache, ttl=ttl, should_cache=lambda _: False)
        await answers.aupdate("q", "m", [Generation(text="a")])
        assert cache.stats().adapter_errors == 0


class TestVersion:
    async def test_answers_of_another_version_are_not_found_and_stay(self, cache: TieredCache) -> None:
        versions = [LangChainCache(cache, version=each) for each in (None, "1", "2", "")]
        for n, answers in enumerate(versions):
            assert await answers.alookup("q", "m") is None
            await answers.aupdate("q", "m", [Generation(text=str(n))])
        for n, answers in enumerate(versions):
            assert await answers.alookup("q", "m") == [Generation(text=str(n))]
        await versions[1].aclear()
        assert [bool(await answers.alookup("q", "m")) for answers in versions] == [True, False, True, True]
        await versions[0].aclear()
        assert [bool(await answers.alookup("q", "m")) for answers in versions] == [False] * 4

    async def test_without_one_entries_are_where_they_were(self, cache: TieredCache) -> None:
        await LangChainCache(cache).aupdate("q", "m", [Generation(text="a")])
        digest = cache.namespace("langchain", "m").view.scope.key("q")
        (found,) = await cache.view.shared.engine.read([digest])
        assert found is not None

    @pytest.mark.parametrize("wrong", [1, 1.0, ("1",)])
    def test_what_is_no_text_is_an_error(self, cache: TieredCache, wrong: Any) -> None:
        with pytest.raises(ConfigurationError):
            LangChainCache(cache, version=wrong)


async def test_a_generation_given_to_the_functions_is_the_models_own(cache: TieredCache) -> None:
    given: list[Sequence[Generation]] = []

    def look(generations: Sequence[Generation]) -> bool:
        given.append(generations)
        return True

    await CountingChat(cache=LangChainCache(cache, should_cache=look)).ainvoke("q")
    (generation,) = given[0]
    assert isinstance(generation, ChatGeneration)
    assert generation.message.text == "q #1"
