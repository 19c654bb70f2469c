"""The circuit breaker alone, with a clock of its own."""

from __future__ import annotations

import pytest

from tiered_cache._breaker import Breaker, State


class Watched(Breaker):
    """A breaker with a window of 1 s that probes every 2 s, and what it told."""

    def __init__(self) -> None:
        self.now = 100.0
        self.told: list[State] = []
        super().__init__(1.0, 2.0, self.told.append, lambda: self.now)

    def fail(self, times: int = 1, every: float = 0.0) -> None:
        for _ in range(times):
            self.now += every
            self.failed()


@pytest.fixture
def breaker() -> Watched:
    return Watched()


def test_however_many_fail_at_one_moment_it_stays_closed(breaker: Watched) -> None:
    breaker.fail(10_000)
    assert breaker.state == "closed"
    assert breaker.admits()


def test_it_opens_when_most_have_failed_for_the_length_of_the_window(breaker: Watched) -> None:
    breaker.fail(10, every=0.1)
    assert breaker.state == "closed"
    breaker.fail(every=0.15)
    assert breaker.state == "open"
    assert breaker.told == ["open"]
    assert not breaker.admits()


def test_a_rate_below_one_half_never_opens_it(breaker: Watched) -> None:
    for _ in range(1000):
        breaker.now += 0.01
        breaker.succeeded()
        breaker.succeeded()
        breaker.failed()
    assert breaker.state == "closed"


def test_a_rate_above_one_half_opens_it_although_some_succeed(breaker: Watched) -> None:
    for n in range(200):
        breaker.now += 0.01
        (breaker.failed if n % 3 else breaker.succeeded)()
    assert breaker.state == "open" or "open" in breaker.told


def test_what_went_well_long_ago_does_not_count_for_long(breaker: Watched) -> None:
    for _ in range(1_000_000 // 100):
        breaker.succeeded()
    breaker.fail(200, every=0.1)
    assert "open" in breaker.told
    assert breaker.now < 100 + 25


def test_a_pause_between_two_good_times_is_no_failure(breaker: Watched) -> None:
    breaker.fail()
    breaker.now += 0.5
    breaker.succeeded()
    breaker.now += 0.6
    breaker.succeeded()
    breaker.fail()
    assert breaker.state == "closed"


class TestOpen:
    @pytest.fixture(autouse=True)
    def opened(self, breaker: Watched) -> None:
        breaker.fail(3, every=0.6)
        assert breaker.state == "open"
        breaker.told.clear()

    def test_one_probe_is_let_through_when_its_time_has_come(self, breaker: Watched) -> None:
        breaker.now += 1.9
        assert not breaker.admits()
        breaker.now += 0.1
        assert [breaker.admits() for _ in range(5)] == [True, False, False, False, False]
        assert breaker.told == ["half_open"]

    def test_a_probe_that_succeeds_closes_it(self, breaker: Watched) -> None:
        breaker.now += 2
        assert breaker.admits()
        breaker.succeeded()
        assert breaker.told == ["half_open", "closed"]
        breaker.fail(1000)
        assert breaker.admits()

    def test_a_probe_that_fails_opens_it_for_as_long_again(self, breaker: Watched) -> None:
        breaker.now += 2
        assert breaker.admits()
        breaker.now += 0.1
        breaker.failed()
        assert breaker.told == ["half_open", "open"]
        breaker.now += 1.9
        assert not breaker.admits()
        breaker.now += 0.1
        assert breaker.admits()

    def test_after_a_probe_that_was_cancelled_the_next_one_probes(self, breaker: Watched) -> None:
        breaker.now += 2
        assert breaker.admits()
        breaker.gave_up()
        assert breaker.admits()
        assert not breaker.admits()

    def test_a_probe_that_never_comes_back_is_followed_by_another(self, breaker: Watched) -> None:
        breaker.now += 2
        assert breaker.admits()
        breaker.now += 2
        assert breaker.admits()
        assert not breaker.admits()

    def test_those_who_were_under_way_change_nothing_by_failing(self, breaker: Watched) -> None:
        breaker.fail(100, every=0.001)
        assert breaker.told == []
        breaker.now += 1.9
        assert breaker.admits()

    def test_in_a_forked_child_it_is_closed(self, breaker: Watched) -> None:
        breaker.forget()
        assert breaker.admits()


def test_who_was_cancelled_while_it_is_closed_says_nothing(breaker: Watched) -> None:
    breaker.gave_up()
    assert breaker.state == "closed"
    assert breaker.told == []
