"""What one process is asked to do: one contender, in one scenario, once. Plain data, passed as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

Mode = Literal["open", "closed"]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a contender may keep things, and nobody else does: everything in it is named `name`."""

    name: str
    #: URLs; "" where this run has no such server.
    redis: str
    postgres: str
    #: For SQLite files.
    folder: str
    #: Whether the Redis was started for this run, so that flushing it harms nobody.
    own_redis: bool = False

    def file(self, suffix: str) -> Path:
        return Path(self.folder) / f"{self.name}{suffix}"


@dataclass(frozen=True, slots=True)
class Job:
    scenario: str
    contender: str
    round: int
    mode: Mode
    params: Mapping[str, float | str]
    seconds: float
    place: Place
    #: Options of TieredCache, for `tune`; peers have none.
    options: Mapping[str, Any] = field(default_factory=dict[str, Any])

    def number(self, name: str, default: float | None = None) -> int:
        """A parameter that is a whole number."""
        value = self.params.get(name, default)
        assert isinstance(value, (int, float)), f"{self.scenario}: {name} is {value!r}"
        return int(value)
