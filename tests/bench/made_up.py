"""Samples that nobody measured."""

from __future__ import annotations

from typing import Any

from bench.histogram import latency
from bench.record import Sample


def sample(scenario: str, contender: str, number: int = 0, **fields: Any) -> Sample:
    """`p50` in seconds; `callers`, `batch` and other parameters by their names."""
    known = {
        *("achieved", "lost", "errors", "loop_held", "refused", "timeline", "events", "stages", "sizes"),
        *("offered", "mode"),
    }
    took = fields.pop("p50", 0.001)
    params: dict[str, float | str] = {"callers": 1.0, "batch": 1.0, "value_bytes": 2300.0, "keys": 512.0}
    params.update({n: v if isinstance(v, str) else float(v) for n, v in fields.items() if n not in known})
    given: dict[str, Any] = {
        "mode": "closed",
        "offered": None,
        "achieved": 100.0,
        "lost": 0,
        "errors": {},
        "timeline": [],
        **{name: value for name, value in fields.items() if name in known},
    }
    return Sample(
        scenario=scenario,
        contender=contender,
        round=number,
        params=params,
        seconds=1.0,
        operations=100,
        latency=latency([took] * 100),
        **given,
    )
