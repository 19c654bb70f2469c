from __future__ import annotations

from itertools import pairwise
from xml.etree.ElementTree import Element

import pytest

from bench.record import Run, Sample, Slice
from bench.report._faults import faults_section
from bench.report._latency import latency_section
from bench.report._looks import Looks
from bench.report._scales import choices, linear, logarithmic, share_of_slowest
from bench.report._stages import stages_section
from bench.report._throughput import throughput_section
from bench.units import digits, seconds
from tests.bench.runs import latency_of, make_run, make_sample, realistic_run


@pytest.fixture(scope="module")
def run() -> Run:
    return realistic_run(rounds=2, operations=200)


def looks_of(run: Run) -> Looks:
    return Looks(sample.contender for sample in run.samples)


def of_class(node: Element | None, name: str) -> list[Element]:
    assert node is not None
    return [found for found in node.iter() if name in (found.get("class") or "").split()]


def tips(node: Element | None) -> list[str]:
    assert node is not None
    found = [part.get("data-tip") for part in node.iter() if part.get("data-tip")]
    return [(tip or "").replace("\u202f", " ") for tip in found]


def cards(section: Element | None) -> dict[str, Element]:
    return {card.findtext("h3") or "": card for card in of_class(section, "card")}


# --- latency ---


def test_latency_has_a_card_a_scenario_and_a_line_a_contender(run: Run) -> None:
    found = cards(latency_section(run, looks_of(run)))
    assert list(found) == ["hit-front", "zipf", "write", "degraded"]
    assert [len(of_class(card, "panel")) for card in found.values()] == [4, 3, 1, 1]
    panels = of_class(found["hit-front"], "panel")
    assert [len(of_class(panel, "series")) for panel in panels] == [10] * 4
    assert all(len(series.findall("path")) == 1 for panel in panels for series in of_class(panel, "series"))


def test_rounds_are_merged_not_averaged() -> None:
    # Nine of ten operations took 1 ms, all slow ones fell into the second round: no mean of two p50 or p99 says so.
    samples = [
        make_sample(latency=latency_of([0.001] * 800)),
        make_sample(round=2, latency=latency_of([0.001] * 100 + [0.1] * 100)),
    ]
    run = make_run(samples)
    said = tips(latency_section(run, looks_of(run)))
    contender = samples[0].contender
    assert f"{contender}\np50 1 ms\nrounds: 1 ms to 1 ms\n1 000 operations" in said
    assert f"{contender}\np90 1 ms\nrounds: 1 ms to 100 ms\n1 000 operations" in said
    assert f"{contender}\np99 100 ms\nrounds: 1 ms to 100 ms\n1 000 operations" in said


def test_a_percentile_that_too_few_operations_speak_for_is_not_marked() -> None:
    run = make_run([make_sample(latency=latency_of([0.001] * 150))])
    marked = [tip.split("\n")[1].split()[0] for tip in tips(latency_section(run, looks_of(run)))]
    assert marked == ["p50", "p90", "p99", "max"]


def test_refused_samples_are_not_drawn_but_named() -> None:
    run = make_run([make_sample(), make_sample(contender="other", refused="no server")])
    section = latency_section(run, looks_of(run))
    assert len(of_class(section, "series")) == 1
    assert [note.text for note in of_class(section, "warn")] == ["⚠ refused: no server"]


def test_what_was_achieved_is_shown_against_what_was_offered() -> None:
    run = make_run([make_sample(mode="open", offered=1000.0, achieved=930.0)])
    (row,) = (table.findall("tbody/tr") for table in of_class(latency_section(run, looks_of(run)), "numbers"))
    assert row[0].findtext("td") == "93 % of 1 k/s"


def test_a_sample_without_a_histogram_has_no_curve() -> None:
    run = make_run([make_sample(latency=None, operations=0)])
    assert latency_section(run, looks_of(run)) is None


# --- throughput ---


def test_throughput_is_the_median_of_the_rounds_by_callers() -> None:
    rounds = [(1, 100.0), (1, 140.0), (1, 110.0), (64, 5000.0), (64, 4000.0), (64, 4100.0)]
    samples = [
        make_sample(round=i % 3, params={"callers": callers}, achieved=speed)
        for i, (callers, speed) in enumerate(rounds)
    ]
    run = make_run(samples)
    contender = samples[0].contender
    section = throughput_section(run, looks_of(run))
    assert tips(section) == [
        f"{contender}\n1 callers: 110/s\n3 rounds: 100/s to 140/s",
        f"{contender}\n64 callers: 4.1 k/s\n3 rounds: 4 k/s to 5 k/s",
    ]
    assert len(of_class(section, "whisker")) == 2


