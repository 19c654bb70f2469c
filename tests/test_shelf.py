"""What is held in this process of a shared front is answered only where nobody can have changed it unheard."""

from __future__ import annotations

import math

import pytest

from tiered_cache._shelf import OVERHEAD_BYTES, Shelf
from tiered_cache.testing import ManualClock

STALENESS = 2.0


class World:
    def __init__(self, max_bytes: int = 1_000_000) -> None:
        self.clock = ManualClock()
        self.shelf = Shelf(max_bytes, STALENESS, self.clock)
        self.shelf.confirm(self.clock())

    def keep(self, *keys: bytes, left: int = 60_000) -> None:
        reading = self.shelf.begin()
        self.shelf.keep(reading, [(key, b"V" + key, left) for key in keys])
        self.shelf.end(reading)

    def held(self, key: bytes = b"k") -> bytes | None:
        cells = self.shelf.answer([key])
        return None if cells is None else cells[0]


@pytest.fixture
def world() -> World:
    return World()


def test_what_was_read_is_held_in_the_order_of_the_keys(world: World) -> None:
    world.keep(b"a", b"b")
    assert world.shelf.answer([b"b", b"x", b"a"]) == [b"Vb", None, b"Va"]


def test_nothing_is_answered_before_it_is_confirmed() -> None:
    shelf = Shelf(1000, STALENESS)
    assert shelf.answer([b"k"]) is None
    assert not shelf.fresh


def test_nothing_is_answered_once_the_last_confirmation_is_too_old(world: World) -> None:
    world.keep(b"k")
    world.clock.advance(STALENESS - 0.001)
    assert world.held() == b"Vk"
    world.clock.advance(0.001)
    assert world.shelf.answer([b"k"]) is None
    world.shelf.confirm(world.clock())  # the news was late, and complete
    assert world.held() == b"Vk"


def test_a_confirmation_counts_from_the_moment_that_it_is_for(world: World) -> None:
    world.keep(b"k")
    asked = world.clock()
    world.clock.advance(STALENESS)
    world.shelf.confirm(asked)
    assert world.shelf.answer([b"k"]) is None


def test_a_cell_is_not_answered_longer_than_it_had_to_live_when_it_was_asked_for(world: World) -> None:
    reading = world.shelf.begin()
    world.clock.advance(0.5)
    world.shelf.keep(reading, [(b"k", b"V", 1500)])
    world.clock.advance(0.999)
    assert world.held() == b"V"
    world.clock.advance(0.001)
    assert world.held() is None
    assert world.shelf.bytes_held == 0


@pytest.mark.parametrize("left", [0, -1, -2])
def test_a_cell_without_an_expiry_that_is_known_is_not_held(world: World, left: int) -> None:
    world.keep(b"k", left=left)
    assert world.held() is None


def test_a_change_takes_the_cell_and_no_other(world: World) -> None:
    world.keep(b"k", b"other")
    world.shelf.change([b"k", b"unknown"])
    assert (world.held(), world.held(b"other")) == (None, b"Vother")


def test_an_answer_from_before_a_change_is_not_held_after_it(world: World) -> None:
    reading = world.shelf.begin()
    world.shelf.change([b"k"])
    world.shelf.keep(reading, [(b"k", b"V", 60_000), (b"other", b"V", 60_000)])
    assert (world.held(), world.held(b"other")) == (None, b"V")


@pytest.mark.parametrize("happens", ["flush", "doubt"])
def test_an_answer_from_before_everything_changed_is_not_held_after_it(world: World, happens: str) -> None:
    world.keep(b"held")
    reading = world.shelf.begin()
    getattr(world.shelf, happens)()
    world.shelf.confirm(world.clock())
    world.shelf.keep(reading, [(b"k", b"V", 60_000)])
    assert (world.held(), world.held(b"held"), world.shelf.bytes_held) == (None, None, 0)


def test_an_answer_asked_for_while_nobody_told_is_not_held_when_somebody_does_again(world: World) -> None:
    world.shelf.doubt()
    reading = world.shelf.begin()
    world.shelf.confirm(world.clock())
    world.shelf.keep(reading, [(b"k", b"V", 60_000)])
    assert world.held() is None


def test_a_flush_leaves_it_answering_and_a_doubt_does_not(world: World) -> None:
    world.shelf.flush()
    assert world.shelf.fresh
    world.shelf.doubt()
    assert not world.shelf.fresh


def test_it_holds_no_more_than_it_may_and_keeps_what_is_used() -> None:
    cost = OVERHEAD_BYTES + 2 + 3
    world = World(3 * cost)
    world.keep(b"k0", b"k1", b"k2")
    assert world.shelf.bytes_held == 3 * cost
    assert world.held(b"k0") is not None
    world.keep(b"k3")
    assert [world.held(b"k%d" % i) is not None for i in range(4)] == [True, False, True, True]
    world.keep(b"k3")
    assert world.shelf.bytes_held == 3 * cost


def test_what_is_larger_than_all_of_it_is_not_held_and_costs_nothing_else_its_place() -> None:
    world = World(1000)
    world.keep(b"k")
    world.keep(b"x" * 1000)
    assert world.held() == b"Vk"
    reading = world.shelf.begin()
    world.shelf.keep(reading, [(b"k", b"V" * 1000, 60_000)])  # what was there is older
    assert world.held() is None


def test_readings_that_ended_are_forgotten(world: World) -> None:
    world.keep(b"k")
    assert not world.shelf._readings


def test_a_forked_child_begins_with_an_empty_one(world: World) -> None:
    world.keep(b"k")
    world.shelf._lock.acquire()  # by a thread that is not in the child
    world.shelf.forget()
    assert world.shelf.answer([b"k"]) is None
    assert world.shelf._fresh_until == -math.inf
    assert world.shelf.bytes_held == 0
