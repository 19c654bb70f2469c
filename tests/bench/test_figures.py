"""Figures are ratios of medians within one run; what was refused does not count."""

from __future__ import annotations

import pytest

from bench.figures import figures
from bench.record import Figure, Sample
from tests.bench.made_up import sample

OURS = "tiered-langchain-redis-postgres"
THEIRS = "langchain-AsyncRedisCache"


def only(samples: list[Sample], part: str) -> Figure:
    (figure,) = [figure for figure in figures(samples) if part in figure.name]
    return figure


def rates(contender: str, *achieved: float) -> list[Sample]:
    return [sample("hit-front", contender, n, callers=64, achieved=rate) for n, rate in enumerate(achieved)]


def test_a_rate_is_the_ratio_of_medians_with_the_spread_of_the_rounds() -> None:
    figure = only([*rates(OURS, 1000, 2000, 900), *rates(THEIRS, 100, 100, 50)], "64 callers: rate against Async")
    assert figure.value == pytest.approx(10.0)
    assert (figure.low, figure.high) == pytest.approx((10.0, 20.0))
    assert figure.goal == 10
    assert figure.reached


def test_a_latency_is_to_be_small() -> None:
    samples = [
        *(sample("hit-front", OURS, n, p50=p50) for n, p50 in enumerate((0.0002, 0.0003, 0.0004))),
        *(sample("hit-front", THEIRS, n, p50=0.0002) for n in range(3)),
        *(sample("hit-front", "redis-py", n, p50=0.0001) for n in range(3)),
    ]
    against_peer = only(samples, "p50 against Async")
    assert against_peer.value == pytest.approx(1.5, rel=0.01)
    assert not against_peer.reached
    against_raw = only(samples, "p50 against a raw")
    assert (against_raw.value, against_raw.low, against_raw.high) == pytest.approx((3, 2, 4), rel=0.01)


def test_rounds_that_were_refused_are_left_out_on_both_sides() -> None:
    theirs = rates(THEIRS, 100, 100, 100)
    theirs[1] = sample("hit-front", THEIRS, 1, callers=64, achieved=1.0, refused="the generator lagged")
    assert only([*rates(OURS, 1000, 9000, 1000), *theirs], "64 callers: rate against Async").high == pytest.approx(10)


def test_what_was_not_measured_has_no_figure() -> None:
    assert figures(rates(OURS, 1000)) == []
    assert figures([]) == []


def test_one_lost_hit_in_one_round_is_too_many() -> None:
    samples = [sample("burst", OURS, n, callers=256, lost=lost) for n, lost in enumerate((0, 0, 1))]
    figure = only(samples, "256 callers at once")
    assert (figure.value, figure.goal, figure.reached) == (1, 0, False)
    failing = sample("burst", OURS, callers=10_000, errors={"ConnectionError": 7})
    assert only([failing], "10,000 callers at once").value == 7


def test_clears_are_compared_by_the_number_of_entries() -> None:
    samples = [sample("clear", OURS, entries=1000, p50=0.002), sample("clear", OURS, entries=1_000_000, p50=0.004)]
    assert only(samples, "p50 against among 1,000").value == pytest.approx(2, rel=0.01)
    (absolute,) = [figure for figure in figures(samples) if figure.unit == "ms"]
    assert absolute.value == pytest.approx(4, rel=0.01)
    assert absolute.reached


def test_the_rule_is_measured_against_the_same_write_without_it() -> None:
    samples = [
        sample("write", OURS, p50=0.0012),
        sample("write", "tiered-without-the-rule", p50=0.001),
    ]
    figure = only(samples, "overhead of the rule: 1 writer")
    assert figure.value == pytest.approx(1.2, rel=0.01)
    assert figure.reached


def test_holding_the_loop_is_told_in_milliseconds() -> None:
    samples = [sample("hit-front", "tiered-langgraph-redis-postgres", batch=16, loop_held=0.012)]
    figure = only(samples, "1 caller: longest hold")
    assert (figure.value, figure.unit, figure.reached) == (12.0, "ms", False)
