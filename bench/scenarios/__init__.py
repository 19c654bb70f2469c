"""What is measured: one scenario a module, whose name is the scenario's. A new one is named here as well."""

from __future__ import annotations

from functools import cache
from importlib import import_module

from .base import Scenario

#: In the order in which they run.
_NAMES = (
    *("hit-front", "hit-store", "miss", "write", "mixed", "stampede"),
    *("burst", "clear", "clear-under-load", "fan-out", "degraded", "stages"),
)


def scenario(name: str) -> Scenario:
    found: Scenario = import_module(f"{__name__}.{name.replace('-', '_')}").SCENARIO
    return found


@cache
def scenarios() -> dict[str, Scenario]:
    return {name: scenario(name) for name in _NAMES}
