"""The rule of marking and settling, row by row. `test_fronts_rule` takes the same table through the Redis script."""

from __future__ import annotations

from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tiered_cache._cells import READER, TOKEN_BYTES, WRITERS, is_mark, is_writers_mark, value_cell
from tiered_cache._rule import MARK_READ, MARK_WRITE, SETTLE_READ, SETTLE_WRITE, Held, Outcome, Step, apply

MINE, HIS, HERS = b"m" * TOKEN_BYTES, b"\xff\x00\r\n" * 4, b"h" * TOKEN_BYTES
MARK_TTL = 10_000
KEY = b"key"
OLD = value_cell(b"\x00" * 32, 1, b"old envelope")
NEW = value_cell(b"\x00" * 32, 2, b"new envelope")

R_MINE, R_HIS = READER + MINE, READER + HIS


def writers(*tokens: bytes, contended: bool = False) -> bytes:
    return WRITERS + (b"1" if contended else b"0") + b"".join(tokens)


def held(cell: bytes, left: int = MARK_TTL) -> Held:
    return Held(cell, left)


class Row(NamedTuple):
    """A row of the table: what `MINE` finds, what it does, and what is there afterwards."""

    name: str
    before: Held | None
    step: Step
    after: Held | None
    done: bool


def mark_read(invalid: bytes = b"") -> Step:
    return Step(MARK_READ, KEY, invalid)


def promote(cell: bytes = NEW, ttl: int = 60_000) -> Step:
    return Step(SETTLE_READ, KEY, cell, ttl)


def settle(cell: bytes = NEW, ttl: int = 60_000) -> Step:
    return Step(SETTLE_WRITE, KEY, cell, ttl)


MARK_WRITER = Step(MARK_WRITE, KEY)
NOTHING_FOUND = promote(b"", 0)
DELETED = settle(b"", 0)
ALONE = writers(MINE)
LATE = held(R_MINE, 4_000)
LATE_ALONE = held(ALONE, 4_000)

TABLE = [
    # A reader marks only an empty or an invalid cell.
    Row("a reader marks an empty cell", None, mark_read(), held(R_MINE), True),
    Row(
        "a reader marks in place of the invalid cell it saw", held(OLD, 60_000), mark_read(OLD[:9]), held(R_MINE), True
    ),
    Row("a reader marks in place of short junk it saw", held(b"jk", 60_000), mark_read(b"jk"), held(R_MINE), True),
    Row("a reader leaves a newer cell than it saw", held(NEW, 60_000), mark_read(OLD[:9]), held(NEW, 60_000), False),
    Row("a reader leaves a value when it saw nothing", held(OLD, 60_000), mark_read(), held(OLD, 60_000), False),
    Row("a reader leaves another reader's mark", held(R_HIS, 5_000), mark_read(), held(R_HIS, 5_000), False),
    Row("a reader leaves a writer's mark", held(writers(HIS), 5_000), mark_read(), held(writers(HIS), 5_000), False),
    Row("a reader's packet repeated changes nothing", held(R_MINE, 5_000), mark_read(), held(R_MINE, 5_000), True),
    # A writer's mark replaces a value or a reader's mark, and joins the writers that are in between.
    Row("a writer marks an empty cell", None, MARK_WRITER, held(ALONE), True),
    Row("a writer marks in place of a value", held(OLD, 60_000), MARK_WRITER, held(ALONE), True),
    Row("a writer marks in place of a reader's mark", held(R_HIS, 5_000), MARK_WRITER, held(ALONE), True),
    Row("a writer marks in place of junk", held(b"W0junk", 5_000), MARK_WRITER, held(ALONE), True),
    Row(
        "a writer joins another, and the cell is contended and lives as long as either",
        held(writers(HIS), 5_000),
        MARK_WRITER,
        held(writers(HIS, MINE, contended=True)),
        True,
    ),
    Row(
        "a writer joining never shortens a mark",
        held(writers(HIS), 30_000),
        MARK_WRITER,
        held(writers(HIS, MINE, contended=True), 30_000),
        True,
    ),
    Row(
        "a writer joining a contended cell does not prolong it",
        held(writers(HIS, HERS, contended=True), 5_000),
        MARK_WRITER,
        held(writers(HIS, HERS, MINE, contended=True), 5_000),
        True,
    ),
    Row("a writer's packet repeated changes nothing", held(ALONE, 5_000), MARK_WRITER, held(ALONE, 5_000), True),
    # Settling. My mark alone, never contended:
    Row("my mark alone: a reader's becomes the value", held(R_MINE), promote(), held(NEW, 60_000), True),
    Row("my mark alone: a reader that found nothing empties", held(R_MINE), NOTHING_FOUND, None, False),
    Row("my mark alone: a writer's becomes the value", held(ALONE), settle(), held(NEW, 60_000), True),
    Row("my mark alone: a deleter's is emptied", held(ALONE), DELETED, None, False),
    Row("my mark alone: a reader's value counts from marking", LATE, promote(), held(NEW, 54_000), True),
    Row("my mark alone: a writer's value counts from marking", LATE_ALONE, settle(), held(NEW, 54_000), True),
    Row("my mark alone: a reader's value that expired meanwhile empties", LATE, promote(NEW, 6_000), None, False),
    Row("my mark alone: a writer's value that expired meanwhile empties", LATE_ALONE, settle(NEW, 6_000), None, False),
    # My mark, contended:
    Row(
        "my mark, contended: it leaves",
        held(writers(HIS, MINE, HERS, contended=True), 5_000),
        settle(),
        held(writers(HIS, HERS, contended=True), 5_000),
        False,
    ),
    Row("my mark, contended: the last to leave empties", held(writers(MINE, contended=True)), settle(), None, False),
    Row("my mark, contended: a last deleter empties", held(writers(MINE, contended=True)), DELETED, None, False),
    # Writers' marks, mine not among them:
    Row(
        "writers without me: a reader leaves them",
        held(writers(HIS), 5_000),
        promote(),
        held(writers(HIS), 5_000),
        False,
    ),
    Row(
        "writers without me: contended from now on",
        held(writers(HIS), 5_000),
        settle(),
        held(writers(HIS, contended=True), 5_000),
        False,
    ),
    # Anything else:
    Row("a reader's mark: a reader leaves it", held(R_HIS, 5_000), promote(), held(R_HIS, 5_000), False),
    Row("a reader's mark: a writer empties it", held(R_HIS, 5_000), settle(), None, False),
    Row("my own reader's mark: as a writer I empty it", held(R_MINE, 5_000), settle(), None, False),
    Row("my own writer's mark: as a reader I leave it", held(ALONE, 5_000), promote(), held(ALONE, 5_000), False),
    Row("a value: a reader leaves it", held(OLD, 60_000), promote(), held(OLD, 60_000), False),
    Row("a value: a writer empties it", held(OLD, 60_000), settle(), None, False),
    Row("a value: a deleter empties it", held(OLD, 60_000), DELETED, None, False),
    Row("a half of my mark: a writer empties it", held(ALONE[:-1], 5_000), settle(), None, False),
    # Nothing:
    Row("nothing: a reader leaves it so", None, promote(), None, False),
    Row("nothing: a writer leaves it so", None, settle(), None, False),
    Row("nothing: a deleter leaves it so", None, DELETED, None, False),
]


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.name)
def test_the_table_holds(row: Row) -> None:
    assert apply(row.before, row.step, MINE, MARK_TTL) == Outcome(row.after, row.done)


