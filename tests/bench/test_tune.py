"""What `tune` makes of measurements, and of a workload; and that it measures at all."""

from __future__ import annotations

import io
from collections import Counter
from itertools import islice
from pathlib import Path

import pytest
from rich.console import Console

from bench.advice import Measured, deadline, fastest, lifetime, summary
from bench.refusal import Refusal
from bench.tune import Wish, tune
from bench.workload import Request, Retention, made_up, recorded, retention
from bench.zipf import zipf
from tests.bench.made_up import sample


def rate(value: float, spread: float = 0.0, rounds: int = 3) -> Measured:
    return Measured(value, value - spread, value + spread, 0.001, rounds)


def test_the_fastest_is_advised_where_it_is_faster_by_more_than_chance() -> None:
    assert fastest("batch_items", 512, {64: rate(100), 512: rate(200), 1024: rate(300)}).value == 1024
    assert fastest("batch_items", 512, {64: rate(203), 512: rate(200)}).value == 512, "hardly faster"
    assert fastest("batch_items", 512, {64: rate(300, spread=150), 512: rate(200)}).value == 512, "not in every round"
    assert fastest("batch_items", 512, {64: rate(300, spread=50), 512: rate(230, spread=30)}).value == 512, (
        "they overlap"
    )
    assert fastest("batch_items", 512, {64: rate(300), 256: rate(100)}).value == 64, "the default was not measured"


def test_one_round_changes_no_default() -> None:
    advice = fastest("batch_items", 512, {64: rate(300, rounds=1), 512: rate(200, rounds=1)})
    assert advice.value == 512
    assert "one round" in advice.reason


def test_every_value_that_was_tried_is_in_the_evidence() -> None:
    advice = fastest("front_connections", 16, {4: rate(100), 16: rate(200)})
    assert [line.split(":")[0] for line in advice.evidence] == ["4", "16"]


def test_medians_of_the_rounds_without_those_that_were_refused() -> None:
    samples = [sample("replay", "x", n, achieved=value) for n, value in enumerate((100.0, 300.0, 200.0))]
    assert summary([*samples, sample("replay", "x", achieved=1.0, refused="late")]) == pytest.approx(
        (200, 100, 300, 0.001, 3), rel=0.01
    )
    assert summary([sample("replay", "x", refused="late")]) is None


@pytest.mark.parametrize(("slow", "wanted"), [(0.001, 0.05), (0.03, 0.09), (0.041, 0.2), (0.5, 2.0)])
def test_the_deadline_leaves_room_above_the_slowest_of_a_thousand(slow: float, wanted: float) -> None:
    stages = {"front p50": 0.0005, "front p99": slow, "front p99.9": slow, "front max": slow}
    advice = deadline(0.1, (0.02, 0.1), [sample("replay", "x", stages=stages)])
    assert advice.value == pytest.approx(wanted)


def test_the_shortest_lifetime_with_nearly_all_hits_is_advised() -> None:
    found = [
        Retention(60, 0.50, 1e6),
        Retention(300, 0.896, 2e6),
        Retention(900, 0.90, 3e6),
        Retention(3600, 0.90, 9e6),
    ]
    assert lifetime(3600.0, found).value == 300


def test_lifetimes_are_judged_by_the_moments_of_the_reads() -> None:
    requests = [Request(1, 100, at) for at in (0.0, 4.0, 8.0, 12.0)]
    short, long = retention(requests, [5.0, 100.0])
    assert short.hits == pytest.approx(0.5), "a cell put at 0 serves 4; one put at 8 serves 12"
    assert long.hits == pytest.approx(0.75)
    assert long.held == pytest.approx(100.0)


def test_a_recording_is_read_in_the_order_of_its_moments(tmp_path: Path) -> None:
    file = tmp_path / "reads.jsonl"
    file.write_text(
        '{"key": "b", "bytes": 10, "at": 2}\n\n{"key": "a", "at": 1}\n{"key": "b", "bytes": 10, "at": 3.5}\n'
    )
    assert recorded(file, rate=1) == [Request(1, 2300, 1.0), Request(0, 10, 2.0), Request(0, 10, 3.5)]
    file.write_text('{"key": "a"}\n{"key": "b"}\n')
    assert [request.at for request in recorded(file, rate=2)] == [0.0, 0.5]


@pytest.mark.parametrize("text", ["", '{"key": "a"}', "nonsense", '{"at": 1}', "[1]", '{"key": "a", "at": "x"}'])
def test_a_file_that_is_no_recording_is_refused_with_what_is_wanted(tmp_path: Path, text: str) -> None:
    (tmp_path / "reads.jsonl").write_text(text)
    with pytest.raises(Refusal, match='"key"'):
        recorded(tmp_path / "reads.jsonl", rate=1)
    with pytest.raises(Refusal, match="cannot be read"):
        recorded(tmp_path / "missing.jsonl", rate=1)


def test_zipf_draws_low_ranks_more_often_and_churn_brings_new_keys() -> None:
    steady = Counter(islice(zipf(1.0, 100), 20_000))
    assert max(steady) < 100
    assert steady[0] / steady[9] == pytest.approx(10, rel=0.35)
    assert max(islice(zipf(1.0, 100, churn=0.05), 20_000)) > 500


def test_a_made_up_workload_is_the_same_each_time() -> None:
    first = made_up(s=0.99, keys=50, size=100, rate=10, requests=100)
    assert first == made_up(s=0.99, keys=50, size=100, rate=10, requests=100)
    assert first[-1].at == pytest.approx(9.9)


def test_tune_measures_the_embedded_tiers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.tune._SWEEPS", {"front_connections": (1, 16), "batches_in_flight": (2, 4)})
    console = Console(width=200, file=io.StringIO(), record=True)
    wish = Wish(front="memory://", store=f"sqlite:///{tmp_path / 'x.db'}", keys=20, callers=2, seconds=0.02, rounds=1)
    found = {advice.setting: advice for advice in tune(wish, console)}
    assert list(found) == ["batches_in_flight", "front_ttl"], "an in-process front has no connections"
    assert all(advice.evidence for advice in found.values())
    assert "batches_in_flight" in console.export_text()
    assert list(tmp_path.iterdir()) == [], "nothing is left in a folder of the user's"
