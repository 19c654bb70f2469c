"""Races round a clear: its watermark in the front follows the same rule as any cell, and a missing one is unknown."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any, Final

import anyio
import pytest

from tests.processes import EVERY_PAIR, Stage, Tiers, open_tiers
from tiered_cache import MISSING

DROPS: Final = ("nothing", "the cell", "the watermarks", "both")


@pytest.fixture(scope="module", params=EVERY_PAIR)
async def tiers(request: pytest.FixtureRequest) -> AsyncGenerator[Tiers]:
    for each in open_tiers(request):
        yield each
        await each.aclose()


async def drop(stage: Stage, what: str) -> None:
    if what in ("the cell", "both"):
        await stage.drop_cell()
    if what in ("the watermarks", "both"):
        await stage.drop_watermarks()


async def lost_watermark(stage: Stage) -> list[Any]:
    process = await stage.process()
    await process.space.set("k", "old")
    await process.space.get("k")
    await process.space.clear()
    await stage.drop_watermarks()
    return await stage.answers()


async def test_a_watermark_that_the_front_lost_is_unknown_and_never_zero(tiers: Tiers) -> None:
    assert "old" in await lost_watermark(Stage(tiers, "missing is zero"))
    assert await lost_watermark(Stage(tiers)) == [MISSING] * 4


async def late_watermark(stage: Stage, dropped: str) -> list[Any]:
    """The old value is in the front, its watermark is not: a reader is on its way to load the latter."""
    reader, clearer = await stage.process(), await stage.process()
    await clearer.space.set("k", "old")
    await stage.drop_watermarks()
    read = reader.store.stop("read", "after")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(reader.space.get, "k")
        await read.reached()
        await clearer.space.clear()
        await drop(stage, dropped)
        read.open()
    return await stage.answers()


@pytest.mark.parametrize("dropped", ["nothing", "the watermarks"])
async def test_a_late_copy_of_an_older_watermark_never_revives_what_was_cleared(tiers: Tiers, dropped: str) -> None:
    assert "old" in await late_watermark(Stage(tiers, "missing is loaded"), dropped)
    assert await late_watermark(Stage(tiers), dropped) == [MISSING] * 4


async def two_clears(stage: Stage, dropped: str) -> list[Any]:
    """The first to commit is the last to arrive at the front; a value was written between the two."""
    slow, quick = await stage.process(), await stage.process()
    committed = slow.store.stop("clear", "after")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(slow.space.clear)
        await committed.reached()
        await quick.space.set("k", "between")
        await quick.space.clear()
        await drop(stage, dropped)
        committed.open()
    return await stage.answers()


@pytest.mark.parametrize("dropped", ["nothing", "the watermarks"])
async def test_of_two_clears_the_later_counts_in_whatever_order_they_settle(tiers: Tiers, dropped: str) -> None:
    assert "between" in await two_clears(Stage(tiers, "missing is loaded"), dropped)
    assert await two_clears(Stage(tiers), dropped) == [MISSING] * 4


async def set_overtaken_by_a_clear(stage: Stage, dropped: str) -> list[Any]:
    writer, clearer = await stage.process(), await stage.process()
    committed = writer.store.stop("write", "after")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(writer.space.set, "k", "old")
        await committed.reached()
        await clearer.above.clear()
        await drop(stage, dropped)
        committed.open()
    return await stage.answers()


@pytest.mark.parametrize("dropped", DROPS)
async def test_a_set_committed_before_a_clear_never_shows_after_it(tiers: Tiers, dropped: str) -> None:
    assert "old" in await set_overtaken_by_a_clear(Stage(tiers, "plain"), dropped)
    assert await set_overtaken_by_a_clear(Stage(tiers), dropped) == [MISSING] * 4


async def clear_overtaken_by_a_set(stage: Stage, dropped: str) -> list[Any]:
    writer, clearer = await stage.process(), await stage.process()
    await writer.space.set("k", "old")
    committed = clearer.store.stop("clear", "after")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(clearer.space.clear)
        await committed.reached()
        await writer.space.set("k", "new")
        await drop(stage, dropped)
        committed.open()
    return await stage.answers()


@pytest.mark.parametrize("dropped", DROPS)
async def test_a_set_committed_after_a_clear_survives_its_late_settle(tiers: Tiers, dropped: str) -> None:
    assert await clear_overtaken_by_a_set(Stage(tiers), dropped) == ["new"] * 4


async def test_a_clear_hides_a_value_from_readers_before_it_has_settled(tiers: Tiers) -> None:
    """From the commit on its mark sends every reader to the store: nobody sees the value come and go."""
    stage = Stage(tiers)
    writer, clearer = await stage.process(), await stage.process()
    await writer.space.set("k", "old")
    assert await stage.answers() == ["old"] * 4
    committed = clearer.store.stop("clear", "after")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(clearer.space.clear)
        await committed.reached()
        assert await stage.answers() == [MISSING] * 4
        committed.open()
    assert await stage.answers() == [MISSING] * 4
