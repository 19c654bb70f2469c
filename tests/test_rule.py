"""The rule of marking and settling, row by row. `FrontSuite` takes the same table through every front."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tiered_cache._cells import READER, TOKEN_BYTES, WRITERS, is_mark, is_writers_mark, value_cell
from tiered_cache._rule import MARK_READ, MARK_WRITE, SETTLE_READ, SETTLE_WRITE, Held, Outcome, Step, apply
from tiered_cache.testing._table import HERS, HIS, KEY, MARK_TTL, MARK_WRITER, MINE, TABLE, Row, settle, writers


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
