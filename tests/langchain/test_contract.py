"""What langchain-core expects of a cache and says nowhere, and what its other caches got wrong."""

from __future__ import annotations

from collections import deque
from typing import Any

import anyio
import pytest
from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatGeneration, Generation

from tests.langchain.answers import ANSWERS, ai
from tests.worlds import World
from tiered_cache import TieredCache
from tiered_cache.langchain import LangChainCache
from tiered_cache.langchain._serde import _same


@pytest.fixture
def answers(cache: TieredCache) -> LangChainCache:
    """Gives answers as they were stored; what a hit is given beyond that is told in `test_hits`."""
    return LangChainCache(cache, fresh_ids=False, mark_hits=False)


LONG = "x" * 9000  # more than a B-tree page of PostgreSQL takes

QUESTIONS: dict[str, list[tuple[str, str]]] = {
    "where the border is": [("ab", "c"), ("a", "bc"), ("abc", ""), ("", "abc")],
    "which is which": [("a", "b"), ("b", "a"), ("", "")],
    "separators": [("a:b", "c"), ("a", "b:c"), ("a,b", "c"), ("a", "b,c"), ("a|b", "c"), ("a", "b|c")],
    "patterns": [("t?", "m"), ("tX", "m"), ("t*", "m"), ("t[a]", "m"), ("ta", "m"), ("t%", "m"), ("t_", "m")],
    "what databases trip over": [("a\x00b", "m"), ("ab", "m"), ("a\x00", "b"), ("a", "\x00b"), ("'; --", "m")],
    "halves of characters": [("\ud83d", "m"), ("\ude00", "m"), ("\ud83d\ude00", "m"), ("\U0001f600", "m")],
    "case, space and form": [("A", "m"), ("a", "m"), ("a ", "m"), ("é", "m"), ("e\u0301", "m")],
    "long settings": [("a", LONG), ("a", LONG + "y"), ("a", "y" + LONG), (LONG, "a")],
    "a prompt of a megabyte": [("p" * 1_000_000, "m"), ("p" * 999_999 + "q", "m"), ("p" * 1_000_001, "m")],
    "encodings of one text": [("é", "m"), ("Ã©", "m"), ("\\u00e9", "m"), ("b'a'", "m")],
}


@pytest.mark.parametrize("kind", QUESTIONS)
async def test_two_questions_never_share_an_answer(answers: LangChainCache, kind: str) -> None:
    for n, (prompt, llm_string) in enumerate(QUESTIONS[kind]):
        await answers.aupdate(prompt, llm_string, [Generation(text=str(n))])
    for n, (prompt, llm_string) in enumerate(QUESTIONS[kind]):
        assert await answers.alookup(prompt, llm_string) == [Generation(text=str(n))]


@pytest.mark.parametrize("name", ANSWERS)
@pytest.mark.parametrize("world", ["embedded"], indirect=True)
async def test_every_kind_of_answer_survives(answers: LangChainCache, name: str) -> None:
    await answers.aupdate("q", "m", ANSWERS[name])
    found = await answers.alookup("q", "m")
    assert type(found) is list, "langchain-core takes anything but a list for a miss"
    assert _same(ANSWERS[name], found)


async def test_every_answer_comes_from_the_store_as_well(world: World, cache: TieredCache) -> None:
    for name, answer in ANSWERS.items():
        await LangChainCache(cache).aupdate(name, "m", answer)
    other = LangChainCache(TieredCache(world.other_front(), world.store), fresh_ids=False, mark_hits=False)
    world.lose_front()
    for name, answer in ANSWERS.items():
        assert _same(answer, await other.alookup(name, "m"))


async def test_a_hundred_long_generations_keep_their_order(answers: LangChainCache) -> None:
    many = [Generation(text=f"{n} " + "x" * 200) for n in range(100)]
    await answers.aupdate("q", "m", many)
    assert await answers.alookup("q", "m") == many


async def test_a_shorter_answer_leaves_nothing_of_the_longer_one(answers: LangChainCache) -> None:
    await answers.aupdate("q", "m", [Generation(text="old a"), Generation(text="old b"), Generation(text="old c")])
    await answers.aupdate("q", "m", [Generation(text="new")])
    assert await answers.alookup("q", "m") == [Generation(text="new")]


