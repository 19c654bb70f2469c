"""Latencies of several rounds as one distribution. Percentiles are never averaged."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

from hdrh.histogram import HdrHistogram

from bench.record import Sample

_MICROSECOND: Final = 1e-6
#: The library itself is not annotated.
_decode: Any = cast("Any", HdrHistogram).decode


@dataclass(frozen=True, slots=True)
class Distribution:
    """All operations of some samples."""

    operations: int
    histogram: Any

    @classmethod
    def of(cls, samples: Iterable[Sample]) -> Distribution | None:
        """None where nothing was recorded."""
        parts = [_decode(sample.latency.histogram) for sample in samples if sample.latency and sample.latency.histogram]
        # The widest takes up the others: a narrower one could not hold their values.
        parts.sort(key=lambda part: part.highest_trackable_value, reverse=True)
        for part in parts[1:]:
            parts[0].add(part)
        return cls(parts[0].get_total_count(), parts[0]) if parts and parts[0].get_total_count() else None

    def at(self, shares: Sequence[float]) -> list[float]:
        """In seconds: what these shares (0 to 1) of the operations did not exceed."""
        found: dict[float, int] = self.histogram.get_percentile_to_value_dict([100 * share for share in shares])
        return [found[100 * share] * _MICROSECOND for share in shares]
