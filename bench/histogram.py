"""Latencies through HdrHistogram, in whole microseconds from 1 us to 1 minute, exact to three digits."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

from hdrh import histogram as hdrh

from .record import Latency

_LONGEST = 60_000_000
_HdrHistogram = cast("Any", hdrh).HdrHistogram


def latency(seconds: Iterable[float]) -> Latency | None:
    """None where nothing was answered."""
    histogram = _HdrHistogram(1, _LONGEST, 3)
    longest = 0.0
    for value in seconds:
        longest = max(longest, value)
        histogram.record_value(min(_LONGEST, max(1, round(value * 1e6))))
    if not histogram.get_total_count():
        return None

    def at(percentile: float) -> float:
        return float(histogram.get_value_at_percentile(percentile)) / 1e6

    return Latency(at(50), at(90), at(99), at(99.9), longest, histogram.encode().decode("ascii"))
