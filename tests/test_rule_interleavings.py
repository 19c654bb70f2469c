"""P2: every interleaving of a few readers, writers and deleters, with dropped cells and killed writers.

One key, one cell, one row in the store. What explores is plain; what decides is `_rule.apply` itself. Beside it the
usual look-aside cache goes through the same interleavings, and is caught.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple

import pytest

from tiered_cache._cells import TOKEN_BYTES, is_mark, read_value, value_cell
from tiered_cache._rule import MARK_READ, MARK_WRITE, SETTLE_READ, SETTLE_WRITE, Held, Op, Step, apply

DIGEST = b"\x07" * 32
KEY = b"key"
MARK_TTL = 10
VALUE_TTL = 1_000

Kind = Literal["reader", "writer", "deleter"]
# Readers go from "look" over "mark" and "load" to "settle", or to "peek" where they may not promote; writers and
# deleters from "mark" over "commit" to "settle".
Stage = Literal["look", "mark", "load", "peek", "commit", "settle", "done", "dead"]


class Actor(NamedTuple):
    kind: Kind
    stage: Stage
    version: int = 0  # loaded, or committed
    not_before: int = 0  # the newest version acknowledged to anybody when this one began
    seen_before: int = 0  # the newest version that anybody had read by then
    read: int | None = None


class State(NamedTuple):
    held: Held | None
    row: int  # the version of the last commit; negative where it deleted
    acked: int
    seen: int
    drops: int
    kills: int
    actors: tuple[Actor, ...]


class World:
    """The moves that are open in a state, with the rule or (`naive`) without."""

    def __init__(self, *, naive: bool) -> None:
        self.naive = naive

    def moves(self, state: State) -> Iterator[tuple[str, State]]:
        for i, actor in enumerate(state.actors):
            if actor.stage not in ("done", "dead"):
                yield f"{actor.kind} {i}: {actor.stage}", self._move(state, i, actor)
                if state.kills and actor.kind != "reader" and actor.stage in ("commit", "settle"):
                    dead = _replaced(state, i, actor._replace(stage="dead"))
                    yield f"{actor.kind} {i} is killed", dead._replace(kills=state.kills - 1)
        if state.drops and state.held is not None:
            yield "the cell is dropped", state._replace(held=None, drops=state.drops - 1)

    def _move(self, state: State, i: int, actor: Actor) -> State:
        if actor.kind == "reader":
            return self._read(state, i, actor)
        return self._write(state, i, actor)

    def _read(self, state: State, i: int, actor: Actor) -> State:
        match actor.stage:
            case "look":
                actor = actor._replace(not_before=state.acked, seen_before=state.seen)
                value = read_value(DIGEST, state.held.cell) if state.held else None
                if value is not None:
                    return _has_read(state, i, actor._replace(stage="done"), value.version)
                if self.naive:
                    return _replaced(state, i, actor._replace(stage="load"))
                marked = state.held is not None and is_mark(state.held.cell)
                return _replaced(state, i, actor._replace(stage="peek" if marked else "mark"))
            case "mark":
                state, done = _stepped(state, MARK_READ, i)
                return _replaced(state, i, actor._replace(stage="load" if done else "peek"))
            case "load":
                return _has_read(state, i, actor._replace(stage="settle", version=state.row), abs(state.row))
            case "peek":
                return _has_read(state, i, actor._replace(stage="done"), abs(state.row))
            case _:
                if self.naive:
                    state = state._replace(held=_put(actor.version) or state.held)
                else:
                    state, _ = _stepped(state, SETTLE_READ, i, actor.version)
                return _replaced(state, i, actor._replace(stage="done"))

    def _write(self, state: State, i: int, actor: Actor) -> State:
        match actor.stage:
            case "mark":
                if not self.naive:
                    state, _ = _stepped(state, MARK_WRITE, i)
                return _replaced(state, i, actor._replace(stage="commit"))
            case "commit":
                version = abs(state.row) + 1
                row = -version if actor.kind == "deleter" else version
                return _replaced(state._replace(row=row), i, actor._replace(stage="settle", version=row))
            case _:
                if self.naive:
                    state = state._replace(held=_put(actor.version))
                else:
                    state, _ = _stepped(state, SETTLE_WRITE, i, actor.version)
                acked = max(state.acked, abs(actor.version))
                return _replaced(state._replace(acked=acked), i, actor._replace(stage="done"))


def _stepped(state: State, op: Op, i: int, version: int = 0) -> tuple[State, bool]:
    cell = value_cell(DIGEST, version, b"") if version > 0 else b""
    outcome = apply(state.held, Step(op, KEY, cell, VALUE_TTL), bytes((i,)) * TOKEN_BYTES, MARK_TTL)
    return state._replace(held=outcome.held), outcome.done


def _put(version: int) -> Held | None:
    return Held(value_cell(DIGEST, version, b""), VALUE_TTL) if version > 0 else None


def _replaced(state: State, i: int, actor: Actor) -> State:
    return state._replace(actors=(*state.actors[:i], actor, *state.actors[i + 1 :]))


def _has_read(state: State, i: int, actor: Actor, version: int) -> State:
    return _replaced(state._replace(seen=max(state.seen, version)), i, actor._replace(read=version))


def violation(state: State, *, drops: int, kills: int) -> str | None:
    """What is wrong with a state that was reached, if anything."""
    for actor in state.actors:
        if actor.read is not None and actor.read < actor.not_before:
            return "a read older than a write that had returned before it began"
        if actor.read is not None and not drops and actor.read < actor.seen_before:
            return "a read older than a read that had ended before it began"
    if all(actor.stage in ("done", "dead") for actor in state.actors) and state.held is not None:
        value = read_value(DIGEST, state.held.cell)
        # A mark that was dropped, of a writer that died after its commit: bounded by the front's TTL alone.
        if value is not None and value.version != state.row and not (drops and kills):
            return "a value left at rest that is not the row"
    return None


def explored(
    *, readers: int, writers: int, deleters: int, drops: int, kills: int, naive: bool
) -> tuple[int, list[tuple[str, list[str]]]]:
    """How many states there are, and every violation with the way to it."""
    actors = (
        *(Actor("reader", "look") for _ in range(readers)),
        *(Actor("writer", "mark") for _ in range(writers)),
        *(Actor("deleter", "mark") for _ in range(deleters)),
    )
    first = State(_put(1), 1, 1, 1, drops, kills, actors)
    world = World(naive=naive)
    todo: list[State] = [first]
    came_from: dict[State, tuple[str, State] | None] = {first: None}
    bad: list[tuple[str, list[str]]] = []
    while todo:
        state = todo.pop()
        for label, reached in world.moves(state):
            if reached in came_from:
                continue
            came_from[reached] = (label, state)
            todo.append(reached)
            wrong = violation(reached, drops=drops, kills=kills)
            if wrong:
                bad.append((wrong, _way_to(reached, came_from)))
    return len(came_from), bad


def _way_to(state: State, came_from: dict[State, tuple[str, State] | None]) -> list[str]:
    way: list[str] = []
    while (step := came_from[state]) is not None:
        label, state = step
        way.append(label)
    return way[::-1]


# readers, writers, deleters, drops, kills
CASES = [
    (2, 2, 0, 0, 1),
    (2, 1, 1, 0, 1),
    (2, 0, 2, 0, 1),
    (3, 1, 0, 1, 0),
    (2, 1, 1, 1, 0),
    (2, 2, 0, 1, 1),
    (2, 2, 0, 2, 0),
    (1, 3, 0, 1, 0),
    (3, 0, 1, 1, 1),
]


@pytest.mark.parametrize(
    "case", CASES, ids=lambda case: "{} readers {} writers {} deleters {} drops {} kills".format(*case)
)
def test_no_interleaving_reads_what_is_older_than_a_write_that_returned(case: tuple[int, int, int, int, int]) -> None:
    readers, writers, deleters, drops, kills = case
    states, bad = explored(readers=readers, writers=writers, deleters=deleters, drops=drops, kills=kills, naive=False)
    assert bad == []
    assert states > 500


@pytest.mark.parametrize("deleters", [0, 1])
def test_the_same_exploration_catches_a_late_promotion_over_a_newer_write(deleters: int) -> None:
    _, bad = explored(readers=2, writers=1 - deleters, deleters=deleters, drops=1, kills=0, naive=True)
    assert any("had returned" in wrong for wrong, _ in bad)
    assert any("at rest" in wrong for wrong, _ in bad)


def test_the_same_exploration_catches_two_writers_that_reach_the_front_in_the_other_order() -> None:
    _, bad = explored(readers=0, writers=2, deleters=0, drops=0, kills=0, naive=True)
    assert any("at rest" in wrong for wrong, _ in bad)


def test_the_same_exploration_catches_a_writer_that_died_before_it_told_the_front() -> None:
    _, bad = explored(readers=1, writers=1, deleters=0, drops=0, kills=1, naive=True)
    assert any("at rest" in wrong for wrong, _ in bad)