def test_throughput_keeps_other_settings_apart() -> None:
    samples = [make_sample(params={"callers": c, "batch": b}) for c in (1, 64) for b in (1, 16)]
    run = make_run(samples)
    assert [h.text for h in (throughput_section(run, looks_of(run)) or Element("p")).iter("h4")] == [
        "closed loop · batch of 1",
        "closed loop · batch of 16",
    ]


def test_one_number_of_callers_is_no_chart() -> None:
    run = make_run([make_sample(), make_sample(round=2)])
    assert throughput_section(run, looks_of(run)) is None


# --- faults ---


def _faulty(timeline: list[Slice], **changes: object) -> Sample:
    events = {"front frozen": 1.0, "front back": 2.0}
    return make_sample(seconds=float(len(timeline)), timeline=timeline, events=events, **changes)


def test_a_time_line_shows_four_measures_and_the_events() -> None:
    timeline = [
        Slice(0.0, 100, 0, 1600, 0.001, 0.002),
        Slice(1.0, 7, 7, 0, 0.0, 0.0),
        Slice(2.0, 50, 0, 400, 0.001, 0.004),
        Slice(3.0, 80, 0, 1280, 0.001, 0.004),
    ]
    run = make_run([_faulty(timeline, params={"callers": 64.0, "batch": 16.0}, contender="x")])
    section = faults_section(run, looks_of(run))
    said = list(dict.fromkeys(tips(section)))
    assert said == [
        "x\nat 0.5 s: 100/s, p99 2 ms\nerrors 0/s\nhits 100.0 %",
        "x\nat 1.5 s: 0/s, nothing came back\nerrors 7/s\nhits 0.0 %",
        "x\nat 2.5 s: 50/s, p99 4 ms\nerrors 0/s\nhits 50.0 %",
        "x\nat 3.5 s: 80/s, p99 4 ms\nerrors 0/s\nhits 100.0 %",
    ]
    assert [(mark.tag, mark.text) for mark in of_class(section, "event")] == [
        ("line", None),
        ("line", None),
        ("text", "front frozen"),
        ("text", "front back"),
    ]
    # All run through but p99, which has only two neighbouring values, after the gap.
    strong = [path for path in of_class(section, "line") if path.tag == "path"]
    assert [path.get("d", "").count("L") for path in strong] == [3, 1, 3, 3]


def test_the_middle_round_is_strong_and_the_others_faint() -> None:
    samples = [_faulty([Slice(float(i), n, 0, n, 0.1, 0.1) for i in range(3)], operations=n) for n in (10, 30, 20)]
    run = make_run(samples)
    section = faults_section(run, looks_of(run))
    faint, strong = of_class(section, "series")
    assert "faint" in (faint.get("class") or "")
    assert len(faint.findall("path")) == 8
    assert {tip.split()[-9] for tip in tips(strong)} == {"20/s,"}


def test_a_stretch_in_which_nothing_was_due_is_no_answers_a_second() -> None:
    timeline = [Slice(at, 100, 0, 100, 0.1, 0.1) for at in (0.0, 1.0, 2.0, 5.0, 6.0)]
    run = make_run([make_sample(contender="x", seconds=7.0, timeline=timeline, events={"x": 1.0})])
    section = faults_section(run, looks_of(run))
    assert [tip.split("\n")[1] for tip in dict.fromkeys(tips(section))][2:6] == [
        "at 2.5 s: 100/s, p99 100 ms",
        "at 3.5 s: 0/s, nothing came back",
        "at 4.5 s: 0/s, nothing came back",
        "at 5.5 s: 100/s, p99 100 ms",
    ]


def test_each_fault_has_a_card_of_its_own() -> None:
    timeline = [Slice(float(i), 100, 0, 100, 0.1, 0.1) for i in range(3)]
    run = make_run([_faulty(timeline, params={"fault": fault, "callers": 0}) for fault in ("front dead", "slow store")])
    section = faults_section(run, looks_of(run))
    assert section is not None
    assert [title.text for title in section.iter("h4")] == [
        "closed loop · fault front dead",
        "closed loop · fault slow store",
    ]


def test_a_last_slice_that_is_cut_short_is_no_peak() -> None:
    timeline = [Slice(float(i), 100, 0, 100, 0.1, 0.1) for i in range(3)] + [Slice(3.0, 5, 0, 5, 0.1, 0.1)]
    sample = make_sample(seconds=3.001, timeline=timeline, events={"x": 1.0})
    assert "10/s" in tips(faults_section(make_run([sample]), looks_of(make_run([sample]))))[-1]


def test_a_time_line_without_events_is_none_through_a_fault() -> None:
    run = make_run([make_sample(timeline=[Slice(float(i), 1, 0, 1, 0.1, 0.1) for i in range(3)])])
    assert faults_section(run, looks_of(run)) is None


# --- stages ---


