from __future__ import annotations

import io
import re
from collections.abc import Sequence

import pytest
from rich.console import Console

from bench.compare import changes, compare
from bench.record import Latency, Run, Sample
from tests.bench.runs import make_figure, make_run, make_sample, realistic_run


def printed(a: Run, b: Run, width: int = 140) -> str:
    console = Console(file=io.StringIO(), width=width, color_system=None)
    compare(a, b, console)
    assert isinstance(console.file, io.StringIO)
    return "\n".join(line.rstrip() for line in console.file.getvalue().replace("\u202f", " ").splitlines())


def lines(text: str, *words: str) -> list[list[str]]:
    """The cells of the lines that hold all the words."""
    return [re.split(r" {2,}", line.strip()) for line in text.splitlines() if all(word in line for word in words)]


def rounds(speeds: Sequence[float], slowest: Sequence[float] = ()) -> list[Sample]:
    """Of these rates, and of these p99 where they are given."""
    latencies = [Latency(p99 / 2, p99, p99, p99, p99, "") for p99 in slowest] or [None] * len(speeds)
    return [
        make_sample(round=i, achieved=speed, latency=latency)
        for i, (speed, latency) in enumerate(zip(speeds, latencies, strict=True))
    ]


@pytest.mark.parametrize(
    ("a", "b", "verdict", "ratio"),
    [
        ([90, 100, 110], [95, 110, 111], "within the spread", 1.1),
        ([90, 100, 110], [119, 120, 121], "within the spread", 1.2),  # no further apart than the rounds of A
        ([99, 100, 101], [110, 120, 130], "within the spread", 1.2),  # nor than those of B
        ([90, 100, 110], [120, 121, 122], "faster", 1.21),
        ([90, 100, 110], [70, 79, 80], "slower", 0.79),
        ([100, 100, 100], [100, 100, 100], "within the spread", 1.0),
        ([100], [300], "no spread", 3.0),
        ([100, 101], [300], "no spread", 300 / 100.5),
        ([0, 0], [5, 5], "faster", None),
    ],
)
def test_a_rate_differs_where_it_exceeds_the_spread(
    a: list[float], b: list[float], verdict: str, ratio: float | None
) -> None:
    change = changes(rounds(a), rounds(b))[0]
    assert (change.measure, change.verdict) == ("rate", verdict)
    assert change.ratio == (None if ratio is None else pytest.approx(ratio))


def test_more_latency_is_slower() -> None:
    found = changes(rounds([1, 1], [0.010, 0.011]), rounds([1, 1], [0.020, 0.021]))
    assert {change.measure: change.verdict for change in found} == {
        "rate": "within the spread",
        "p50": "slower",
        "p99": "slower",
    }
    back = changes(rounds([1, 1], [0.020, 0.021]), rounds([1, 1], [0.010, 0.011]))
    assert [change.verdict for change in back] == ["within the spread", "faster", "faster"]


def test_refused_rounds_do_not_count() -> None:
    refused = make_sample(round=9, achieved=1.0, refused="the generator lagged")
    change = changes(rounds([100, 101]), [*rounds([200, 201]), refused])[0]
    assert (change.b and change.b.median) == 200.5
    text = printed(make_run(rounds([100, 101])), make_run([*rounds([200, 201]), refused]))
    assert lines(text, "refused in B") == [["refused in B: the generator lagged"]]
    assert lines(text, "refused ", " of ") == [["refused", "0 of 2", "1 of 3", "new"]]


def test_matches_by_scenario_contender_mode_and_params() -> None:
    a = [make_sample(achieved=1000.0), make_sample(achieved=2000.0, params={"callers": 1.0})]
    b = [
        make_sample(achieved=4000.0, params={"value_bytes": 2000.0, "batch": 1.0, "callers": 64.0}),  # another order
        make_sample(achieved=5000.0, mode="open"),
        make_sample(achieved=6000.0, contender="other"),
        make_sample(achieved=7000.0, scenario="miss"),
    ]
    text = printed(make_run(a), make_run(b))
    found = [cells[-4:] for cells in lines(text, " rate ")]
    assert sorted(found) == sorted(
        [
            ["1 k/s", "4 k/s", "4.00", "no spread"],
            ["\u2013", "6 k/s", "\u2013", "only in B"],
            ["2 k/s", "\u2013", "\u2013", "only in A"],
            ["\u2013", "5 k/s", "\u2013", "only in B"],
            ["\u2013", "7 k/s", "\u2013", "only in B"],
        ]
    )


