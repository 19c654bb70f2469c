"""What `tune` makes of measurements, and of a workload; and that it measures at all."""

from __future__ import annotations

import io
import re
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest
from rich.console import Console

from bench import payloads
from bench.advice import Measured, Weight, compression, deadline, fastest, lifetime, summary, weight
from bench.candidates import batch_limits, thresholds
from bench.refusal import Refusal
from bench.tune import Wish, tune
from bench.workload import Request, Retention, made_up, recorded, retention
from bench.zipf import zipf
from tests.bench.made_up import sample
from tiered_cache import _zstd
from tiered_cache._zstd import compressed


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


PLAIN, FRAMES = Weight(2400, 4e6), Weight(1200, 2.2e6)


def test_compression_is_advised_only_where_it_is_faster_by_more_than_chance() -> None:
    weights = {None: PLAIN, 1024: FRAMES}
    assert compression({None: rate(200, 5), 1024: rate(300, 5)}, weights).value == 1024
    assert compression({None: rate(200, 30), 1024: rate(230, 30)}, weights).value is None, "they overlap"
    assert compression({None: rate(200, 5), 1024: rate(100, 5)}, weights).value is None, "however much it saves"


@pytest.mark.parametrize(
    ("plain", "compressing", "price"),
    [
        (rate(200, 5), rate(150, 5), "costs 25% of the rate: worth it only where memory is short"),
        (rate(200, 30), rate(180, 30), "(-10%) cannot be told"),
        (rate(200, 30), rate(220, 30), "(+10%) cannot be told"),
        (rate(200, 5), rate(150, 5, rounds=1), "cannot be told"),
        (rate(200, 5), rate(300, 5), "brings 50% more"),
    ],
)
def test_the_evidence_says_what_compression_saves_and_what_that_costs(
    plain: Measured, compressing: Measured, price: str
) -> None:
    tried = {None: plain, 4096: compressing, 1024: compressing}
    evidence = compression(tried, {None: PLAIN, 4096: Weight(1800, 3e6), 1024: FRAMES}).evidence
    assert [line.split(":")[0] for line in evidence[:-1]] == ["None", "4096", "1024"]
    assert "2,400 bytes" in evidence[0]
    assert "3.8 MiB" in evidence[0]
    assert evidence[-1].startswith("1024 saves 45% of the space")
    assert price in evidence[-1]


def test_what_was_not_weighed_is_judged_by_its_rate_alone() -> None:
    evidence = compression({None: rate(200), 1024: rate(100)}, {1024: FRAMES}).evidence
    assert len(evidence) == 2
    assert "MiB" not in evidence[0]
    assert weight([sample("replay", "x"), sample("replay", "x", refused="late", sizes={"a read": 1.0})]) is None


def test_what_cells_weigh_is_the_median_of_the_rounds() -> None:
    sizes = [{"a read": float(n), "all keys": n * 10.0} for n in (1, 9, 2)]
    assert weight([sample("replay", "x", n, sizes=each) for n, each in enumerate(sizes)]) == (2, 20)


@pytest.mark.parametrize(
    ("sizes", "tried"),
    [
        ((2300,), {1024}),
        ((300, 2300, 2500), {256, 1024}),
        ((300, 5000, 100_000), {256, 4096, 65_536}),
        ((100, 256), set[int]()),
    ],
)
def test_thresholds_that_compress_the_same_values_are_tried_once(sizes: Sequence[int], tried: set[int]) -> None:
    assert set(thresholds([Request(key, size, float(key)) for key, size in enumerate(sizes)])) == tried


@pytest.mark.parametrize(
    ("callers", "tried"),
    [
        (64, []),
        (200, [2**18, 2**22]),
        (1000, [2**18, 2**20, 2**22]),
        (10_000, [2**18, 2**20, 2**22, 2**24]),
    ],
)
def test_limits_of_a_batch_are_tried_where_it_can_reach_them_and_the_default_beside_them(
    callers: int, tried: Sequence[int]
) -> None:
    assert batch_limits([Request(0, 10, 0.0), Request(1, 2300, 1.0)], callers) == tried


@pytest.mark.parametrize("size", [500, 2300, 20_000])
def test_what_is_measured_compresses_as_text_of_people_does(size: int) -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_bytes()
    whole = [readme[start : start + size] for start in range(0, len(readme) - size, size)]
    taken = [payloads.prose(number, size) for number in range(50)]
    assert {len(value) for value in taken} == {size}
    assert len(set(taken)) == 50
    assert _share(taken) == pytest.approx(_share(whole), rel=0.25)


