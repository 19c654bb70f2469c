"""Races between a reader and a writer, and between writers: the naive order fails under the gates, ours holds.

Every scenario is one function that runs over naive and over our processes alike, on every pair of tiers.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any, Final

import anyio
import pytest

from tests.processes import EVERY_PAIR, OurProcess, Process, Stage, Tiers, open_tiers
from tiered_cache import MISSING

#: What the front forgets, and when: always while the other one holds what it has read or committed.
DROPS: Final = ("never", "before the write", "before the commit", "before the settle", "after the write")

#: The verbs that end the old value: what they are called on the store, and what is to be read afterwards.
ENDINGS: Final = {"set": ("write", "new"), "delete": ("delete", MISSING), "clear": ("clear", MISSING)}
ENDINGS_BELOW: Final = {**ENDINGS, "clear above": ("clear", MISSING)}


@pytest.fixture(scope="module", params=EVERY_PAIR)
async def tiers(request: pytest.FixtureRequest) -> AsyncGenerator[Tiers]:
    for each in open_tiers(request):
        yield each
        await each.aclose()


async def end(process: Process, how: str) -> None:
    match how:
        case "set":
            await process.space.set("k", "new")
        case "delete":
            await process.space.delete("k")
        case "clear":
            await process.space.clear()
        case _:
            await process.above.clear()


async def end_with_a_drop(stage: Stage, process: Process, how: str, dropped: str) -> None:
    """Ends the old value from one process, while the front forgets everything about it at the named moment."""
    verb, _ = ENDINGS_BELOW[how]
    before, after = process.store.stop(verb, "before"), process.store.stop(verb, "after")

    async def drop_if(moment: str) -> None:
        if moment == dropped:
            await stage.drop_cell()
            await stage.drop_watermarks()

    await drop_if("before the write")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(end, process, how)
        await before.reached()
        await drop_if("before the commit")
        before.open()
        await after.reached()
        await drop_if("before the settle")
        after.open()
    await drop_if("after the write")


async def late_promotion(stage: Stage, how: str, dropped: str) -> list[Any]:
    reader, writer = await stage.process(), await stage.process()
    await writer.space.set("k", "old")
    await stage.drop_cell()
    await stage.drop_watermarks()
    read = reader.store.stop("read", "after")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(reader.space.get, "k")
        await read.reached()  # the old row is in its hands
        await end_with_a_drop(stage, writer, how, dropped)
        read.open()
    return await stage.answers()


@pytest.mark.parametrize("dropped", DROPS)
@pytest.mark.parametrize("how", ENDINGS_BELOW)
async def test_a_late_promotion_never_revives_an_ended_value(tiers: Tiers, how: str, dropped: str) -> None:
    assert "old" in await late_promotion(Stage(tiers, "plain"), how, dropped)

    stage = Stage(tiers)
    assert await late_promotion(stage, how, dropped) == [ENDINGS_BELOW[how][1]] * 4
    if how == "set":
        await assert_nothing_is_left_between(stage)


async def late_settle(stage: Stage, how: str, dropped: str) -> list[Any]:
    slow, quick = await stage.process(), await stage.process()
    await slow.space.set("k", "old")
    committed = slow.store.stop("write", "after")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(slow.space.set, "k", "old, too")
        await committed.reached()  # committed first, and now it is to arrive at the front last
        await end_with_a_drop(stage, quick, how, dropped)
        committed.open()
    return await stage.answers()


@pytest.mark.parametrize("dropped", DROPS)
@pytest.mark.parametrize("how", ENDINGS)
async def test_a_writer_that_settles_last_without_having_committed_last_never_wins(
    tiers: Tiers, how: str, dropped: str
) -> None:
    assert "old, too" in await late_settle(Stage(tiers, "plain"), how, dropped)

    stage = Stage(tiers)
    assert await late_settle(stage, how, dropped) == [ENDINGS[how][1]] * 4
    if how == "set":
        await assert_nothing_is_left_between(stage)


async def late_settle_of_the_later_mark(stage: Stage, dropped: bool) -> list[Any]:
    """The first to mark is the last to commit; the front forgets its mark before the other one leaves his."""
    last, first = await stage.process(), await stage.process()
    await last.space.set("k", "old")
    commit, committed = last.store.stop("write", "before"), first.store.stop("write", "after")
    async with anyio.create_task_group() as slow:
        async with anyio.create_task_group() as quick:
            quick.start_soon(last.space.set, "k", "new")
            await commit.reached()
            if dropped:
                await stage.drop_cell()
            slow.start_soon(first.space.set, "k", "old, too")
            await committed.reached()
            commit.open()
        committed.open()
    return await stage.answers()


@pytest.mark.parametrize("dropped", [False, True])
async def test_a_writer_without_its_mark_keeps_the_others_from_putting_what_they_committed_before(
    tiers: Tiers, dropped: bool
) -> None:
    assert "old, too" in await late_settle_of_the_later_mark(Stage(tiers, "plain"), dropped)

    stage = Stage(tiers)
    assert await late_settle_of_the_later_mark(stage, dropped) == ["new"] * 4
    await assert_nothing_is_left_between(stage)


async def promotion_past_two_writers(stage: Stage, dropped: str) -> list[Any]:
    """A reader of the first row, a writer that stays in between, and a second one that passes both."""
    reader, slow, quick = await stage.process(), await stage.process(), await stage.process()
    await slow.space.set("k", "old")
    await stage.drop_cell()
    read, committed = reader.store.stop("read", "after"), slow.store.stop("write", "after")
    async with anyio.create_task_group() as writing:
        async with anyio.create_task_group() as reading:
            reading.start_soon(reader.space.get, "k")
            await read.reached()
            writing.start_soon(slow.space.set, "k", "old, too")
            await committed.reached()
            await end_with_a_drop(stage, quick, "set", dropped)
            read.open()
        committed.open()
    return await stage.answers()


@pytest.mark.parametrize("dropped", DROPS)
async def test_a_reader_between_two_writers_never_leaves_an_older_value(tiers: Tiers, dropped: str) -> None:
    assert "new" not in await promotion_past_two_writers(Stage(tiers, "plain"), dropped)

    stage = Stage(tiers)
    assert await promotion_past_two_writers(stage, dropped) == ["new"] * 4
    await assert_nothing_is_left_between(stage)


async def late_absence(stage: Stage) -> list[Any]:
    reader, writer = await stage.process(), await stage.process()
    read = reader.store.stop("read", "after")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(reader.space.get, "k")
        await read.reached()  # it has seen that there is no row
        await writer.space.set("k", "new")
        read.open()
    return await stage.answers()


async def test_an_absence_that_was_read_early_hides_nothing(tiers: Tiers) -> None:
    assert await late_absence(Stage(tiers)) == ["new"] * 4


async def test_a_reader_that_finds_a_writer_in_between_reads_the_store_and_promotes_nothing(tiers: Tiers) -> None:
    stage = Stage(tiers)
    writer, reader = await stage.process(), await stage.process()
    await writer.space.set("k", "old")
    commit = writer.store.stop("write", "before")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(writer.space.set, "k", "new")
        await commit.reached()
        assert await reader.space.get("k") == "old"
        assert isinstance(reader, OurProcess)
        assert reader.cache.stats().promotions == 0
        commit.open()
    assert await stage.answers() == ["new"] * 4


async def assert_nothing_is_left_between(stage: Stage) -> None:
    """No mark keeps the key out of the front: the next reader promotes, the one after it is served by the front."""
    process = await stage.process()
    assert isinstance(process, OurProcess)
    assert await process.settled("k")