def test_lost_hits_and_errors_are_counted_over_all_rounds() -> None:
    a = [make_sample(round=1), make_sample(round=2, lost=3)]
    b = [make_sample(round=1, lost=700), make_sample(round=2, lost=20, errors={"TimeoutError": 2})]
    text = printed(make_run(a), make_run(b))
    assert lines(text, "lost hits") == [["lost hits", "3 of 4 000", "720 of 4 000", "more"]]
    assert lines(text, "errors") == [["errors", "0 of 4 000", "2 of 4 000", "new"]]
    assert lines(printed(make_run(b), make_run(a)), "errors")[0][-1] == "gone"


def test_another_offered_load_is_said() -> None:
    a, b = (make_run([make_sample(mode="open", offered=offered)]) for offered in (500.0, 900.0))
    assert "other loads were offered: 500/s -> 900/s" in printed(a, b)
    assert "other loads" not in printed(a, a)


def test_other_machines_versions_and_tiers_are_said_plainly() -> None:
    a = make_run([make_sample()])
    b = make_run(
        [make_sample()],
        machine={**a.machine, "cpu": "[bold]Other", "disk": "new"},
        versions={"python": "3.13.0", **{k: v for k, v in a.versions.items() if k != "python"}},
        tiers={},
        profile="short",
    )
    text = printed(a, b)
    assert "The machines differ: ratios between the runs are not those of the code alone." in text
    assert "cpu: AMD EPYC 7B13 -> [bold]Other" in text
    assert "disk: not in A -> new" in text
    assert "The versions differ." in text
    assert "python: 3.11.7 -> 3.13.0" in text
    assert "The tiers differ" in text
    assert "front: redis://localhost:6379/0 -> not in B" in text
    assert "profile: full -> short" in text
    assert "0.32.0" not in text
    assert "differ" not in printed(a, a)


def test_figures_stand_side_by_side() -> None:
    a = [
        make_figure(name="more", value=10.0, goal=9.0, low=9.9, high=10.1),
        make_figure(name="less", value=1.2, goal=1.3, above=False, low=1.1, high=1.3),
        make_figure(name="near", value=10.0, low=9.0, high=11.0),
        make_figure(name="old"),
    ]
    b = [
        make_figure(name="more", value=8.0, goal=9.0, low=7.9, high=8.1),
        make_figure(name="less", value=0.6, goal=1.3, above=False, low=0.5, high=0.7),
        make_figure(name="near", value=11.0, low=10.9, high=11.1),
        make_figure(name="new"),
    ]
    text = printed(make_run(figures=a), make_run(figures=b))
    assert lines(text, "more") == [["more", "at least 9\u00d7", "10\u00d7 ✓", "8\u00d7 ✗", "0.80", "worse"]]
    assert lines(text, "less")[0][-2:] == ["0.50", "better"]
    assert lines(text, "near")[0][-2:] == ["1.10", "within the spread"]
    assert lines(text, "old")[0][-1] == "only in A"
    assert lines(text, "new")[0][-1] == "only in B"


def test_names_are_no_markup_for_the_terminal() -> None:
    run = make_run([make_sample(contender="[red]x[/]", scenario="[b]y", refused="[/nothing]")])
    text = printed(run, run)
    assert "[red]x[/]" in text
    assert "[b]y" in text
    assert "[/nothing]" in text


def test_a_run_compared_with_itself_has_no_difference() -> None:
    run = realistic_run(rounds=3, operations=100)
    text = printed(run, run)
    assert text.endswith(" within the spread")
    for word in ("faster", "slower", "only in", "differ", "better", "worse"):
        assert word not in text


def test_empty_runs_have_nothing_to_compare() -> None:
    assert printed(make_run(), make_run()).endswith("No samples to compare.")
