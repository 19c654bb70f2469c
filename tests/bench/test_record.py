"""A run is kept as JSON and comes back as it was; what is kept of a trace is what happened."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from bench.figures import figures
from bench.job import Job, Place
from bench.lab import Measured
from bench.loops import Outcome, Trace
from bench.record import Run, Slice
from bench.sample import sample_of, timeline
from tests.bench.made_up import sample


def a_run() -> Run:
    samples = [
        sample("hit-front", "tiered-langchain-redis-postgres", callers=64, achieved=1000),
        sample("hit-front", "langchain-AsyncRedisCache", callers=64, errors={"TimeoutError": 1}, lost=3),
        sample("degraded", "langchain-AsyncRedisCache", fault="front dead", timeline=[Slice(0.1, 5, 1, 3, 0.1, 0.2)]),
        replace(sample("hit-front", "aiocache", refused="not installed"), latency=None),
    ]
    return Run("2026-01-01T00:00:00+00:00", 1.5, "short", 1, {"cores": "2"}, {}, {}, samples, figures(samples))


def test_a_run_comes_back_as_it_was(tmp_path: Path) -> None:
    run = a_run()
    assert run.figures
    run.save(tmp_path / "run.json")
    assert Run.load(tmp_path / "run.json") == run


def test_a_run_of_another_format_is_refused(tmp_path: Path) -> None:
    a_run().save(tmp_path / "run.json")
    data = json.loads((tmp_path / "run.json").read_text())
    (tmp_path / "run.json").write_text(json.dumps({**data, "format": 99}))
    with pytest.raises(ValueError, match="format 99"):
        Run.load(tmp_path / "run.json")


def job(mode: str = "closed", **params: float | str) -> Job:
    place = Place("bench_x", "", "", "")
    return Job("hit-front", "redis-py", 2, "open" if mode == "open" else "closed", params, 1.0, place)


def test_who_loses_a_hit_has_not_served_it_and_errors_are_no_answers() -> None:
    trace = Trace(seconds=2.0)
    trace.add(0.0, 0.0, 0.001, Outcome(hits=1))
    trace.add(0.0, 0.0, 0.001, Outcome(lost=1))
    trace.add(0.0, 0.0, 1.0, TimeoutError())
    made = sample_of(job(callers=4), Measured(trace, lost=2))
    assert made.achieved == pytest.approx(0.5)
    assert (made.operations, made.lost, made.errors, made.offered) == (3, 3, {"TimeoutError": 1}, None)
    assert made.latency is not None
    assert made.latency.max == pytest.approx(0.001)


def test_an_open_loop_shows_what_it_offered_and_by_how_much_it_lagged() -> None:
    trace = Trace(seconds=1.0)
    trace.add(0.0, 0.5, 0.6, Outcome(hits=1))
    made = sample_of(job("open", rate=100.0), Measured(trace, refused="late"))
    assert (made.offered, made.lag, made.refused) == (100.0, pytest.approx(0.5), "late")
    assert made.latency is not None
    assert made.latency.p50 == pytest.approx(0.6, rel=0.01), "from the moment it was due"


def test_a_time_line_counts_operations_where_they_were_due() -> None:
    trace = Trace(began=10.0)
    trace.add(10.01, 10.01, 10.02, Outcome(hits=1))
    trace.add(10.02, 10.02, 12.0, TimeoutError())
    trace.add(10.31, 10.31, 10.35, Outcome(hits=2))
    first, second = timeline(trace)
    assert (first.at, first.operations, first.errors, first.hits) == (0.0, 2, 1, 1)
    assert (second.at, second.operations, second.hits) == (0.3, 1, 2)
    assert second.p50 == pytest.approx(0.04, rel=0.01)


def test_a_job_reads_whole_numbers() -> None:
    assert job(callers=4.0).number("callers") == 4
    assert job().number("batch", 1) == 1