def test_stages_are_stacked_in_proportion() -> None:
    stages = {"key": 10e-6, "front": 60e-6, "decode": 30e-6}
    rounds = [{name: value * factor for name, value in stages.items()} for factor in (1.0, 5.0, 0.5)]
    run = make_run([make_sample(contender="x", round=i, stages=spent) for i, spent in enumerate(rounds)])
    section = stages_section(run, looks_of(run))
    bars = of_class(section, "stage")
    widths = [float(bar.get("width") or 0) for bar in bars]
    assert [width / sum(widths) for width in widths] == pytest.approx([0.1, 0.6, 0.3], abs=1e-3)
    assert tips(section)[1] == "x\nfront 60 µs, 60 % of 100 µs"
    ends = [float(bar.get("x") or 0) + width for bar, width in zip(bars, widths, strict=True)]
    assert [float(bar.get("x") or 0) for bar in bars[1:]] == pytest.approx(ends[:-1], abs=0.02)


# --- axes ---


@pytest.mark.parametrize("top", [0.0, 0.7, 1.0, 9.0, 10.0, 10.1, 43_000.0, 1e6])
def test_a_linear_axis_starts_at_zero_and_ends_above_the_values(top: float) -> None:
    scale = linear([top], 300.0, 0.0, digits)
    assert scale(0.0) == 300.0
    assert 0.0 <= scale(top) <= 300.0
    assert scale.ticks[0].at == 0
    assert scale.high >= top
    assert 3 <= len(scale.ticks) <= 6


@pytest.mark.parametrize("values", [[1e-6, 60.0], [0.001, 0.001], [0.0, 0.5], [0.0021, 0.0019], [], [5e-5, 1.0]])
@pytest.mark.parametrize("height", [96.0, 300.0])
def test_a_log_axis_holds_its_values_and_its_labels_have_room(values: list[float], height: float) -> None:
    scale = logarithmic(values, height, 0.0)
    assert all(0.0 <= scale(value) <= height for value in values)
    labelled = [scale(tick.at) for tick in scale.ticks if tick.label]
    assert len(labelled) >= 2
    assert all(before - after >= 17 for before, after in pairwise(labelled))


def test_every_nine_takes_the_same_room() -> None:
    scale = share_of_slowest(10_000, 0.0, 400.0)
    assert [scale(1 / (1 - share)) for share in (0, 0.9, 0.99, 0.999)] == pytest.approx([0, 100, 200, 300])
    assert [tick.label for tick in scale.ticks] == ["min", "p50", "p90", "p99", "p99.9", "p99.99"]


def test_given_choices_have_a_tick_each_in_order() -> None:
    scale = choices([64, 1, 16, 1], 0.0, 100.0)
    assert [tick.label for tick in scale.ticks] == ["1", "16", "64"]
    assert 0 < scale(1) < scale(16) < scale(64) < 100


def test_seconds_have_a_readable_unit() -> None:
    assert [seconds(value) for value in (0, 4e-7, 1.76e-4, 0.0009999, 0.00123, 0.95, 95)] == [
        "0 s",
        "0.4 µs",
        "176 µs",
        "1 ms",
        "1.23 ms",
        "950 ms",
        "95 s",
    ]


def test_a_choice_of_settings_names_what_differs() -> None:
    params = [{"callers": 64, "zipf": zipf, "churn": 0.01, "value_bytes": 2000} for zipf in (0.8, 1.2)]
    run = make_run([make_sample(params=one) for one in params])
    section = latency_section(run, looks_of(run))
    assert section is not None
    assert [option.text for option in section.iter("option")] == ["zipf 0.8", "zipf 1.2"]
    assert [title.text for title in section.iter("h4")] == [
        f"closed loop · 64 callers · churn 0.01 · 2 kB value · zipf {zipf}" for zipf in (0.8, 1.2)
    ]


def test_a_line_passes_through_its_marks_and_those_are_in_proportion() -> None:
    rounds = {1: [900.0, 1000.0, 1800.0], 16: [3900.0, 4000.0, 4050.0], 64: [100.0, 2000.0, 2200.0]}
    run = make_run(
        [make_sample(params={"callers": n}, achieved=speed) for n, found in rounds.items() for speed in found]
    )
    (series,) = of_class(throughput_section(run, looks_of(run)), "series")
    places = [(float(mark.get("data-x", 0)), float(mark.get("data-y", 0))) for mark in of_class(series, "mark")]
    path = series.find("path")
    assert path is not None
    assert path.get("d") == "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in places)
    assert (places[0][1] - places[2][1]) / (places[2][1] - places[1][1]) == pytest.approx(0.5, abs=0.01)
    lengths = [float(w.get("y1", 0)) - float(w.get("y2", 0)) for w in of_class(series, "whisker")]
    assert lengths[0] / lengths[2] == pytest.approx(900 / 2100, abs=0.01)
