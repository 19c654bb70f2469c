"""The suites can fail: tiers with one fault each, and the test that finds it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import anyio.lowlevel
import pytest

from tests.doubles import DictStore
from tiered_cache import Entry, Found, Front, MemoryFront, Row, Step, Store
from tiered_cache._rule import MARK_READ, MARK_WRITE, SETTLE_READ, SETTLE_WRITE
from tiered_cache._tiers import Emptying, Notice
from tiered_cache.testing import FrontSuite, ManualClock, StoreSuite

# --- fronts -----------------------------------------------------------------------------------------------------------


class Putting(MemoryFront):
    """Whoever settles puts what he has, as plain look-aside does."""

    async def apply(self, steps: Sequence[Step], token: bytes, mark_ttl: int) -> list[bool]:
        for step in steps:
            if step.op in (SETTLE_READ, SETTLE_WRITE):
                for op in (SETTLE_WRITE, MARK_WRITE):
                    await super().apply([step._replace(op=op, arg=b"")], token, mark_ttl)
        return await super().apply(
            [s._replace(op=SETTLE_WRITE) if s.op == SETTLE_READ else s for s in steps], token, mark_ttl
        )


class Replacing(MemoryFront):
    """A reader's mark replaces whatever there is."""

    async def apply(self, steps: Sequence[Step], token: bytes, mark_ttl: int) -> list[bool]:
        for step in steps:
            if step.op == MARK_READ:
                await super().apply([step._replace(op=SETTLE_WRITE, arg=b"")], token, mark_ttl)
        return await super().apply(steps, token, mark_ttl)


class Lasting(MemoryFront):
    """Marks live ten times as long as they were given."""

    async def apply(self, steps: Sequence[Step], token: bytes, mark_ttl: int) -> list[bool]:
        return await super().apply(steps, token, mark_ttl * 10)


class Saying(MemoryFront):
    """Every step is said to have got its way."""

    async def apply(self, steps: Sequence[Step], token: bytes, mark_ttl: int) -> list[bool]:
        await super().apply(steps, token, mark_ttl)
        return [True] * len(steps)


class Sorting(MemoryFront):
    """Cells in the order of their keys' bytes."""

    async def get(self, keys: Sequence[bytes]) -> list[bytes | None]:
        return await super().get(sorted(keys))


class Text(MemoryFront):
    """Cells go through text."""

    async def get(self, keys: Sequence[bytes]) -> list[bytes | None]:
        return [cell and cell.decode(errors="replace").encode() for cell in await super().get(keys)]


FRONTS: list[tuple[type[MemoryFront], str]] = [
    (Putting, "test_the_table_of_the_rule_holds_row_by_row"),
    (Putting, "test_any_walk_ends_as_in_a_dictionary_under_the_rule"),
    (Replacing, "test_the_table_of_the_rule_holds_row_by_row"),
    (Replacing, "test_any_batch_ends_as_by_the_rule"),
    (Lasting, "test_with_a_clock_they_expire_to_the_millisecond"),
    (Lasting, "test_any_walk_ends_as_in_a_dictionary_under_the_rule"),
    (Saying, "test_of_many_writers_at_once_each_is_told_the_truth"),
    (Saying, "test_each_step_of_a_batch_is_answered_for_itself"),
    (Sorting, "test_cells_come_in_the_order_of_their_keys"),
    (Text, "test_keys_and_cells_may_hold_any_bytes"),
]


@pytest.mark.parametrize(("kind", "name"), FRONTS)
async def test_a_front_with_a_fault_is_found_out(kind: type[MemoryFront], name: str) -> None:
    class Suite(FrontSuite):
        @asynccontextmanager
        async def front(self) -> AsyncGenerator[Front]:
            self.clock = ManualClock()
            yield kind(clock=self.clock)

    await fails(getattr(Suite(), name))


# --- stores -----------------------------------------------------------------------------------------------------------


class Reusing(DictStore):
    """A key that was deleted begins with the first version again."""

    async def delete(self, digests: Sequence[bytes], journal: Sequence[bytes] = ()) -> None:
        await super().delete(digests, journal)
        self._version = 0


class Deleting(DictStore):
    """A clear of the root alone covers what is below."""

    def _cleared(self, kept: Any) -> bool:
        return kept.version < self.watermarks.get(kept.entry.address, 0)


class Overreaching(DictStore):
    """Erasing takes what was written after the clear as well."""

    async def erase(self, address: bytes, limit: int, empty: Emptying) -> int:
        return await self._remove(limit, empty, lambda kept: kept.entry.address.startswith(address))


