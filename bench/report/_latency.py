"""Latency curves: one card a scenario, contenders as lines."""

from __future__ import annotations

from typing import Final

from bench.groups import Setting, Spread, by_setting, counted, percentiles, rates
from bench.record import Run, Sample
from bench.report._cards import Panel, card, grid, numbers, section
from bench.report._chart import BELOW, LEFT, RIGHT, TOP, Point, drawing, line, mark, plane, series, whisker
from bench.report._distribution import Distribution
from bench.report._elements import Element
from bench.report._looks import Look, Looks
from bench.report._scales import Scale, logarithmic, share_of_slowest
from bench.units import NOTHING, digits, rate, seconds

_BOTTOM: Final = 330.0
_STEPS_A_NINE: Final = 16
#: What is marked on a curve, with the field that holds it for each round.
_MARKED: Final = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p999": 0.999, "max": 1.0}
_SHOWN: Final = {"p50": 0.5, "p99": 0.99, "p99.9": 0.999, "Max": 1.0}
_LEAD: Final = (
    "How long operations took, from the moment each was due. Each step to the right is one more nine: the further "
    "right a line stays low, the fewer callers wait. Rounds are merged exactly; thin bars are the range of the rounds."
)


def latency_section(run: Run, looks: Looks) -> Element | None:
    by_scenario: dict[str, list[Panel]] = {}
    for setting, contenders in by_setting(run.samples).items():
        if (panel := _panel(setting, contenders, looks)) is not None:
            by_scenario.setdefault(setting.scenario, []).append(panel)
    if not by_scenario:
        return None
    cards = grid(card(scenario, panels) for scenario, panels in by_scenario.items())
    return section("latency", "Latency", _LEAD, cards)


def _panel(setting: Setting, contenders: dict[str, list[Sample]], looks: Looks) -> Panel | None:
    curves = {name: found for name, samples in contenders.items() if (found := Distribution.of(counted(samples)))}
    if not curves:
        return None
    rows = [(looks[name], samples, _row(samples, curves.get(name))) for name, samples in contenders.items()]
    body = [
        latency_chart(f"{setting.scenario}, {setting.title}", contenders, curves, looks),
        numbers(["Rate", *_SHOWN], rows),
    ]
    # Of two equally full panels the open loop is the one without coordinated omission.
    return Panel(setting, body, weight=len(curves) + (0.5 if setting.mode == "open" else 0))


def _row(samples: list[Sample], curve: Distribution | None) -> list[str]:
    values = [seconds(value) for value in curve.at(list(_SHOWN.values()))] if curve else [NOTHING] * len(_SHOWN)
    return [_speed(counted(samples)), *values]


def _speed(samples: list[Sample]) -> str:
    """Operations a second; where a rate was offered, the share of it that was achieved."""
    speed = rates(samples)
    offered = Spread.of([sample.offered for sample in samples if sample.offered])
    if speed is None or offered is None:
        return rate(speed.median) if speed else NOTHING
    return f"{100 * speed.median / offered.median:.0f} % of {rate(offered.median)}"


def latency_chart(
    title: str, contenders: dict[str, list[Sample]], curves: dict[str, Distribution], looks: Looks
) -> Element:
    """`curves` holds the merged rounds of those contenders that have any latency."""
    x = share_of_slowest(max(curve.operations for curve in curves.values()), LEFT, RIGHT)
    drawn = {name: _curve(curve) for name, curve in curves.items()}
    y = logarithmic((value for points in drawn.values() for _, value in points), _BOTTOM, TOP)
    lines = [_series(looks[name], points, contenders[name], curves[name], x, y) for name, points in drawn.items()]
    return drawing(
        _BOTTOM + BELOW,
        f"Latency by percentile: {title}",
        plane(x, y, "latency", "share of operations that were at least as fast"),
        *lines,
    )


def _curve(distribution: Distribution) -> list[tuple[float, float]]:
    """Pairs of 1/(1-q) and seconds, up to the one slowest operation."""
    slowest = float(distribution.operations)
    places: list[float] = []
    while (place := 10 ** (len(places) / _STEPS_A_NINE)) < slowest:
        places.append(place)
    values = distribution.at([*(1 - 1 / place for place in places), 1.0])
    return list(zip([*places, slowest], values, strict=True))


def _series(
    look: Look, points: list[tuple[float, float]], samples: list[Sample], curve: Distribution, x: Scale, y: Scale
) -> Element:
    good = counted(samples)
    group = series(look, line([Point(x(place), y(value)) for place, value in points]))
    named = dict(zip(_MARKED, curve.at(list(_MARKED.values())), strict=True))
    for name, share in _MARKED.items():
        place = curve.operations if share == 1 else 1 / (1 - share)
        if place > curve.operations:
            continue  # too few operations to speak of this percentile
        across = x(place)
        spread = percentiles(good, name)
        if spread and spread.rounds > 1:
            group.append(whisker(across, y(spread.low), y(spread.high)))
        over = f"{digits(curve.operations)} operations"
        between = f"\nrounds: {seconds(spread.low)} to {seconds(spread.high)}" if spread and spread.rounds > 1 else ""
        label = "p99.9" if name == "p999" else name
        tip = f"{look.name}\n{label} {seconds(named[name])}{between}\n{over}"
        group.append(mark(look, Point(across, y(named[name])), tip))
    return group
