"""What `python -m tests.soak` holds against a process that has run for long."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.faults.place import FRONT_CONNECTIONS
from tests.faults.run import LOOPS
from tests.soak import Figures, complaints

WARM = Figures(
    front_connections=6, store_connections=4, tasks=1, threads=4, descriptors=30, megabytes=130.0, objects=150_000
)


def test_what_is_where_it_was_is_no_leak() -> None:
    assert not complaints(WARM, WARM)
    assert not complaints(WARM, replace(WARM, front_connections=8, descriptors=32, megabytes=135.0, objects=151_000))
    assert not complaints(WARM, replace(WARM, front_connections=1, descriptors=25))


@pytest.mark.parametrize(
    "grown",
    [
        {"front_connections": LOOPS * FRONT_CONNECTIONS + 1},
        {"store_connections": 20},
        {"tasks": 2},
        {"threads": 5},
        {"descriptors": 35},
        {"megabytes": 150.0},
        {"objects": 160_000},
    ],
)
def test_what_has_grown_is_told(grown: dict[str, Any]) -> None:
    assert complaints(WARM, replace(WARM, **grown))
