from __future__ import annotations

from typing import Any, cast

import pytest
from hdrh.histogram import HdrHistogram

from bench.record import Latency
from bench.report._distribution import Distribution
from tests.bench.runs import latency_of, make_sample


def test_a_merged_distribution_is_that_of_all_operations() -> None:
    parts = [[0.001] * 90 + [0.002] * 10, [0.004] * 300]
    found = Distribution.of(make_sample(latency=latency_of(part)) for part in parts)
    assert found is not None
    assert found.operations == 400
    assert found.at([0.1, 0.225, 0.25, 0.5, 1.0]) == pytest.approx([0.001, 0.001, 0.002, 0.004, 0.004], rel=2e-3)


@pytest.mark.parametrize("wide_first", [True, False])
def test_histograms_of_different_ranges_merge(wide_first: bool) -> None:
    narrow: Any = cast("Any", HdrHistogram)(1, 10_000, 3)
    narrow.record_value(1000)
    small = Latency(0.001, 0.001, 0.001, 0.001, 0.001, narrow.encode().decode())
    latencies = [latency_of([30.0]), small]
    found = Distribution.of(make_sample(latency=one) for one in (latencies if wide_first else latencies[::-1]))
    assert found is not None
    assert found.at([0.5, 1.0]) == pytest.approx([0.001, 30.0], rel=2e-3)


def test_nothing_recorded_is_no_distribution() -> None:
    empty = Latency(0, 0, 0, 0, 0, cast("Any", HdrHistogram)(1, 1000, 3).encode().decode())
    assert Distribution.of([make_sample(latency=None)]) is None
    assert Distribution.of([make_sample(latency=empty)]) is None
