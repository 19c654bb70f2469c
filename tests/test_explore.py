"""A few thousand of the schedules that `python -m tests.explore` runs by the hundred thousand."""

from __future__ import annotations

import logging
from collections.abc import Generator

import pytest

from tests.explore import SCENARIOS, Scenario, ViolationError, explore

SCHEDULES = 400


@pytest.fixture(autouse=True)
def quiet() -> Generator[None]:
    """Each failure as decided would be announced."""
    logging.disable()
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_no_reader_ever_sees_what_had_ended_and_no_acknowledged_write_is_lost(scenario: Scenario) -> None:
    for seed in range(SCHEDULES):
        explore(seed, scenario)


@pytest.mark.parametrize("scenario", ["drops", "a killed process"])
def test_without_the_rule_one_does(scenario: Scenario) -> None:
    def explore_all() -> None:
        for seed in range(SCHEDULES):
            explore(seed, scenario, naive=True)

    with pytest.raises(ViolationError, match=f"seed [0-9]+, {scenario}"):
        explore_all()


def test_a_seed_replays() -> None:
    logs: list[list[str]] = [[], []]
    for log in logs:
        explore(7, "cancelled callers", log=log.append)
    assert logs[0] == logs[1]
    assert logs[0]
