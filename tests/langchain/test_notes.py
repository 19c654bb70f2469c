"""What was asked can be found again, by what the application said of it; and only where it is asked for."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from itertools import product
from typing import Any

import anyio
import pytest
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage
from langchain_core.outputs import ChatGeneration, Generation
from pydantic import BaseModel
from sqlalchemy import create_engine, text

from tests.langchain.answers import ai
from tests.langchain.models import CountingChat
from tests.servers import redis_admin
from tests.worlds import World
from tiered_cache import ConfigurationError, MemoryFront, StoreUnavailableError, TieredCache
from tiered_cache._sql import SqlStore
from tiered_cache.langchain import LangChainCache, Remembered
from tiered_cache.langchain._notes import _INDEX as INDEX
from tiered_cache.langchain._notes import _NOTES as NOTES
from tiered_cache.langchain._questions import questions_of
from tiered_cache.testing import FaultyStore

ODD = ["", " ", "\x00", "a\x00b", "\ud83d", "é", "e\u0301", "\U0001f600", "a=b", "user", "x" * 5000]


def by_user(prompt: str, llm_string: str, answer: Sequence[Generation]) -> dict[str, str]:
    """The user is the beginning of the prompt."""
    return {"user": prompt.partition(":")[0], "model": llm_string}


class Face:
    """One way of calling; the same tests are for both."""

    def __init__(self, name: str) -> None:
        self.asynchronous = name == "async"

    async def find(self, answers: LangChainCache, **wanted: str) -> list[Remembered]:
        if self.asynchronous:
            return [record async for record in answers.afind(**wanted)]
        return list(answers.find(**wanted))

    async def prompts(self, answers: LangChainCache, **wanted: str) -> list[str]:
        return sorted(record.prompt for record in await self.find(answers, **wanted))

    async def forget(self, answers: LangChainCache, **wanted: str) -> int:
        return await answers.aforget(**wanted) if self.asynchronous else answers.forget(**wanted)

    async def update(self, answers: LangChainCache, prompt: str, llm_string: str, answer: list[Any]) -> None:
        if self.asynchronous:
            await answers.aupdate(prompt, llm_string, answer)
        else:
            answers.update(prompt, llm_string, answer)

    async def delete(self, answers: LangChainCache, prompt: str, llm_string: str) -> None:
        await answers.adelete(prompt, llm_string) if self.asynchronous else answers.delete(prompt, llm_string)


@pytest.fixture(params=["sync", "async"])
def face(request: pytest.FixtureRequest) -> Face:
    return Face(request.param)


@pytest.fixture
def answers(cache: TieredCache) -> LangChainCache:
    return LangChainCache(cache, remember=by_user)


def rows(world: World, what: str = "count(*)") -> list[Any]:
    engine = create_engine(world.store.replace("+asyncpg", "+psycopg"))
    with engine.connect() as connection:
        found: list[Any] = list(connection.execute(text(f"SELECT {what} FROM tiered_cache_entry")).scalars())
    engine.dispose()
    return found


async def test_what_was_asked_is_found_by_what_was_said_of_it(
    world: World, answers: LangChainCache, face: Face
) -> None:
    for prompt, model in (("ann: 1", "m-1"), ("ann: 2", "m-2"), ("bob: 1", "m-1")):
        await face.update(answers, prompt, model, ai(f"to {prompt}"))
    world.lose_front()
    (found,) = await face.find(answers, user="ann", model="m-2")
    assert found == Remembered("ann: 2", "m-2", {"user": "ann", "model": "m-2"}, tuple(ai("to ann: 2")))
    assert await face.prompts(answers, user="ann") == ["ann: 1", "ann: 2"]
    assert await face.prompts(answers, model="m-1") == ["ann: 1", "bob: 1"]
    assert await face.prompts(answers) == ["ann: 1", "ann: 2", "bob: 1"]
    for wanted in ({"user": "m-1"}, {"model": "ann"}, {"user": "bob", "model": "m-2"}, {"none": "ann"}, {"user": ""}):
        assert await face.find(answers, **wanted) == []
    assert await answers.alookup(found.prompt, found.llm_string) is not None


async def test_a_model_is_asked_and_its_answer_is_found(answers: LangChainCache, face: Face) -> None:
    llm = CountingChat(cache=answers)
    answer = await llm.ainvoke("what?")
    (found,) = await face.find(answers)
    assert "what?" in found.prompt
    assert "m-1" in found.llm_string
    (generation,) = found.answer
    assert isinstance(generation, ChatGeneration)
    assert generation.message.content == answer.content
    await face.delete(answers, found.prompt, found.llm_string)
    await llm.ainvoke("what?")
    assert llm.calls == 2


async def test_a_conversation_that_is_replayed_is_one_record_a_turn(
    world: World, cache: TieredCache, answers: LangChainCache, face: Face
) -> None:
    llm = CountingChat(cache=answers)
    history: list[BaseMessage] = []
    for _ in range(2):
        history.clear()
        for question in ("one?", "two?", "three?"):
            history.append(HumanMessage(question))
            history.append(await llm.ainvoke(history))
    assert llm.calls == 3
    found = await face.find(answers)
    assert len(found) == 3
    # As the replay asked, which is not how the key has it.
    hit = CountingChat(cache=answers, asked=llm.asked)
    (question,) = questions_of(hit, history[:-1], None)
    assert (question.prompt, question.llm_string) not in [(each.prompt, each.llm_string) for each in found]
    await face.delete(answers, *question)
    assert len(await face.find(answers)) == 2
    assert await face.forget(answers) == 2
    assert rows(world) == [0]


async def test_ttls_versions_and_refusals_hold_for_the_notes_as_well(
    world: World, cache: TieredCache, face: Face
) -> None:
    def ttl(prompt: str, llm_string: str, answer: Sequence[Generation]) -> float:
        return 1000

    first = LangChainCache(cache, remember={}, version="1", should_cache=lambda found: found[0].text != "no")
    second = LangChainCache(cache, remember={}, version="2", ttl=ttl)
    await face.update(first, "q", "m", [Generation(text="yes")])
    await face.update(first, "another", "m", [Generation(text="no")])
    assert await face.find(second) == []
    assert rows(world, "expires") == [None] * 3
    await face.update(second, "q", "m", [Generation(text="yes")])
    expiries = rows(world, "expires")
    later = [each for each in expiries if each is not None]
    assert max(later) - min(later) < 60_000  # SQLite asks its clock for each row
    assert (len(later), expiries.count(None)) == (3, 3)
    assert await face.prompts(second) == ["q"]


async def test_any_character_keeps_its_own_place(cache: TieredCache, face: Face) -> None:
    answers = LangChainCache(cache, remember=lambda prompt, llm_string, _: {prompt: llm_string, "always": "x"})
    pairs = list(dict.fromkeys([*product(ODD[:5], ODD[:5]), *zip(ODD, ODD[::-1], strict=True)]))
    for n, (prompt, model) in enumerate(pairs):
        await answers.aupdate(prompt, model, [Generation(text=str(n))])
    for n, (prompt, model) in enumerate(pairs):
        (found,) = await face.find(answers, **{prompt: model})
        assert found == Remembered(prompt, model, {prompt: model, "always": "x"}, (Generation(text=str(n)),))
    assert len(await face.find(answers, always="x")) == len(pairs)


async def test_pairs_that_read_alike_are_listed_apart(world: World, cache: TieredCache, face: Face) -> None:
    metadata = {"a": "b=c", "a=b": "c", "a:b": "c", "a/b": "c", "a,b": "c", "ab": "c"}
    await face.update(LangChainCache(cache, remember=metadata), "one", "m", ai("x"))
    assert rows(world) == [3 + len(metadata)]  # the answer, its note, and the index of all
    await face.update(LangChainCache(cache, remember={"a": "b=c"}), "two", "m", ai("x"))
    listed = [cache.namespace("langchain", INDEX, *pair) for pair in metadata.items()]
    assert [len([name async for name in each.keys(b"")]) for each in listed] == [2, 1, 1, 1, 1, 1]


async def test_deleting_an_answer_leaves_no_row_behind(world: World, answers: LangChainCache, face: Face) -> None:
    await answers.aupdate("ann: 1", "m", ai("x"))
    await answers.aupdate("ann: 2", "m", ai("x"))
    assert rows(world) == [2 * 5]  # the answer, its note, and the indexes of all, of the user, of the model
    await face.delete(answers, "ann: 1", "m")
    assert rows(world) == [5]
    assert await face.prompts(answers, user="ann") == ["ann: 2"]
    await face.delete(answers, "ann: 1", "m")
    await face.delete(answers, "ann: 2", "m")
    assert rows(world) == [0]


async def test_all_of_a_user_can_be_forgotten_and_nobody_elses(
    world: World, answers: LangChainCache, face: Face
) -> None:
    for n in range(70):  # more than go in one part
        await answers.aupdate(f"ann: {n}", f"m-{n % 3}", ai("x"))
    for n in range(3):
        await answers.aupdate(f"bob: {n}", "m-1", ai("x"))
    assert await face.forget(answers, user="ann", model="m-1") == 23
    assert await face.forget(answers, user="ann") == 47
    assert await face.forget(answers, user="ann") == 0
    assert await answers.alookup("ann: 0", "m-0") is None
    assert await answers.alookup("bob: 0", "m-1") is not None
    assert rows(world) == [3 * 5]
    assert await face.forget(answers) == 3
    assert rows(world) == [0]


async def test_what_is_cleared_is_not_found(answers: LangChainCache, face: Face) -> None:
    for model in ("m-1", "m-2"):
        await answers.aupdate("ann: 1", model, ai("x"))
    await answers.aclear(llm_string="m-1")
    assert [record.llm_string for record in await face.find(answers, user="ann")] == ["m-2"]
    await answers.aupdate("ann: 1", "m-1", ai("new"))
    assert len(await face.find(answers, user="ann")) == 2
    await answers.aclear()
    assert await face.find(answers) == await face.find(answers, user="ann") == []


async def test_a_note_that_was_cleared_is_none_of_a_later_answer(
    cache: TieredCache, answers: LangChainCache, face: Face
) -> None:
    forgetful = LangChainCache(cache)
    for clear in (answers.aclear, lambda: answers.aclear(llm_string="m")):
        await answers.aupdate("ann: 1", "m", ai("x"))
        await clear()
        await forgetful.aupdate("ann: 1", "m", ai("new"))
        assert await face.find(answers) == await face.find(answers, user="ann") == []


async def test_it_is_off_unless_asked_for(world: World, cache: TieredCache, face: Face) -> None:
    answers = LangChainCache(cache)
    await answers.aupdate("ann: 1", "m", ai("x"))
    assert rows(world) == [1]
    assert rows(world, "name") == [None]
    for call in (face.find, face.forget):
        with pytest.raises(ConfigurationError, match="remember="):
            await call(answers)


async def test_everything_expires_together(world: World, cache: TieredCache) -> None:
    await LangChainCache(cache, remember=by_user, ttl=1000).aupdate("ann: 1", "m", ai("x"))
    expires = rows(world, "expires")
    assert max(expires) - min(expires) < 60_000  # SQLite asks its clock for each row
    assert None not in rows(world, "expires")
    answers = LangChainCache(cache, remember=by_user, ttl=0.001, namespace="short")
    await answers.aupdate("ann: 1", "m", ai("x"))
    await anyio.sleep(0.005)
    assert [record async for record in answers.afind()] == []


async def test_tenants_find_their_own(cache: TieredCache, face: Face) -> None:
    ann, bob = (LangChainCache(cache.namespace(name), remember={}) for name in ("ann", "bob"))
    await ann.aupdate("q", "m", ai("x"))
    assert await face.find(bob) == []
    assert await face.forget(bob) == 0
    assert await face.prompts(ann) == ["q"]


async def test_the_later_metadata_of_an_answer_counts(cache: TieredCache, face: Face) -> None:
    for user in ("ann", "bob"):
        await LangChainCache(cache, remember={"user": user}).aupdate("q", "m", ai(user))
    answers = LangChainCache(cache, remember={})
    assert await face.find(answers, user="ann") == []
    (found,) = await face.find(answers, user="bob")
    assert found.answer == tuple(ai("bob"))


async def test_an_answer_that_is_gone_or_unreadable_is_not_found(cache: TieredCache, face: Face) -> None:
    answers, forgetful = LangChainCache(cache, remember=by_user), LangChainCache(cache)
    for n in range(3):
        await answers.aupdate(f"ann: {n}", "m", ai("x"))
    await forgetful.adelete("ann: 0", "m")
    await cache.namespace("langchain", "m").set("ann: 1", "of another kind")
    assert await face.prompts(answers, user="ann") == ["ann: 2"]


@pytest.mark.parametrize("note", [None, "no note", ["q"], [1, {}], ["q", {"user": 1}], ["q", [], {}]], ids=repr)
async def test_a_planted_note_is_not_found(cache: TieredCache, answers: LangChainCache, face: Face, note: Any) -> None:
    await answers.aupdate("ann: 1", "m", ai("x"))
    (name,) = await names_listed(cache)
    await answers.aupdate("ann: 2", "m", ai("x"))
    await cache.namespace("langchain", "m", NOTES).set(name, note)
    assert await face.prompts(answers, user="ann") == ["ann: 2"]
    await face.delete(answers, "ann: 1", "m")
    assert await answers.alookup("ann: 1", "m") is None


@pytest.mark.parametrize("world", ["embedded", "servers"], indirect=True)
async def test_what_is_planted_into_the_index_stands_for_nothing(
    cache: TieredCache, answers: LangChainCache, face: Face
) -> None:
    index = cache.namespace("langchain", INDEX, "user", "ann", listed=True)
    for name, settings in ((b"no digest", "m"), (b"", "m"), (bytes(32), "m"), (bytes(31) + b"1", ["m"]), ("text", "m")):
        await index.set(name, settings)
    await answers.aupdate("ann: 1", "m", ai("x"))
    assert await face.prompts(answers, user="ann") == ["ann: 1"]
    assert await face.forget(answers, user="ann") == 1


async def names_listed(cache: TieredCache) -> list[str | bytes]:
    names = cache.namespace("langchain", INDEX).keys(b"")
    return [name async for name in names]


class Parsed(BaseModel):
    apples: int


async def test_an_answer_that_cannot_be_stored_is_not_found(world: World, answers: LangChainCache, face: Face) -> None:
    await answers.aupdate("ann: 1", "m", ai("x"))
    odd = [ChatGeneration(message=AIMessage("", additional_kwargs={"parsed": Parsed(apples=1)}))]
    await face.update(answers, "ann: 1", "m", odd)
    assert await face.find(answers) == []
    assert rows(world) == [0]


async def test_only_the_answer_goes_to_redis_and_no_word_of_the_rest(redis_url: str, sqlite_url: str) -> None:
    async with TieredCache(redis_url, sqlite_url) as cache:
        answers = LangChainCache(cache, remember={"user": "SECRET-user"})
        await answers.aupdate("SECRET-prompt", "SECRET-settings", ai("the answer"))
        assert [record.prompt async for record in answers.afind(user="SECRET-user")] == ["SECRET-prompt"]
        await answers.alookup("SECRET-prompt", "SECRET-settings")
        with redis_admin(redis_url) as client:
            held = {key: client.get(key) for key in client.scan_iter()}
        assert not any(b"SECRET" in part for pair in held.items() for part in pair)
        assert sum(b"the answer" in value for value in held.values()) == 1
        assert sum(len(value) > 40 for value in held.values()) == 1
    engine = create_engine(sqlite_url)
    with engine.connect() as connection:
        (names, values) = (
            list(connection.execute(text(f"SELECT {column} FROM tiered_cache_entry")).scalars())
            for column in ("name", "envelope")
        )
    engine.dispose()
    assert not any(b"SECRET" in name for name in names if name is not None)
    assert any(b"SECRET-prompt" in value for value in values)


@pytest.mark.parametrize("world", ["embedded"], indirect=True)
class TestOneWorldIsEnough:
    @pytest.mark.parametrize("raised", [RuntimeError("SECRET"), None, ["SECRET"], {"user": 5}, {5: "SECRET"}], ids=repr)
    async def test_what_cannot_be_found_again_is_not_stored_and_nobody_suffers(
        self, cache: TieredCache, face: Face, raised: Any, caplog: pytest.LogCaptureFixture
    ) -> None:
        def fails(prompt: str, llm_string: str, answer: Sequence[Generation]) -> Any:
            if isinstance(raised, Exception):
                raise raised
            return raised

        answers = LangChainCache(cache, remember=fails)
        with caplog.at_level(logging.DEBUG, "tiered_cache"):
            for _ in range(2):
                await face.update(answers, "SECRET", "SECRET", ai("SECRET"))
        assert await answers.alookup("SECRET", "SECRET") is None
        assert (cache.stats().adapter_errors, cache.stats().sets) == (2, 0)
        assert "SECRET" not in caplog.text
        assert len(caplog.records) == 1

    @pytest.mark.parametrize("remember", [5, "user", ["user"], {"user": 5}, {5: "user"}, {"user": None}], ids=repr)
    def test_what_is_no_metadata_is_an_error_at_once(self, cache: TieredCache, remember: Any) -> None:
        with pytest.raises(ConfigurationError, match="remember"):
            LangChainCache(cache, remember=remember)

    def test_an_async_function_is_an_error(self, cache: TieredCache) -> None:
        async def later(*_: Any) -> dict[str, str]:
            return {}

        with pytest.raises(ConfigurationError, match="not async"):
            LangChainCache(cache, remember=later)  # pyright: ignore[reportArgumentType]

    async def test_what_is_looked_for_is_text(self, answers: LangChainCache, face: Face) -> None:
        wrong: Any = 5
        for call in (face.find, face.forget):
            with pytest.raises(ConfigurationError, match="str"):
                await call(answers, user=wrong)

    async def test_a_record_cannot_be_changed(self, answers: LangChainCache) -> None:
        await answers.aupdate("ann: 1", "m", ai("x"))
        (found,) = [record async for record in answers.afind()]
        with pytest.raises(AttributeError):
            found.prompt = "another"  # pyright: ignore[reportAttributeAccessIssue]
        with pytest.raises(TypeError):
            found.metadata["user"] = "bob"  # pyright: ignore[reportIndexIssue]

    async def test_the_function_is_given_what_was_asked_and_answered(self, cache: TieredCache) -> None:
        given: list[Any] = []

        def remember(*arguments: Any) -> dict[str, str]:
            given.append(arguments)
            return {}

        await LangChainCache(cache, remember=remember).aupdate("q", "m", ai("x"))
        assert given == [("q", "m", ai("x"))]

    async def test_listing_can_be_left_half_way(self, cache: TieredCache) -> None:
        answers = LangChainCache(cache, remember={})
        for n in range(70):
            await answers.aupdate(str(n), "m", ai("x"))
        some = answers.find()
        next(some)
        some.close()
        others = answers.afind()
        await anext(others)
        await others.aclose()
        assert len(list(answers.find())) == 70


class TestOneStore:
    @pytest.fixture
    def store(self, sqlite_url: str) -> FaultyStore:
        return FaultyStore(SqlStore(sqlite_url))

    @pytest.fixture
    async def cache(self, store: FaultyStore) -> Any:
        async with TieredCache(MemoryFront(), store) as cache:
            yield cache

    async def test_an_answer_and_its_note_are_one_transaction(
        self, store: FaultyStore, answers: LangChainCache, face: Face
    ) -> None:
        store.fail("write")
        await face.update(answers, "ann: 1", "m", ai("x"))
        assert await answers.alookup("ann: 1", "m") is None
        assert await face.find(answers) == []
        await face.update(answers, "ann: 1", "m", ai("x"))
        assert [call.keys for call in store.calls if call.name == "write"] == [5, 5]
        store.fail("delete")
        await face.delete(answers, "ann: 1", "m")
        assert await face.prompts(answers) == ["ann: 1"]

    async def test_who_must_know_is_told_that_the_store_is_away(
        self, store: FaultyStore, answers: LangChainCache, face: Face
    ) -> None:
        await answers.aupdate("ann: 1", "m", ai("x"))
        for name in ("names", "read"):
            for call in (face.find, face.forget):
                store.fail(name)
                with pytest.raises(StoreUnavailableError):
                    await call(answers, user="ann")
        store.fail("delete")
        with pytest.raises(StoreUnavailableError):
            await face.forget(answers, user="ann")
        assert await face.prompts(answers) == ["ann: 1"]

    async def test_the_rarest_of_what_is_asked_for_is_gone_through(
        self, store: FaultyStore, cache: TieredCache, face: Face
    ) -> None:
        def remember(prompt: str, *_: Any) -> dict[str, str]:
            return {"all": "alike", "user": "ann" if prompt in ("7", "500") else "bob"}

        answers = LangChainCache(cache, remember=remember)
        async with anyio.create_task_group() as tasks:
            for n in range(600):
                tasks.start_soon(answers.aupdate, str(n), "m", [Generation(text="x")])
        for wanted in ({"all": "alike", "user": "ann"}, {"user": "ann", "all": "alike"}):
            store.calls.clear()
            assert await face.prompts(answers, **wanted) == ["500", "7"]
            assert (store.count("names"), store.count("read")) == (3, 2)
        assert len(await face.find(answers, all="alike")) == 600

    async def test_it_costs_no_read_and_an_answer_without_notes_one_row(
        self, store: FaultyStore, cache: TieredCache
    ) -> None:
        await LangChainCache(cache, remember={"a": "b"}).aupdate("q", "m", ai("x"))
        await LangChainCache(cache, namespace="other").aupdate("q", "m", ai("x"))
        assert [(call.name, call.keys) for call in store.calls if call.name not in ("setup", "now")] == [
            ("write", 4),
            ("write", 1),
        ]

    async def test_a_note_is_plain_data(self, cache: TieredCache) -> None:
        await LangChainCache(cache, remember={"a": "b"}).aupdate("q", "m", ai("x"))
        (name,) = await names_listed(cache)
        assert await cache.namespace("langchain", INDEX).get(name) == "m"
        assert await cache.namespace("langchain", "m", NOTES).get(name) == ["q", {"a": "b"}]