class Prefixing(DictStore):
    """Erasing an address takes its siblings with it."""

    async def erase(self, address: bytes, limit: int, empty: Emptying) -> int:
        floor = self.watermarks.get(address, 0)
        return await self._remove(limit, empty, lambda kept: kept.version < floor)


class Careless(DictStore):
    """Rows go before their cells are emptied."""

    async def _remove(self, limit: int, empty: Emptying, unwanted: Callable[[Any], bool]) -> int:
        async def nobody(digests: Sequence[bytes]) -> None:
            del digests

        return await super()._remove(limit, nobody, unwanted)


class Hasty(DictStore):
    """A row that was rewritten after it was found goes all the same."""

    async def _remove(self, limit: int, empty: Emptying, unwanted: Callable[[Any], bool]) -> int:
        found = [digest for digest, kept in self.rows.items() if unwanted(kept)][:limit]
        if found:
            await empty(found)
        return sum(self.rows.pop(digest, None) is not None for digest in found)


class Lingering(DictStore):
    """Expired rows are found."""

    async def read(self, digests: Sequence[bytes], addresses: Sequence[bytes], *, stale: bool = False) -> Found:
        return await super().read(digests, addresses, stale=True)


class Timeless(DictStore):
    """It does not know what time it is."""

    async def now(self) -> int:
        return 0


class Ashamed(DictStore):
    """What has expired is not shown to anybody."""

    async def peek(self, digests: Sequence[bytes]) -> Mapping[bytes, Row]:
        return (await self.read(digests, [], stale=True)).rows


class Forgetful(DictStore):
    """Nothing is recorded where it is a clear."""

    async def clear(self, address: bytes, journal: Sequence[bytes] = ()) -> int:
        return await super().clear(address)


class Forgiving(DictStore):
    """An acknowledgement removes what was recorded again since."""

    async def acknowledge(self, notices: Sequence[Notice]) -> None:
        for cell, _ in notices:
            self.notices.pop(cell, None)


class Folding(DictStore):
    """The journal does not tell capital letters from small ones."""

    async def journal(self, prefix: bytes, limit: int) -> Sequence[Notice]:
        return [Notice(*n) for n in self.notices.items() if n[0].lower().startswith(prefix.lower())][:limit]


class Halving(DictStore):
    """A batch is written entry by entry, and others come in between."""

    async def write(self, entries: Sequence[Entry], journal: Sequence[bytes] = ()) -> Sequence[int]:
        versions: list[int] = []
        for entry in entries:
            versions += await super().write([entry], journal)
            await anyio.lowlevel.checkpoint()
        return versions


STORES: list[tuple[type[DictStore], str]] = [
    (Reusing, "test_versions_go_up_with_every_change_whatever_it_is"),
    (Deleting, "test_names_leave_out_what_was_cleared_here_or_above"),
    (Overreaching, "test_erasing_removes_all_below_the_watermark_and_nothing_else"),
    (Prefixing, "test_erasing_removes_all_below_the_watermark_and_nothing_else"),
    (Careless, "test_what_cannot_be_emptied_in_the_front_stays"),
    (Careless, "test_cleared_rows_are_emptied_in_the_front_before_they_go"),
    (Hasty, "test_a_row_rewritten_after_it_was_found_stays"),
    (Lingering, "test_in_its_time_of_grace_a_row_is_there_for_those_who_take_stale_ones"),
    (Timeless, "test_its_time_is_that_by_which_entries_expire"),
    (Ashamed, "test_a_row_can_be_looked_at_until_it_is_removed"),
    (Forgetful, "test_every_change_can_be_recorded"),
    (Forgiving, "test_a_notice_that_was_recorded_again_outlives_its_acknowledgement"),
    (Folding, "test_only_what_begins_with_the_prefix_is_listed_and_no_more_than_asked_for"),
    (Halving, "test_a_batch_is_written_whole_or_not_at_all"),
    (Halving, "test_a_cancelled_caller_harms_nobody_and_writes_all_or_nothing"),
]


@pytest.mark.parametrize(("kind", "name"), STORES)
async def test_a_store_with_a_fault_is_found_out(kind: type[DictStore], name: str) -> None:
    class Suite(StoreSuite):
        @asynccontextmanager
        async def store(self) -> AsyncGenerator[Store]:
            clock = self.clock = ManualClock()
            yield kind(lambda: round(clock() * 1000))

    await fails(getattr(Suite(), name))


async def fails(test: Callable[[], Awaitable[None]]) -> None:
    """By an assert, alone or out of a task group."""
    found = False
    try:
        await test()
    except* AssertionError:
        found = True
    assert found, "nothing was noticed"
