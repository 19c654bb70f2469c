"""What a run leaves behind: plain data, written as JSON, read by the table, the report, `compare` and `tune`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

from pydantic import TypeAdapter

FORMAT = 1


@dataclass(frozen=True, slots=True)
class Latency:
    """Of all operations of one sample, in seconds, from the moment an operation was due."""

    p50: float
    p90: float
    p99: float
    p999: float
    max: float
    #: The whole histogram (microseconds), as HdrHistogram encodes it, so that samples can be merged exactly.
    histogram: str


@dataclass(frozen=True, slots=True)
class Slice:
    """A short stretch of a sample, for time lines. `at` is its start in seconds from the start of the sample."""

    at: float
    operations: int
    errors: int
    hits: int
    p50: float
    p99: float


@dataclass(frozen=True, slots=True)
class Sample:
    """One contender in one scenario, in a process of its own, in one round."""

    scenario: str
    contender: str
    round: int
    #: `open`: operations are due on a fixed schedule. `closed`: callers ask again at once, to find the peak rate.
    mode: Literal["open", "closed"]
    #: What was asked for: callers, batch (keys an operation), value_bytes, keys, and what the scenario adds.
    params: Mapping[str, float | str]
    #: Operations a second: asked for (None in a closed loop) and done. An operation asks for `batch` keys.
    offered: float | None
    achieved: float
    seconds: float
    operations: int
    #: Keys that were there and were not found: each would be a paid model call.
    lost: int
    #: Operations that raised, by the name of the exception.
    errors: Mapping[str, int]
    latency: Latency | None
    #: Seconds by which the generator itself started operations late (p99); and the longest time the loop was held.
    lag: float = 0.0
    loop_held: float = 0.0
    #: Why the sample does not count (the generator lagged, the contender could not be set up), or "".
    refused: str = ""
    timeline: Sequence[Slice] = ()
    #: Moments in the time line, in seconds: {"front frozen": 2.0, "front back": 4.0}.
    events: Mapping[str, float] = field(default_factory=dict[str, float])
    #: Where the time of an operation goes, in seconds by stage (key, front, decode, wake-up, ...).
    stages: Mapping[str, float] = field(default_factory=dict[str, float])
    #: Bytes, by what takes them (`tune`: the cells of a read on their way, the cells of all keys).
    sizes: Mapping[str, float] = field(default_factory=dict[str, float])


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the summary: a ratio of medians within one run, or a plain value where there is no peer."""

    name: str
    value: float
    unit: str  # "x" for a ratio
    #: What is aimed at: at least (`above`) or at most.
    goal: float
    above: bool
    #: Lowest and highest value over the rounds.
    low: float
    high: float
    note: str = ""

    @property
    def reached(self) -> bool:
        return self.value >= self.goal if self.above else self.value <= self.goal


@dataclass(frozen=True, slots=True)
class Run:
    started: str  # ISO 8601, UTC
    seconds: float
    profile: str  # "short", "full", or the scenarios that were named
    rounds: int
    machine: Mapping[str, str]
    versions: Mapping[str, str]
    tiers: Mapping[str, str]  # front and store, without passwords
    samples: Sequence[Sample]
    figures: Sequence[Figure]
    format: int = FORMAT

    def save(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self), indent=1) + "\n")

    @classmethod
    def load(cls, path: Path) -> Run:
        """Raises ValueError for a file that is no run, or of a format that this release does not know."""
        run = TypeAdapter(Run).validate_json(path.read_bytes())
        if run.format != FORMAT:
            raise ValueError(f"{path} is a benchmark run of format {run.format}; this release reads {FORMAT}")
        return run
