"""The rule of marking and settling as a table, and how a front is brought to what a row of it begins with."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Final, NamedTuple

from tiered_cache._cells import HEAD_BYTES, READER, TOKEN_BYTES, WRITERS, is_mark, is_writers_mark, value_cell
from tiered_cache._rule import MARK_READ, MARK_WRITE, SETTLE_READ, SETTLE_WRITE, Held, Step
from tiered_cache._tiers import Front

MINE: Final = b"m" * TOKEN_BYTES
HIS: Final = b"\xff\x00\r\n" * 4
HERS: Final = b"h" * TOKEN_BYTES
MARK_TTL: Final = 10_000
KEY: Final = b"key"
OLD: Final = value_cell(b"\x00" * 32, 1, b"old envelope")
NEW: Final = value_cell(b"\x00" * 32, 2, b"new envelope")

R_MINE: Final = READER + MINE
R_HIS: Final = READER + HIS


def writers(*tokens: bytes, contended: bool = False) -> bytes:
    """The marks of these writers in one cell."""
    return WRITERS + (b"1" if contended else b"0") + b"".join(tokens)


def held(cell: bytes, left: int = MARK_TTL) -> Held:
    """A cell with so many milliseconds left."""
    return Held(cell, left)


class Row(NamedTuple):
    """A row of the table: what `MINE` finds, what it does, and what is there afterwards."""

    name: str
    before: Held | None
    step: Step
    after: Held | None
    done: bool


def mark_read(invalid: bytes = b"") -> Step:
    """A reader's mark; `invalid` begins the cell that he saw."""
    return Step(MARK_READ, KEY, invalid)


def promote(cell: bytes = NEW, ttl: int = 60_000) -> Step:
    """A reader settles."""
    return Step(SETTLE_READ, KEY, cell, ttl)


def settle(cell: bytes = NEW, ttl: int = 60_000) -> Step:
    """A writer settles."""
    return Step(SETTLE_WRITE, KEY, cell, ttl)


MARK_WRITER: Final = Step(MARK_WRITE, KEY)
NOTHING_FOUND: Final = promote(b"", 0)
DELETED: Final = settle(b"", 0)
ALONE: Final = writers(MINE)
LATE: Final = held(R_MINE, 4_000)
LATE_ALONE: Final = held(ALONE, 4_000)

TABLE: Final = [
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


# --- a front that holds what a row begins with ------------------------------------------------------------------------

#: Nobody in the table or in the random steps.
STRANGER: Final = b"s" * TOKEN_BYTES


class _Move(NamedTuple):
    step: Step
    token: bytes
    mark_ttl: int


def _moves(key: bytes, before: Held) -> list[_Move]:
    """The steps after which an empty cell holds this, each taken by whoever would take it."""
    cell, left = before
    junk = cell[:1] == WRITERS and cell[1:2] not in (b"0", b"1")
    if junk or not is_mark(cell):
        return [
            _Move(Step(MARK_WRITE, key), STRANGER, left),
            _Move(Step(SETTLE_WRITE, key, cell, left), STRANGER, left),
        ]
    if not is_writers_mark(cell):
        return [_Move(Step(MARK_READ, key), cell[1:], left)]
    tokens = [cell[i : i + TOKEN_BYTES] for i in range(2, len(cell), TOKEN_BYTES)]
    alone_and_contended = len(tokens) == 1 and cell[1:2] == b"1"
    moves = [_Move(Step(MARK_WRITE, key), token, left) for token in tokens + [STRANGER] * alone_and_contended]
    return moves + [_Move(Step(SETTLE_WRITE, key), STRANGER, left)] * alone_and_contended


async def bring_about(front: Front, wanted: Sequence[tuple[bytes, Held | None]]) -> None:
    """Brings the empty cells of these keys to hold what is wanted, by steps that the rule allows."""
    moves = [_moves(key, held) for key, held in wanted if held is not None]
    while any(moves):
        together: dict[tuple[bytes, int], list[Step]] = {}
        for move in [rest.pop(0) for rest in moves if rest]:
            together.setdefault((move.token, move.mark_ttl), []).append(move.step)
        for (token, mark_ttl), steps in together.items():
            await front.apply(steps, token, mark_ttl)


# --- any cells and steps ----------------------------------------------------------------------------------------------

#: Times differ by so much that what passes while a test runs decides nothing.
UNIT_MS: Final = 10_000
RANDOM_MARK_TTL: Final = 10 * UNIT_MS

_TOKENS: Final = (MINE, HIS, HERS, b"\0" * TOKEN_BYTES)


def any_token(dice: random.Random) -> bytes:
    """Of four."""
    return dice.choice(_TOKENS)


def any_value(dice: random.Random) -> bytes:
    """A value cell."""
    return value_cell(b"\x00" * 32, dice.randint(1, 3), b"envelope\0\xff")


def any_cell(dice: random.Random) -> bytes:
    """A value, a mark, or junk that begins like one."""
    tokens = dice.sample(_TOKENS, dice.randint(1, 3))
    marks = writers(*tokens, contended=len(tokens) > 1 or dice.random() < 0.5)
    return dice.choice((any_value(dice), READER + tokens[0], marks, marks[:-1], dice.randbytes(dice.randint(1, 40))))


def any_held(dice: random.Random) -> Held | None:
    """A cell, or none."""
    return None if dice.random() < 0.2 else Held(any_cell(dice), dice.randint(1, 30) * UNIT_MS)


def any_step(dice: random.Random, key: bytes, found: Held | None) -> Step:
    """Any of the four; `found` is what a reader may have seen in the cell."""
    match dice.choice((MARK_READ, MARK_WRITE, SETTLE_READ, SETTLE_WRITE)):
        case "r":
            seen = dice.choice((b"", any_cell(dice)[:HEAD_BYTES], found.cell[:HEAD_BYTES] if found else b""))
            return Step(MARK_READ, key, seen)
        case "w":
            return Step(MARK_WRITE, key)
        case settle:
            return Step(settle, key, dice.choice((b"", any_value(dice))), dice.randint(0, 30) * UNIT_MS)
