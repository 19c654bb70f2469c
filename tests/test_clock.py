"""What a process knows of the store's clock: never enough to take anything for younger than it is."""

from __future__ import annotations

from typing import NamedTuple

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tiered_cache._clock import StoreClock


class Trusting(StoreClock):
    """As one would write it first: what the store says is true at the moment when it is heard."""

    def learn(self, asked: float, said: int) -> None:
        super().learn(self.tick(), said)


class Ticking:
    """Some machine's clock: where it began, and by how much it runs too fast."""

    def __init__(self, start: float, drift: float) -> None:
        self._start = start
        self._drift = drift
        self.true = 0.0

    def __call__(self) -> float:
        return self._start + self.true * (1 + self._drift)


class Question(NamedTuple):
    """Seconds: to the one before, on its way there, and back."""

    pause: float
    there: float
    back: float


def seconds(most: float) -> st.SearchStrategy[float]:
    return st.integers(0, int(most * 1000)).map(lambda n: n / 1000)


drifts = st.integers(-400, 400).map(lambda n: n / 1e6)
questions = st.lists(st.builds(Question, seconds(100), seconds(5), seconds(5)), min_size=1, max_size=4)


def told(clock: StoreClock, tick: Ticking, store: Ticking, asked: list[Question]) -> None:
    for pause, there, back in asked:
        tick.true += pause
        began = tick()
        tick.true += there
        store.true = tick.true
        said = int(store() * 1000)
        tick.true += back
        clock.learn(began, said)


def ages(
    kind: type[StoreClock], drift: tuple[float, float, float], asked: tuple[list[Question], list[Question]], wait: float
) -> tuple[int, float, float]:
    """What a reader takes the age of somebody else's value for, what it is, and how much more he may take it for."""
    store = Ticking(1_700_000_000, drift[0])
    writer, reader = Ticking(5, drift[1]), Ticking(9_000_000, drift[2])
    writers, readers = kind(writer), kind(reader)
    told(writers, writer, store, asked[0])
    writer.true += wait
    store.true = writer.true
    made, made_really = writers.earliest(), store()
    told(readers, reader, store, asked[1])
    reader.true = max(reader.true, writer.true) + wait
    store.true = reader.true
    age = readers.age(made)
    assert age is not None
    trips = sum(each.there + each.back for each in (asked[0][-1], asked[1][-1]))
    return age, 1000 * (store() - made_really), 1000 * trips + 2 + 0.002 * 1000 * (writer.true + reader.true)


AT_ONCE = Question(0, 0, 0)


@example((400e-6, 0.0, -400e-6), ([AT_ONCE], [AT_ONCE]), 1000.0)
@example((-400e-6, 400e-6, 0.0), ([AT_ONCE], [AT_ONCE]), 1000.0)
@given(st.tuples(drifts, drifts, drifts), st.tuples(questions, questions), seconds(1000))
def test_an_age_is_never_too_low_and_too_high_by_no_more_than_is_said(
    drift: tuple[float, float, float], asked: tuple[list[Question], list[Question]], wait: float
) -> None:
    age, really, more = ages(StoreClock, drift, asked, wait)
    assert really <= age <= really + more


def test_who_trusts_what_he_hears_takes_things_for_younger_than_they_are() -> None:
    """The twin: the very same check fails."""
    asked = ([Question(0, 0, 0)], [Question(0, 0, 3)])
    age, really, _ = ages(Trusting, (0, 0, 0), asked, 1)
    assert age < really - 2900
    age, really, _ = ages(StoreClock, (0, 0, 0), asked, 1)
    assert age >= really


def test_what_was_made_before_anything_was_known_is_dated_to_when_it_was_made() -> None:
    tick = Ticking(0, 0)
    clock = StoreClock(tick)
    made = tick()
    assert clock.earliest(made) is None
    assert clock.latest() is None
    assert clock.age(5) is None
    tick.true = 10
    clock.learn(9, 1_000_000)
    earliest = clock.earliest(made)
    assert earliest is not None
    assert 1_000_000 - 10_020 <= earliest <= 1_000_000 - 10_000


def test_the_store_is_asked_by_one_once_a_minute_and_by_all_until_it_has_answered() -> None:
    tick = Ticking(0, 0)
    clock = StoreClock(tick)
    assert [clock.due(), clock.due(), clock.known] == [True, True, False]
    clock.failed()
    assert not clock.due()
    tick.true = 1
    assert clock.due()
    clock.learn(tick(), 5)
    assert clock.known
    tick.true = 60.9
    assert not clock.due()
    tick.true = 61.1
    assert [clock.due(), clock.due()] == [True, False]
    clock.failed()
    tick.true = 62.2
    assert [clock.due(), clock.due()] == [True, False]


def test_what_is_later_than_now_has_no_age() -> None:
    """The store's clock was put back, or somebody forged a date."""
    clock = StoreClock(lambda: 0.0)
    clock.learn(0, 1000)
    assert clock.age(1001) == 0
    assert clock.age(1002) is None
    assert clock.age(None) is None


@pytest.mark.parametrize("said", [-1, 1 << 62, 1 << 200])
def test_a_time_that_is_none_is_not_learned(said: int) -> None:
    clock = StoreClock(lambda: 0.0)
    clock.learn(0, said)
    assert not clock.known