async def test_eighty_writers_of_one_answer_leave_one_whole_answer(cache: TieredCache, answers: LangChainCache) -> None:
    def answer(n: int) -> list[Generation]:
        return [Generation(text=f"{n} {part}") for part in range(1 + n % 5)]

    async with anyio.create_task_group() as tasks:
        for n in range(80):
            tasks.start_soon(answers.aupdate, "q", "m", answer(n))
    found = await answers.alookup("q", "m")
    assert found in [answer(n) for n in range(80)]
    assert found == answers.lookup("q", "m")
    assert cache.stats().adapter_errors == 0


@pytest.mark.parametrize("world", ["embedded"], indirect=True)
class TestOneWorldIsEnough:
    async def test_changing_a_hit_changes_no_later_hit(self, answers: LangChainCache) -> None:
        given = ai("two", tool_calls=[{"name": "f", "args": {"n": 1}, "id": "c"}], response_metadata={"a": [1]})
        await answers.aupdate("q", "m", given)
        for _ in range(3):
            found = await answers.alookup("q", "m")
            assert found is not None
            assert found == ai(
                "two", tool_calls=[{"name": "f", "args": {"n": 1}, "id": "c"}], response_metadata={"a": [1]}
            )
            (generation,) = found
            assert isinstance(generation, ChatGeneration)
            assert isinstance(generation.message, AIMessage)
            generation.message.content = "poisoned"
            generation.message.tool_calls[0]["args"]["n"] = 666
            generation.message.response_metadata["a"].append(666)
            found.clear()

    async def test_changing_what_was_stored_changes_no_hit(self, answers: LangChainCache) -> None:
        given = ai("two", response_metadata={"a": [1]})
        await answers.aupdate("q", "m", given)
        given[0].message.content = "poisoned"
        given[0].message.response_metadata["a"].append(666)
        given.clear()
        assert await answers.alookup("q", "m") == ai("two", response_metadata={"a": [1]})

    async def test_nothing_is_never_stored_and_never_returned(
        self, cache: TieredCache, answers: LangChainCache
    ) -> None:
        await answers.aupdate("q", "m", [])
        answers.update("q", "m", ())
        assert await answers.alookup("q", "m") is None
        assert answers.lookup("q", "m") is None
        assert cache.stats().sets == 0

    async def test_an_empty_update_leaves_the_older_answer(self, answers: LangChainCache) -> None:
        await answers.aupdate("q", "m", [Generation(text="old")])
        await answers.aupdate("q", "m", [])
        assert await answers.alookup("q", "m") == [Generation(text="old")]

    @pytest.mark.parametrize("kind", [tuple, iter, deque])
    async def test_any_sequence_is_stored_and_a_list_returned(self, answers: LangChainCache, kind: Any) -> None:
        await answers.aupdate("q", "m", kind([Generation(text="a"), Generation(text="b")]))
        found = await answers.alookup("q", "m")
        assert type(found) is list
        assert found == [Generation(text="a"), Generation(text="b")]

    def test_an_empty_cache_is_true(self, answers: LangChainCache) -> None:
        # langchain-core before 1.6 asks `if cache:`; an empty cache with a length would never be filled.
        assert answers
        assert not hasattr(LangChainCache, "__len__")
        assert not hasattr(LangChainCache, "__bool__")

    async def test_both_faces_see_the_same_answers(self, answers: LangChainCache) -> None:
        answers.update("q", "m", [Generation(text="sync")])
        assert await answers.alookup("q", "m") == [Generation(text="sync")]
        await answers.aupdate("q", "m", [Generation(text="async")])
        assert answers.lookup("q", "m") == [Generation(text="async")]
        await answers.adelete("q", "m")
        assert answers.lookup("q", "m") is None

    async def test_hits_and_misses_are_counted(self, cache: TieredCache, answers: LangChainCache) -> None:
        await answers.alookup("q", "m")
        await answers.aupdate("q", "m", [Generation(text="a")])
        await answers.alookup("q", "m")
        stats = cache.stats()
        assert (stats.misses, stats.sets, stats.hits) == (1, 1, 1)