@pytest.mark.parametrize("row", [row for row in TABLE if row.before is None], ids=lambda row: row.name)
def test_an_empty_cell_is_no_cell(row: Row) -> None:
    assert apply(Held(b"", 5_000), row.step, MINE, MARK_TTL) == Outcome(row.after, row.done)


# --- what follows from the table, for any cells and steps -------------------------------------------------------------

tokens = st.sampled_from([MINE, HIS, HERS, b"\0" * TOKEN_BYTES])
values = st.integers(1, 3).map(lambda version: value_cell(b"\x00" * 32, version, b"envelope\0\xff"))
writer_cells = st.tuples(st.lists(tokens, min_size=1, max_size=3, unique=True), st.booleans()).map(
    lambda pair: writers(*pair[0], contended=pair[1] or len(pair[0]) > 1)
)
cells = st.one_of(
    values,
    tokens.map(lambda token: READER + token),
    writer_cells,
    writer_cells.map(lambda cell: cell[:-1]),
    st.binary(min_size=1, max_size=40),
)
# Whole seconds, so that the few milliseconds which a real server takes decide nothing.
seconds = st.integers(1, 30).map(lambda s: s * 1000)
helds = st.one_of(st.none(), st.builds(Held, cells, seconds))
steps = st.one_of(
    st.builds(Step, st.just(MARK_READ), st.just(KEY), st.one_of(st.just(b""), cells.map(lambda cell: cell[:9]))),
    st.just(MARK_WRITER),
    st.builds(
        Step,
        st.sampled_from([SETTLE_READ, SETTLE_WRITE]),
        st.just(KEY),
        st.one_of(st.just(b""), values),
        st.integers(0, 30).map(lambda s: s * 1000),
    ),
)


@given(helds, steps, tokens)
def test_only_ones_own_undisturbed_mark_lets_one_put_a_value(before: Held | None, step: Step, token: bytes) -> None:
    after, done = apply(before, step, token, MARK_TTL)
    if after is not None and not is_mark(after.cell) and after != before:
        assert done
        assert before is not None
        assert before.cell in (READER + token, WRITERS + b"0" + token)
        assert after.cell == step.arg


@given(helds, steps, tokens)
def test_a_step_taken_twice_never_leaves_a_value_that_taking_it_once_did_not(
    before: Held | None, step: Step, token: bytes
) -> None:
    """A packet is repeated where the reply to the first was lost with its connection."""
    once, _ = apply(before, step, token, MARK_TTL)
    twice, _ = apply(once, step, token, MARK_TTL)
    if step.op in (MARK_READ, MARK_WRITE, SETTLE_READ):
        assert twice == once
    else:
        assert twice is None or is_writers_mark(twice.cell)


@given(helds, steps, tokens)
def test_every_cell_left_has_an_expiry_within_reason(before: Held | None, step: Step, token: bytes) -> None:
    after, _ = apply(before, step, token, MARK_TTL)
    if after is not None:
        assert 0 < after.left <= max(MARK_TTL, before.left if before else 0, step.ttl)


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), max_size=20))
def test_the_mark_of_a_dead_writer_expires_however_many_others_come(events: list[tuple[int, bool]]) -> None:
    """After the first has joined it, nobody prolongs the life of a cell with its mark."""
    now = Held(writers(HIS), MARK_TTL)
    dead_for = prolonged = 0
    for i, (waited, settles) in enumerate(events):
        dead_for += waited * 1000
        now = Held(now.cell, now.left - waited * 1000)
        if now.left <= 0:
            break
        token = i.to_bytes(TOKEN_BYTES, "big")
        for step in (MARK_WRITER, settle())[: 1 + settles]:
            after, _ = apply(now, step, token, MARK_TTL)
            assert after is not None  # HIS is still in there
            prolonged += after.left > now.left
            now = after
    assert prolonged <= 1
    assert now.left <= 2 * MARK_TTL - dead_for
