"""Races with a fault in them: a writer that dies, a commit of unknown outcome, a cancelled call, a late packet.

Where a naive cache is run under the same fault, it is the one that serves the old value.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import suppress
from typing import Any, Final

import anyio
import pytest

from tests.processes import EVERY_PAIR, OurProcess, Process, Stage, Tiers, open_tiers
from tiered_cache import MISSING, FrontUnavailableError, StoreUnavailableError
from tiered_cache.testing._gates import PATIENCE_SECONDS

VERBS: Final = {"set": "write", "delete": "delete", "clear": "clear"}
AFTER: Final = {"set": "new", "delete": MISSING, "clear": MISSING}


@pytest.fixture(scope="module", params=EVERY_PAIR)
async def tiers(request: pytest.FixtureRequest) -> AsyncGenerator[Tiers]:
    for each in open_tiers(request):
        yield each
        await each.aclose()


async def change(process: Process, how: str) -> None:
    with suppress(FrontUnavailableError, StoreUnavailableError):
        match how:
            case "set":
                await process.space.set("k", "new")
            case "delete":
                await process.space.delete("k")
            case _:
                await process.space.clear()


async def with_old_value_in_front(stage: Stage) -> Process:
    process = await stage.process()
    await process.space.set("k", "old")
    assert await stage.answers() == ["old"] * 4
    return process


async def death_after_commit(stage: Stage, how: str) -> list[Any]:
    writer = await with_old_value_in_front(stage)
    committed = writer.store.stop(VERBS[how], "after")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(change, writer, how)
        await committed.reached()
        writer.front.down = True  # nothing more is ever heard of it
        committed.open()
    return await stage.answers()


@pytest.mark.parametrize("how", VERBS)
async def test_the_change_of_a_writer_that_dies_after_its_commit_is_seen_at_once(tiers: Tiers, how: str) -> None:
    assert "old" in await death_after_commit(Stage(tiers, "plain"), how)

    stage = Stage(tiers)
    assert await death_after_commit(stage, how) == [AFTER[how]] * 4
    await stage.drop_cell()  # as the expiry of the dead writer's mark does
    await stage.drop_watermarks()
    assert await stage.answers() == [AFTER[how]] * 4


async def unknown_outcome(stage: Stage, how: str) -> list[Any]:
    writer = await with_old_value_in_front(stage)
    error = StoreUnavailableError("the connection broke", outcome_known=False)
    writer.store.fail(VERBS[how], "after", error)
    await change(writer, how)
    return await stage.answers()


@pytest.mark.parametrize("how", VERBS)
async def test_a_commit_of_unknown_outcome_never_leaves_the_old_value_in_the_front(tiers: Tiers, how: str) -> None:
    assert "old" in await unknown_outcome(Stage(tiers, "plain"), how)
    assert await unknown_outcome(Stage(tiers), how) == [AFTER[how]] * 4


@pytest.mark.parametrize("how", VERBS)
async def test_a_change_that_was_not_committed_is_never_seen_and_leaves_no_mark(tiers: Tiers, how: str) -> None:
    stage = Stage(tiers)
    writer = await with_old_value_in_front(stage)
    writer.store.fail(VERBS[how], "before")
    await change(writer, how)
    assert await stage.answers() == ["old"] * 4
    process = await stage.process()
    assert isinstance(process, OurProcess)
    assert await process.settled("k")


async def cancelled_after_commit(stage: Stage, how: str) -> list[Any]:
    writer = await with_old_value_in_front(stage)
    committed = writer.store.stop(VERBS[how], "after")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(change, writer, how)
        await committed.reached()
        tasks.cancel_scope.cancel()
        committed.open()
    return await stage.answers()


@pytest.mark.parametrize("how", VERBS)
async def test_a_writer_cancelled_after_its_commit_still_settles(tiers: Tiers, how: str) -> None:
    assert "old" in await cancelled_after_commit(Stage(tiers, "plain"), how)

    stage = Stage(tiers)
    assert await cancelled_after_commit(stage, how) == [AFTER[how]] * 4
    if how == "set":
        process = await stage.process()
        assert isinstance(process, OurProcess)
        assert await process.settled("k")


@pytest.mark.parametrize("lost", ["mark_write", "settle_write"])
@pytest.mark.parametrize("how", VERBS)
async def test_a_front_that_misses_the_mark_or_the_settle_alone_serves_nothing_old(
    tiers: Tiers, how: str, lost: str
) -> None:
    stage = Stage(tiers)
    writer = await with_old_value_in_front(stage)
    writer.front.fail(lost, "before")
    await change(writer, how)
    assert await stage.answers() == [AFTER[how]] * 4
    assert isinstance(writer, OurProcess)
    assert writer.cache.stats().unmarked == 0  # the other one of the two has reached the front


@pytest.mark.parametrize("dropped", [False, True])
@pytest.mark.parametrize("how", VERBS)
async def test_mark_and_settle_that_arrive_late_never_put_an_older_value(tiers: Tiers, how: str, dropped: bool) -> None:
    """Both of one writer's packets are held up, on their way, past the whole of another's change."""
    stage = Stage(tiers)
    slow = await with_old_value_in_front(stage)
    mark, settle = slow.front.postpone("mark_write"), slow.front.postpone("settle_write")
    await slow.space.set("k", "old, too")
    await change(await stage.process(), how)
    if dropped:
        await stage.drop_cell()
        await stage.drop_watermarks()
    await mark.deliver()
    await settle.deliver()
    assert await stage.answers() == [AFTER[how]] * 4


async def test_the_marks_and_settles_of_a_clear_that_arrive_late_never_put_an_older_watermark(tiers: Tiers) -> None:
    stage = Stage(tiers)
    slow = await with_old_value_in_front(stage)
    mark, settle = slow.front.postpone("mark_write"), slow.front.postpone("settle_write")
    await slow.space.clear()
    quick = await stage.process()
    await quick.space.set("k", "between")
    await quick.space.clear()
    await mark.deliver()
    await settle.deliver()
    assert await stage.answers() == [MISSING] * 4


async def cancel_when(reached: Callable[[], Any], call: Callable[[], Any]) -> None:
    with anyio.fail_after(PATIENCE_SECONDS):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(call)
            await reached()
            tasks.cancel_scope.cancel()


async def test_a_reader_cancelled_between_mark_and_settle_leaves_the_key_promotable(tiers: Tiers) -> None:
    stage = Stage(tiers)
    reader = await with_old_value_in_front(stage)
    await stage.drop_cell()
    gate = reader.store.stop("read", "after")
    await cancel_when(gate.reached, lambda: reader.space.get("k"))
    assert await tiers.cell(stage.scope, "k") is None
    process = await stage.process()
    assert isinstance(process, OurProcess)
    assert await process.settled("k")


async def test_a_reader_cancelled_in_its_second_look_leaves_no_mark_of_its_first(tiers: Tiers) -> None:
    """First it asks for a watermark, then, since the cell was below it, for the row."""
    stage = Stage(tiers)
    reader = await with_old_value_in_front(stage)
    clearer = await stage.process()
    clearer.front.down = True  # the cell stays in the front
    await clearer.space.clear()
    await stage.drop_watermarks()
    first, second = reader.store.stop("read", "before"), reader.store.stop("read", "before")
    first.open()
    await cancel_when(second.reached, lambda: reader.space.get("k"))
    process = await stage.process()
    assert await process.space.get("k", MISSING) is MISSING
    assert await process.space.get("k", MISSING) is MISSING
    assert isinstance(process, OurProcess)
    for name in ("k", None):
        cell = await tiers.cell(stage.scope, name)
        assert cell is None or cell[:1] == b"V", "a mark was left behind"


async def test_a_batch_that_fails_as_a_whole_changes_no_key_of_it(tiers: Tiers) -> None:
    stage = Stage(tiers)
    writer = await with_old_value_in_front(stage)
    assert isinstance(writer, OurProcess)
    space = writer.cache.namespace(*stage.scope.path)
    writer.store.fail("write", "before")
    with pytest.raises(StoreUnavailableError):
        await space.set_many({"k": "new", "l": "new", "m": "new"})
    process = await stage.process()
    assert isinstance(process, OurProcess)
    assert await process.cache.namespace(*stage.scope.path).get_many(["k", "l", "m"]) == {"k": "old"}
    assert await process.settled("k")


async def test_a_key_set_again_after_delete_clear_and_erase_is_seen(tiers: Tiers) -> None:
    """Its version is new, however often the row was removed: one that began anew would lie below the watermark."""
    stage = Stage(tiers)
    process = await with_old_value_in_front(stage)
    assert isinstance(process, OurProcess)
    await process.space.delete("k")
    await process.space.clear()
    await process.space.set("k", "again")
    assert await stage.answers() == ["again"] * 4
    await process.cache.namespace(*stage.scope.path).erase()
    await process.space.set("k", "and again")
    assert await stage.answers() == ["and again"] * 4
