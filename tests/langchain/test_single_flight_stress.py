"""Whatever is asked, nested, failed and cancelled in whatever order: all end, and nothing is left behind."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Generator, Sequence
from typing import Any

import anyio
import anyio.to_thread
import pytest

from tests.conftest import BACKENDS
from tests.langchain.flights import FOR_EVER, Chat, Text, left_behind
from tests.waiting import until
from tests.worlds import World
from tiered_cache import TieredCache
from tiered_cache.langchain import LangChainCache
from tiered_cache.testing._gates import PATIENCE_SECONDS

pytestmark = [
    pytest.mark.parametrize("world", ["embedded", "servers"], indirect=True),
    pytest.mark.parametrize("anyio_backend", [BACKENDS["asyncio"], BACKENDS["uvloop"]], ids=["asyncio", "uvloop"]),
]

QUESTIONS: Sequence[str] = ("a", "b", "c")
CALLERS = 24


@pytest.fixture
def cache(world: World) -> Generator[TieredCache]:
    cache = TieredCache(world.front, world.store, front_timeout=5)
    yield cache
    cache.close()


class Chaos:
    """Models that take a while, ask again, and fail, and those who ask them. All by one seed."""

    def __init__(self, seed: int, answers: LangChainCache) -> None:
        self.random = random.Random(seed)
        self.kept: list[Exception] = []
        self.wrong: list[str] = []
        self.chat = Chat(cache=answers, work=self._awork)
        self.text = Text(cache=answers, work=self._awork)
        self.sync_chat = Chat(cache=answers, work=self._work)
        self.sync_text = Text(cache=answers, work=self._work)

    def _fails(self) -> None:
        if self.random.random() < 0.3:
            raise LookupError("no answer")

    async def _awork(self, question: str, nth: int) -> None:
        for _ in range(self.random.randrange(4)):
            await asyncio.sleep(0)
        if nth < 4 and self.random.random() < 0.3:
            await self.chat.ainvoke(self.random.choice(QUESTIONS))
        self._fails()

    def _work(self, question: str, nth: int) -> None:
        if nth < 4 and self.random.random() < 0.3:
            self.sync_chat.invoke(self.random.choice(QUESTIONS))
        self._fails()

    async def ask(self) -> None:
        mine = self.random.sample(QUESTIONS, k=self.random.randint(1, 3))
        way = self.random.randrange(5)
        with anyio.CancelScope() as scope:
            if self.random.random() < 0.2:
                asyncio.get_running_loop().call_later(self.random.random() / 50, scope.cancel)
            try:
                answers = await self._answers(way, mine)
            except LookupError as error:
                if self.random.random() < 0.5:
                    self.kept.append(error)
            else:
                self.wrong += [f"{a}: {b}" for a, b in zip(mine, answers, strict=True) if b.split(" #")[0] != a]

    async def _answers(self, way: int, mine: list[str]) -> list[str]:
        found: Any
        match way:
            case 0:
                found = [message.text for message in await self.chat.abatch(list(mine))]
            case 1:
                found = [g[0].text for g in (await self.text.agenerate(mine)).generations]
            case 2:
                batch = await anyio.to_thread.run_sync(self.sync_chat.batch, list[Any](mine))
                found = [message.text for message in batch]
            case 3:
                result = await anyio.to_thread.run_sync(self.sync_text.generate, mine)
                found = [g[0].text for g in result.generations]
            case _:
                found = [self.sync_chat.invoke(question).text for question in mine]
        return found


@pytest.mark.parametrize("seed", range(6))
async def test_all_end_and_nothing_is_left_behind(cache: TieredCache, seed: int) -> None:
    answers = LangChainCache(cache, single_flight=FOR_EVER)
    chaos = Chaos(seed, answers)
    for _ in range(3):
        with anyio.fail_after(3 * PATIENCE_SECONDS):
            async with anyio.create_task_group() as tasks:
                for _ in range(CALLERS):
                    tasks.start_soon(chaos.ask)
        await answers.aclear()
    assert chaos.wrong == []
    await until(lambda: not left_behind(cache, answers))
    assert cache.stats().adapter_errors == 0
