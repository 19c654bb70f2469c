"""Equal questions asked at once cost one call of the model, and nobody waits for an answer that is not to come."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from contextvars import Context
from functools import partial
from typing import Any

import anyio
import anyio.to_thread
import pytest
from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatGeneration, Generation

from tests.conftest import BACKENDS
from tests.langchain.flights import FOR_EVER, Chat, Log, Text, left_behind, waiting
from tests.langchain.test_failures import Parsed
from tests.waiting import until, until_sync
from tests.worlds import World
from tiered_cache import ConfigurationError, TieredCache
from tiered_cache._flights import is_nested
from tiered_cache.langchain import LangChainCache
from tiered_cache.testing import Gate
from tiered_cache.testing._gates import PATIENCE_SECONDS

ON_ASYNCIO = pytest.mark.parametrize(
    "anyio_backend", [BACKENDS["asyncio"], BACKENDS["uvloop"]], ids=["asyncio", "uvloop"]
)
EMBEDDED = pytest.mark.parametrize("world", ["embedded"], indirect=True)


@pytest.fixture
def cache(world: World) -> Generator[TieredCache]:
    cache = TieredCache(world.front, world.store, front_timeout=5)
    yield cache
    cache.close()


@pytest.fixture
def answers(cache: TieredCache) -> Generator[LangChainCache]:
    answers = LangChainCache(cache, single_flight=FOR_EVER)
    yield answers
    until_sync(lambda: not left_behind(cache, answers))


class Thread(threading.Thread):
    """Raises in `result` what the call raised."""

    def __init__(self, call: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(daemon=True)
        self._call = partial(call, *args, **kwargs)
        self._outcome: Any = None
        self.start()

    def run(self) -> None:
        try:
            self._outcome = self._call()
        except Exception as error:  # noqa: BLE001  (raised again by who asks)
            self._outcome = error

    def result(self) -> Any:
        self.join(PATIENCE_SECONDS)
        assert not self.is_alive()
        if isinstance(self._outcome, Exception):
            raise self._outcome
        return self._outcome


def nothing(question: str, nth: int) -> None:
    """A model that answers at once."""


async def anothing(question: str, nth: int) -> None:
    """The same for asynchronous callers."""


class Gated:
    """An asynchronous model that stops in its first call, and then may fail."""

    def __init__(self, *, fails: bool = False) -> None:
        self.gate = Gate()
        self.fails = fails

    async def __call__(self, question: str, nth: int) -> None:
        if nth == 1:
            await self.gate.wait()
            if self.fails:
                raise LookupError("no answer")


class Stopped:
    """The same for threads."""

    def __init__(self, *, fails: bool = False) -> None:
        self.reached, self.go_on = threading.Event(), threading.Event()
        self.fails = fails

    def __call__(self, question: str, nth: int) -> None:
        if nth == 1:
            self.reached.set()
            assert self.go_on.wait(PATIENCE_SECONDS)
            if self.fails:
                raise LookupError("no answer")


class TestOneCall:
    @ON_ASYNCIO
    async def test_for_ten_equal_prompts_of_an_asynchronous_batch(
        self, cache: TieredCache, answers: LangChainCache
    ) -> None:
        work = Gated()
        llm = Chat(cache=answers, work=work)
        async with anyio.create_task_group() as tasks:

            async def ask() -> None:
                assert [m.text for m in await llm.abatch(["q"] * 10)] == ["q #1"] * 10

            tasks.start_soon(ask)
            await work.gate.reached()
            await until(lambda: waiting(cache) == 9)
            work.gate.open()
        assert llm.log.calls == {"q": 1}
        assert (await llm.ainvoke("q")).text == "q #1"
        stats = cache.stats()
        assert (stats.computed, stats.joined, stats.adapter_errors) == (1, 9, 0)

    def test_for_ten_equal_prompts_of_a_synchronous_batch(self, cache: TieredCache, answers: LangChainCache) -> None:
        def work(question: str, nth: int) -> None:
            until_sync(lambda: waiting(cache) == 9)

        llm = Chat(cache=answers, work=work)
        assert [m.text for m in llm.batch(["q"] * 10, {"max_concurrency": 10})] == ["q #1"] * 10
        assert llm.log.calls == {"q": 1}
        assert llm.invoke("q").text == "q #1"

    @EMBEDDED
    async def test_for_those_who_ask_asynchronously_while_a_thread_computes(
        self, cache: TieredCache, answers: LangChainCache
    ) -> None:
        work = Stopped()
        llm = Chat(cache=answers, work=work)
        thread = Thread(llm.invoke, "q")
        await until(work.reached.is_set)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(llm.ainvoke, "q")
            await until(lambda: waiting(cache) == 1)
            work.go_on.set()
        assert thread.result().text == "q #1"
        assert llm.log.calls == {"q": 1}

    @EMBEDDED
    async def test_and_everyone_has_an_object_of_his_own(self, cache: TieredCache, answers: LangChainCache) -> None:
        work = Gated()
        llm = Chat(cache=answers, work=work)
        found: list[Any] = []
        async with anyio.create_task_group() as tasks:

            async def ask() -> None:
                found.append(await llm.ainvoke("q"))

            for _ in range(3):
                tasks.start_soon(ask)
            await until(lambda: waiting(cache) == 2)
            work.gate.open()
        assert len({id(message) for message in found}) == 3

    @EMBEDDED
    async def test_is_not_what_different_questions_cost(self, cache: TieredCache, answers: LangChainCache) -> None:
        llm = Chat(cache=answers, work=anothing)
        other = llm.bind(stop=["\n"])
        await asyncio.gather(llm.ainvoke("q"), llm.ainvoke("r"), other.ainvoke("q"))
        assert llm.log.calls == {"q": 2, "r": 1}


class TestTextModels:
    def test_a_question_asked_twice_in_one_call_waits_for_nobody(self, answers: LangChainCache) -> None:
        llm = Text(cache=answers, work=nothing)
        for _ in range(2):
            assert [g[0].text for g in llm.generate(["a", "b", "a"]).generations] == ["a #1", "b #1", "a #1"]
        assert llm.log.calls == {"a+b+a": 1}

    async def test_nor_does_it_asynchronously(self, answers: LangChainCache) -> None:
        llm = Text(cache=answers, work=anothing)
        with anyio.fail_after(PATIENCE_SECONDS):
            for _ in range(2):
                result = await llm.agenerate(["a", "b", "a"])
                assert [g[0].text for g in result.generations] == ["a #1", "b #1", "a #1"]
        assert llm.log.calls == {"a+b+a": 1}

    @EMBEDDED
    async def test_all_prompts_are_led_until_their_updates(self, cache: TieredCache, answers: LangChainCache) -> None:
        work = Gated()
        llm = Text(cache=answers, work=work)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(llm.agenerate, ["a", "b", "c"])
            await work.gate.reached()
            gc.collect()
            for prompt in "cab":
                tasks.start_soon(llm.ainvoke, prompt)
            await until(lambda: waiting(cache) == 3)
            await anyio.sleep(0.6)  # they are looked at twice meanwhile
            assert waiting(cache) == 3
            work.gate.open()
        assert llm.log.calls == {"a+b+c": 1}

    @EMBEDDED
    def test_all_prompts_are_led_by_a_thread_until_their_updates(
        self, cache: TieredCache, answers: LangChainCache
    ) -> None:
        work = Stopped()
        llm = Text(cache=answers, work=work)
        leader = Thread(llm.generate, ["a", "b", "c"])
        assert work.reached.wait(PATIENCE_SECONDS)
        others = [Thread(llm.invoke, prompt) for prompt in "cab"]
        until_sync(lambda: waiting(cache) == 3)
        leader.join(0.6)
        assert waiting(cache) == 3
        work.go_on.set()
        leader.result()
        assert [other.result() for other in others] == ["c #1", "a #1", "b #1"]
        assert llm.log.calls == {"a+b+c": 1}

    @EMBEDDED
    async def test_calls_that_need_what_the_other_leads_both_end(self, answers: LangChainCache) -> None:
        llm = Text(cache=answers, work=anothing)
        prompts = list("abcdefgh")
        with anyio.fail_after(PATIENCE_SECONDS):
            for n in range(20):
                mine = [f"{prompt}{n}" for prompt in prompts]
                await asyncio.gather(llm.agenerate(mine), llm.agenerate(mine[::-1]), llm.agenerate(mine[4:] + mine[:4]))

    @EMBEDDED
    def test_threads_that_need_what_the_other_leads_both_end(self, answers: LangChainCache) -> None:
        llm = Text(cache=answers, work=nothing)
        for n in range(10):
            mine = [f"{prompt}{n}" for prompt in "abcdefgh"]
            for thread in [Thread(llm.generate, order) for order in (mine, mine[::-1], mine[4:] + mine[:4])]:
                thread.result()


class TestLeadersThatFail:
    """The exception is kept by the user in all of these: its traceback keeps everything of the call alive."""

    @ON_ASYNCIO
    @pytest.mark.parametrize("keeps", [True, False])
    async def test_hand_over_to_one_after_the_other(
        self, cache: TieredCache, answers: LangChainCache, keeps: bool
    ) -> None:
        gates = [Gate() for _ in range(4)]

        async def work(question: str, nth: int) -> None:
            await gates[nth - 1].wait()
            if nth < 4:
                raise LookupError("no answer")

        llm = Chat(cache=answers, work=work)
        failed: list[object] = []
        found: list[str] = []

        async def ask() -> None:
            try:
                found.append((await llm.ainvoke("q")).text)
            except LookupError as error:
                failed.append(error if keeps else None)

        async with anyio.create_task_group() as tasks:
            for _ in range(8):
                tasks.start_soon(ask)
            for n, gate in enumerate(gates):
                await gate.reached()
                await until(lambda n=n: waiting(cache) == 7 - n)
                gate.open()
        assert (len(failed), found) == (3, ["q #4"] * 5)
        assert llm.log.most == {"q": 1}

    @pytest.mark.parametrize("keeps", [True, False])
    def test_hand_over_to_one_thread_after_the_other(
        self, cache: TieredCache, answers: LangChainCache, keeps: bool
    ) -> None:
        def work(question: str, nth: int) -> None:
            until_sync(lambda: waiting(cache) == 6 - nth)
            if nth < 4:
                raise LookupError("no answer")

        llm = Chat(cache=answers, work=work)
        failed: list[object] = []

        def ask() -> str | None:
            try:
                return llm.invoke("q").text
            except LookupError as error:
                failed.append(error if keeps else None)
                return None

        with ThreadPoolExecutor(6) as pool:
            found = [each.result(PATIENCE_SECONDS) for each in [pool.submit(ask) for _ in range(6)]]
        assert sorted(map(str, found)) == ["None"] * 3 + ["q #4"] * 3
        assert llm.log.most == {"q": 1}

    @EMBEDDED
    async def test_hand_over_where_a_text_models_task_goes_on(
        self, cache: TieredCache, answers: LangChainCache
    ) -> None:
        work = Gated(fails=True)
        llm = Text(cache=answers, work=work)
        kept: list[Exception] = []
        done = anyio.Event()

        async def worker() -> None:
            try:
                await llm.ainvoke("q")
            except LookupError as error:
                kept.append(error)
            await done.wait()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(worker)
            await work.gate.reached()
            async with anyio.create_task_group() as others:
                for _ in range(3):
                    others.start_soon(llm.ainvoke, "q")
                await until(lambda: waiting(cache) == 3)
                work.gate.open()
            assert len(kept) == 1
            done.set()
        assert llm.log.calls == {"q": 2}

    @EMBEDDED
    def test_hand_over_where_a_text_models_thread_goes_on(self, cache: TieredCache, answers: LangChainCache) -> None:
        work = Stopped(fails=True)
        llm = Text(cache=answers, work=work)
        kept: list[Exception] = []
        done = threading.Event()

        def worker() -> None:
            try:
                llm.invoke("q")
            except LookupError as error:
                kept.append(error)
            assert done.wait(PATIENCE_SECONDS)

        leader = Thread(worker)
        assert work.reached.wait(PATIENCE_SECONDS)
        others = [Thread(llm.invoke, "q") for _ in range(3)]
        until_sync(lambda: waiting(cache) == 3)
        work.go_on.set()
        assert [other.result() for other in others] == ["q #2"] * 3
        assert len(kept) == 1
        done.set()
        leader.result()

    @EMBEDDED
    @pytest.mark.parametrize("model", [Chat, Text])
    async def test_are_not_waited_for_by_their_own_next_attempt(
        self, answers: LangChainCache, model: type[Chat | Text]
    ) -> None:
        def work(question: str, nth: int) -> None:
            if nth % 3:
                raise LookupError("no answer")

        async def awork(question: str, nth: int) -> None:
            work(question, nth)

        kept: list[Exception] = []
        with anyio.fail_after(PATIENCE_SECONDS):
            llm: Any = model(cache=answers, work=awork)
            await llm.with_retry(wait_exponential_jitter=False).ainvoke("q")
            for _ in range(2):
                try:
                    await llm.ainvoke("r")
                except LookupError as error:
                    kept.append(error)
            await llm.with_fallbacks([llm]).ainvoke("r")
            await llm.abatch(["s", "t"], return_exceptions=True)
            kept += await llm.abatch(["s", "t"], return_exceptions=True)
            await llm.abatch(["s", "t"])
        assert all(isinstance(each, LookupError) for each in kept)
        llm = model(cache=answers, work=work)

        def ask() -> None:
            llm.with_retry(wait_exponential_jitter=False).invoke("sync q")
            for _ in range(2):
                try:
                    llm.invoke("sync r")
                except LookupError as error:
                    kept.append(error)
            llm.with_fallbacks([llm]).invoke("sync r")
            for _ in range(2):
                kept.extend(llm.batch(["sync s", "sync t"], return_exceptions=True))
            llm.batch(["sync s", "sync t"])

        await anyio.to_thread.run_sync(Thread(ask).result)

    @EMBEDDED
    @pytest.mark.parametrize("model", [Chat, Text])
    def test_are_followed_by_their_own_next_attempt_for_all(
        self, cache: TieredCache, answers: LangChainCache, model: type[Chat | Text]
    ) -> None:
        again = Stopped()

        def work(question: str, nth: int) -> None:
            if nth == 1:
                raise LookupError("no answer")
            again(question, nth - 1)

        llm: Any = model(cache=answers, work=work)
        kept: list[Exception] = []

        def attempts() -> None:
            try:
                llm.invoke("q")
            except LookupError as error:
                kept.append(error)
            llm.invoke("q")

        leader = Thread(attempts)
        assert again.reached.wait(PATIENCE_SECONDS)
        other = Thread(llm.invoke, "q")
        until_sync(lambda: waiting(cache) == 1)
        leader.join(0.6)
        assert waiting(cache) == 1
        again.go_on.set()
        leader.result()
        other.result()
        assert len(kept) == 1
        assert llm.log.calls == {"q": 2}

    @EMBEDDED
    async def test_that_are_cancelled_hand_over(self, cache: TieredCache, answers: LangChainCache) -> None:
        for model in (Chat, Text):
            work = Gated()
            llm: Any = model(cache=answers, work=work)
            leader = asyncio.create_task(llm.ainvoke("q"))
            await work.gate.reached()
            async with anyio.create_task_group() as tasks:
                for _ in range(3):
                    tasks.start_soon(llm.ainvoke, "q")
                await until(lambda: waiting(cache) == 3)
                leader.cancel()
            assert llm.log.calls == {"q": 2}
            assert llm.log.most == {"q": 1}
            with suppress(asyncio.CancelledError):
                await leader
            await answers.aclear()

    @EMBEDDED
    async def test_and_those_who_wait_may_be_cancelled(self, cache: TieredCache, answers: LangChainCache) -> None:
        work = Gated()
        llm = Chat(cache=answers, work=work)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(llm.ainvoke, "q")
            await work.gate.reached()
            async with anyio.create_task_group() as others:
                for _ in range(3):
                    others.start_soon(llm.ainvoke, "q")
                await until(lambda: waiting(cache) == 3)
                others.cancel_scope.cancel()
            work.gate.open()
        assert llm.log.calls == {"q": 1}

    @EMBEDDED
    async def test_leave_nobody_inside_of_them(self, cache: TieredCache, answers: LangChainCache) -> None:
        kept: list[Exception] = []
        work = Stopped(fails=True)
        work.go_on.set()
        llm = Text(cache=answers, work=work)
        try:
            llm.invoke("q")
        except LookupError as error:
            kept.append(error)
        await until(lambda: not left_behind(cache, answers))
        assert not is_nested()


def answer(text: str) -> ChatGeneration:
    return ChatGeneration(message=AIMessage(text))


@EMBEDDED
async def test_an_answer_is_kept_for_as_long_as_the_users_function_says(cache: TieredCache) -> None:
    def ttl(prompt: str, llm_string: str, generations: Sequence[Generation]) -> float:
        return 0.05

    llm = Chat(cache=LangChainCache(cache, single_flight=FOR_EVER, ttl=ttl), work=anothing)
    with anyio.fail_after(PATIENCE_SECONDS):
        while (await llm.ainvoke("q")).text == "q #1":
            await anyio.lowlevel.checkpoint()


class TestAnswersThatAreNotShared:
    @EMBEDDED
    @pytest.mark.parametrize("odd", ["unsupported", "refused", "nothing"])
    async def test_keep_nobody_waiting_for_one_another(
        self, cache: TieredCache, answers: LangChainCache, odd: str
    ) -> None:
        """One after the other, ten who wait for such an answer would take ten times as long."""
        first, rest, together = Gate(), Gate(), Log()

        async def work(question: str, nth: int) -> None:
            with together.call("all"):
                await (first if nth == 1 else rest).wait()

        if odd == "refused":
            answers = LangChainCache(cache, single_flight=FOR_EVER, should_cache=lambda _: False)
        unsupported = AIMessage(content="{}", additional_kwargs={"parsed": Parsed(apples=1)})
        given = {"unsupported": [ChatGeneration(message=unsupported)], "nothing": []}.get(odd, [answer("refused")])
        llm = Chat(cache=answers, work=work, generations=lambda _: given)
        async with anyio.create_task_group() as tasks:
            for _ in range(6):
                tasks.start_soon(partial(llm.agenerate, [[AIMessage("q")]]))
            await until(lambda: waiting(cache) == 5)
            first.open()
            await until(lambda: together.now["all"] == 5)
            rest.open()
        assert llm.log.calls == {"q": 6}
        stats = cache.stats()
        assert (stats.unsupported, stats.skipped) == (6 * (odd == "unsupported"), 6 * (odd == "refused"))
        assert not left_behind(cache, answers)

    @EMBEDDED
    @pytest.mark.parametrize("change", ["delete", "clear", "update"])
    async def test_nor_stored_where_something_newer_is(
        self, cache: TieredCache, answers: LangChainCache, change: str
    ) -> None:
        work = Gated()
        llm = Chat(cache=answers, work=work)
        newer = [Generation(text="newer")]
        questions: list[tuple[str, str]] = []
        look = answers.alookup

        async def asked(prompt: str, llm_string: str) -> Any:
            questions.append((prompt, llm_string))
            return await look(prompt, llm_string)

        object.__setattr__(answers, "alookup", asked)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(llm.ainvoke, "q")
            await work.gate.reached()
            if change == "delete":
                await answers.adelete(*questions[0])
            elif change == "clear":
                await answers.aclear()
            else:
                await answers.aupdate(*questions[0], newer)
            work.gate.open()
        found = await look(*questions[0])
        assert found == (newer if change == "update" else ())
        assert cache.stats().overtaken == 1


class TestNestedCalls:
    @EMBEDDED
    async def test_never_wait_for_themselves(self, answers: LangChainCache) -> None:
        async def work(question: str, nth: int) -> None:
            if nth < 3:
                await asyncio.gather(llm.ainvoke("q"), asyncio.create_task(llm.ainvoke("q")))

        llm = Chat(cache=answers, work=work)
        with anyio.fail_after(PATIENCE_SECONDS):
            await llm.ainvoke("q")
        assert (await llm.ainvoke("q")).text == "q #1", "the outermost answer came last"

    @EMBEDDED
    async def test_never_wait_for_themselves_in_threads(self, answers: LangChainCache) -> None:
        def work(question: str, nth: int) -> None:
            if nth < 3:
                llm.batch(["q", "q"])

        llm = Chat(cache=answers, work=work)
        thread = Thread(llm.invoke, "q")
        await anyio.to_thread.run_sync(thread.result)

    @EMBEDDED
    def test_from_threads_into_a_loop_and_back_never_wait_for_themselves(self, answers: LangChainCache) -> None:
        def work(question: str, nth: int) -> None:
            if nth == 1:
                asyncio.run(inner.ainvoke("q"))

        async def awork(question: str, nth: int) -> None:
            await asyncio.to_thread(llm.invoke, "q")
            llm.invoke("q")

        llm = Chat(cache=answers, work=work)
        inner = Chat(cache=answers, work=awork)
        Thread(llm.invoke, "q").result()

    @EMBEDDED
    async def test_that_need_each_other_both_end(self, answers: LangChainCache) -> None:
        async def work(question: str, nth: int) -> None:
            both[question].set()
            for event in both.values():
                await event.wait()
            if nth == 1:
                await llm.ainvoke("b" if question == "a" else "a")

        both = {"a": anyio.Event(), "b": anyio.Event()}
        llm = Chat(cache=answers, work=work)
        with anyio.fail_after(PATIENCE_SECONDS):
            await asyncio.gather(llm.ainvoke("a"), llm.ainvoke("b"))

    @EMBEDDED
    async def test_of_another_question_still_cost_one_call(self, cache: TieredCache, answers: LangChainCache) -> None:
        gate = Gate()

        async def work(question: str, nth: int) -> None:
            if question == "inner":
                await gate.wait()
            else:
                await llm.ainvoke("inner")

        llm = Chat(cache=answers, work=work)
        async with anyio.create_task_group() as tasks:
            for question in ("a", "b", "c"):
                tasks.start_soon(llm.ainvoke, question)
            await until(lambda: waiting(cache) == 2)
            gate.open()
        assert llm.log.calls["inner"] == 1


class TestSynchronousCallers:
    @EMBEDDED
    async def test_on_a_thread_that_runs_a_loop_wait_for_nobody(self, answers: LangChainCache) -> None:
        """They hold up the very loop that the computation needs."""
        work = Gated()
        llm, mine = Chat(cache=answers, work=work), Chat(cache=answers, work=nothing)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(llm.ainvoke, "q")
            await work.gate.reached()
            assert mine.invoke("q").text == "q #1"
            work.gate.open()

    @EMBEDDED
    async def test_in_a_thread_do_not_wait_for_a_loop(self, answers: LangChainCache) -> None:
        work = Gated()
        llm, mine = Chat(cache=answers, work=work), Chat(cache=answers, work=nothing)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(llm.ainvoke, "q")
            await work.gate.reached()
            assert (await anyio.to_thread.run_sync(mine.invoke, "q")).text == "q #1"
            work.gate.open()


class TestTheLimit:
    @EMBEDDED
    async def test_is_how_long_anyone_waits(self, cache: TieredCache) -> None:
        answers = LangChainCache(cache, single_flight=0.05)
        work = Gated()
        llm = Chat(cache=answers, work=work)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(llm.ainvoke, "q")
            await work.gate.reached()
            with anyio.fail_after(PATIENCE_SECONDS):
                await llm.ainvoke("q")
                assert (await llm.ainvoke("q")).text == "q #2"
            work.gate.open()
        assert llm.log.calls == {"q": 2}

    @EMBEDDED
    async def test_ends_a_lead_whatever_keeps_it(self, cache: TieredCache) -> None:
        answers = LangChainCache(cache, single_flight=0.05)
        kept = answers.lookup("q", "m"), await answers.alookup("r", "m")
        assert left_behind(cache, answers)
        await until(lambda: not left_behind(cache, answers))
        await answers.aupdate("r", "m", [Generation(text="late")])
        assert await answers.alookup("r", "m") == [Generation(text="late")]
        assert not any(kept)

    @EMBEDDED
    def test_is_no_longer_than_what_is_left_to_those_who_wait_for_the_caller(self, answers: LangChainCache) -> None:
        single_flight: Any = answers._single_flight
        theirs = [Thread(answers.lookup, "b", "m").result()]

        def ask() -> Any:
            mine = answers.lookup("a", "m")
            _, lead = single_flight._leads.values()
            lead.until = time.monotonic() + 0.1
            return mine, answers.lookup("b", "m")

        assert Thread(ask).result() == ((), ())
        assert theirs == [()]

    @EMBEDDED
    @pytest.mark.parametrize("seconds", [0, -1, "1", True, float("nan")])
    def test_that_makes_no_sense_is_refused(self, cache: TieredCache, seconds: Any) -> None:
        with pytest.raises(ConfigurationError, match="single_flight"):
            LangChainCache(cache, single_flight=seconds)


@EMBEDDED
class TestAMiss:
    async def test_is_empty_and_ends_with_whoever_was_given_it(
        self, cache: TieredCache, answers: LangChainCache
    ) -> None:
        for _ in range(2):
            miss = await answers.alookup("q", "m")
            assert miss == ()
            assert left_behind(cache, answers)
            other = asyncio.create_task(answers.alookup("q", "m"), context=Context())  # not inside of this call
            await until(lambda: waiting(cache) == 1)
            del miss
            assert await other == ()
            del other

    def test_may_be_let_go_of_anywhere(self, cache: TieredCache, answers: LangChainCache) -> None:
        """A finalizer runs between any two steps, with any lock taken."""
        shared = cache.view.shared
        single_flight: Any = answers._single_flight

        def let_go() -> None:
            for lock in (shared.flights._lock, single_flight._lock):
                miss = answers.lookup("q", "m")
                with lock:
                    del miss
                until_sync(lambda: not left_behind(cache, answers))

        Thread(let_go).result()
