"""The one rule that keeps both tiers together: mark, touch the store, settle.

Pure: a cell and a step go in, a cell comes out. The in-process front runs this code, the Redis front a Lua script that
says the same, and a test holds the two together row by row.

Whoever reads the store in order to promote, or changes it, first leaves a mark in the cell and settles the cell
afterwards. Only one's own, undisturbed mark lets one put a value; everything else can only empty the cell. A mark that
nobody settles expires. So every doubt (a dropped cell, a dead process, a late packet) ends in one more read of the
store and never in an older value, without a clock and without a lock.
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

from ._cells import HEAD_BYTES, READER, TOKEN_BYTES, WRITERS, is_writers_mark

MARK_READ: Final = "r"
MARK_WRITE: Final = "w"
SETTLE_READ: Final = "R"
SETTLE_WRITE: Final = "W"

Op = Literal["r", "w", "R", "W"]


class Step(NamedTuple):
    """One step on one key.

    `arg` is, for MARK_READ, the first bytes (HEAD_BYTES) of the invalid cell that the reader saw, which its mark may
    replace, or nothing where it saw none; for the settles, the value cell to put, or nothing to leave the cell empty.
    `ttl` is how long that value may stay, in milliseconds counted from the moment of marking.
    """

    op: Op
    key: bytes
    arg: bytes = b""
    ttl: int = 0


class Held(NamedTuple):
    """What the front holds for a key: the cell and the milliseconds left to it."""

    cell: bytes
    left: int


class Outcome(NamedTuple):
    """What it holds after a step, and whether the step got its way: the mark stands, or the value was put."""

    held: Held | None
    done: bool


def apply(held: Held | None, step: Step, token: bytes, mark_ttl: int) -> Outcome:
    """`token` is the mark of the caller, `mark_ttl` how long a mark lives, in milliseconds."""
    if held is not None and not held.cell:
        held = None
    if step.op == MARK_READ:
        return _mark_read(held, step, token, mark_ttl)
    if step.op == MARK_WRITE:
        return _mark_write(held, token, mark_ttl)
    if step.op == SETTLE_READ:
        if held is not None and held.cell == READER + token:
            return _put(held, step, mark_ttl)
        return Outcome(held, False)
    return _settle_write(held, step, token, mark_ttl)


def _mark_read(held: Held | None, step: Step, token: bytes, mark_ttl: int) -> Outcome:
    mine = READER + token
    if held is None or (step.arg and held.cell[:HEAD_BYTES] == step.arg):
        return Outcome(Held(mine, mark_ttl), True)
    return Outcome(held, held.cell == mine)


def _mark_write(held: Held | None, token: bytes, mark_ttl: int) -> Outcome:
    if held is None or not is_writers_mark(held.cell):
        return Outcome(Held(WRITERS + b"0" + token, mark_ttl), True)
    tokens = _tokens(held.cell)
    if token in tokens:  # a repeated packet
        return Outcome(held, True)
    # A dead writer's mark must be able to expire however many others come after it: only the first to join prolongs.
    left = max(held.left, mark_ttl) if held.cell[1:2] == b"0" else held.left
    return Outcome(Held(WRITERS + b"1" + held.cell[2:] + token, left), True)


def _settle_write(held: Held | None, step: Step, token: bytes, mark_ttl: int) -> Outcome:
    if held is None:
        return Outcome(None, False)
    if not is_writers_mark(held.cell):  # my mark was dropped: what is here may come from before my commit
        return Outcome(None, False)
    tokens = _tokens(held.cell)
    if token not in tokens:  # my mark was dropped: those in between may have committed before me
        return Outcome(Held(WRITERS + b"1" + held.cell[2:], held.left), False)
    rest = b"".join(t for t in tokens if t != token)
    if rest:
        return Outcome(Held(WRITERS + b"1" + rest, held.left), False)
    if held.cell[1:2] != b"0":
        return Outcome(None, False)
    return _put(held, step, mark_ttl)


def _put(held: Held, step: Step, mark_ttl: int) -> Outcome:
    # Time spent since marking is the front's own measurement, so a settle that was delayed on its way
    # cannot make a value outlive its entry.
    ttl = step.ttl - max(0, mark_ttl - held.left)
    if not step.arg or ttl <= 0:
        return Outcome(None, False)
    return Outcome(Held(step.arg, ttl), True)


def _tokens(cell: bytes) -> list[bytes]:
    return [cell[i : i + TOKEN_BYTES] for i in range(2, len(cell), TOKEN_BYTES)]