def _share(values: Sequence[bytes]) -> float:
    """What is left of them, each compressed for itself."""
    return sum(len(compressed(value) or value) for value in values) / sum(map(len, values))


def test_a_value_may_be_longer_than_the_text_it_is_cut_from() -> None:
    assert len(payloads.prose(7, 2_000_000)) == 2_000_000


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
    monkeypatch.setattr("bench.candidates._SWEEPS", {"front_connections": (1, 16), "batches_in_flight": (2, 4)})
    console = Console(width=200, file=io.StringIO(), record=True)
    wish = Wish(front="memory://", store=f"sqlite:///{tmp_path / 'x.db'}", keys=20, callers=2, seconds=0.3, rounds=1)
    found = {advice.setting: advice for advice in tune(wish, console)}
    expected = ["batches_in_flight", "compress_above", "front_ttl"]
    assert list(found) == expected, "an in-process front has no connections"
    evidence = found["compress_above"].evidence
    assert len(evidence) == 4, evidence
    plain, compressing, saved, origin = evidence
    assert plain.startswith("None: ")
    assert compressing.startswith("1024: ")
    assert 0.4 < 1 - _moved(compressing) / _moved(plain) < 0.63, "text, not noise and not a pattern"
    assert saved.startswith("1024 saves ")
    assert "documentation" in origin
    assert all(advice.evidence for advice in found.values())
    assert "batches_in_flight" in console.export_text()
    assert list(tmp_path.iterdir()) == [], "nothing is left in a folder of the user's"


def _moved(line: str) -> float:
    (found,) = re.findall(r"([0-9,]+) bytes to and from", line)
    return float(found.replace(",", ""))


@pytest.fixture
def console(monkeypatch: pytest.MonkeyPatch) -> Console:
    monkeypatch.setattr("bench.candidates._SWEEPS", {})
    return Console(width=200, file=io.StringIO(), record=True)


def embedded(folder: Path, recording: str = "", value_bytes: int = 2300) -> Wish:
    file = folder / "reads.jsonl"
    file.write_text(recording)
    store = f"sqlite:///{folder / 'x.db'}"
    wish = Wish(front="memory://", store=store, keys=20, callers=2, seconds=0.3, rounds=1, value_bytes=value_bytes)
    return replace(wish, recorded=file) if recording else wish


def test_of_a_recording_the_evidence_says_that_its_values_are_unknown(tmp_path: Path, console: Console) -> None:
    lines = [f'{{"key": "k{n % 9}", "bytes": {400 + n % 9 * 1000}}}' for n in range(90)]
    (advice, _) = tune(embedded(tmp_path, "\n".join(lines)), console)
    assert [line.split(":")[0] for line in advice.evidence[:4]] == ["None", "256", "1024", "4096"]
    assert "the recording has sizes and no values" in advice.evidence[-1]
    assert "batch_bytes was not tried: 2 callers do not ask for 256 KiB at once" in console.export_text()


def test_a_value_that_could_not_be_measured_is_in_the_evidence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, console: Console
) -> None:
    monkeypatch.setattr("bench.candidates._SWEEPS", {"batches_in_flight": (0, 2)})
    advice = tune(embedded(tmp_path), console)[0]
    assert advice.value == 2
    assert advice.evidence[-1].startswith("0: not measured: ConfigurationError")


def test_large_values_are_tried_with_smaller_batches(tmp_path: Path, console: Console) -> None:
    found = tune(embedded(tmp_path, value_bytes=200_000), console)
    assert [advice.setting for advice in found] == ["batch_bytes", "compress_above", "front_ttl"]
    assert [line.split(":")[0] for line in found[0].evidence] == ["262144", "4194304"]


def test_values_too_small_to_be_compressed_are_not_tried(tmp_path: Path, console: Console) -> None:
    assert [advice.setting for advice in tune(embedded(tmp_path, value_bytes=200), console)] == ["front_ttl"]
    assert "compress_above was not tried: no value has more than 256 bytes" in console.export_text()


def test_without_the_library_compression_is_left_out_and_the_cure_is_named(
    tmp_path: Path, console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "zstandard", None)
    _zstd._library.cache_clear()
    try:
        found = tune(embedded(tmp_path), console)
    finally:
        _zstd._library.cache_clear()
    assert [advice.setting for advice in found] == ["front_ttl"]
    assert "compress_above was not tried" in (text := console.export_text())
    assert "pip install 'tiered-cache[zstd]'" in text
