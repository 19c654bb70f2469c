"""Throughput against callers: one card a scenario, contenders as lines."""

from __future__ import annotations

from typing import Final

from bench.groups import Setting, Spread, by_setting, counted, rates
from bench.record import Run, Sample
from bench.report._cards import Panel, card, grid, numbers, section
from bench.report._chart import BELOW, LEFT, RIGHT, TOP, Point, drawing, line, mark, plane, series, whisker
from bench.report._elements import Element
from bench.report._looks import Look, Looks
from bench.report._scales import Scale, choices, linear
from bench.units import NOTHING, rate

_CALLERS: Final = "callers"
_BOTTOM: Final = 310.0
_LEAD: Final = (
    "Operations a second as more callers ask at the same time: the median of the rounds, with their range as thin bars."
)

_Speeds = dict[float, Spread]


def throughput_section(run: Run, looks: Looks) -> Element | None:
    by_scenario: dict[str, list[Panel]] = {}
    for setting, contenders in by_setting(run.samples, without=_CALLERS).items():
        if (panel := _panel(setting, contenders, looks)) is not None:
            by_scenario.setdefault(setting.scenario, []).append(panel)
    if not by_scenario:
        return None
    cards = grid(card(scenario, panels) for scenario, panels in by_scenario.items())
    return section("throughput", "Throughput", _LEAD, cards)


def _panel(setting: Setting, contenders: dict[str, list[Sample]], looks: Looks) -> Panel | None:
    """None where all samples had one number of callers: there is nothing to draw against."""
    speeds = {name: found for name, samples in contenders.items() if (found := _speeds(samples))}
    callers = sorted({number for found in speeds.values() for number in found})
    if len(callers) < 2:
        return None
    rows: list[tuple[Look, list[Sample], list[str]]] = []
    for name, samples in contenders.items():
        found = speeds.get(name, {})
        cells = [rate(found[number].median) if number in found else NOTHING for number in callers]
        rows.append((looks[name], samples, cells))
    body = [
        throughput_chart(f"{setting.scenario}, {setting.title}", speeds, looks),
        numbers([f"{number:g}" for number in callers], rows),
    ]
    return Panel(setting, body, weight=len(speeds) + (0.5 if setting.mode == "closed" else 0))


def _speeds(samples: list[Sample]) -> _Speeds:
    """By number of callers."""
    by_callers: dict[float, list[Sample]] = {}
    for sample in counted(samples):
        callers = sample.params.get(_CALLERS)
        if isinstance(callers, int | float) and callers > 0:
            by_callers.setdefault(callers, []).append(sample)
    return {callers: found for callers, group in sorted(by_callers.items()) if (found := rates(group))}


def throughput_chart(title: str, speeds: dict[str, _Speeds], looks: Looks) -> Element:
    spreads = [spread for found in speeds.values() for spread in found.values()]
    x = choices((callers for found in speeds.values() for callers in found), LEFT, RIGHT)
    y = linear((spread.high for spread in spreads), _BOTTOM, TOP, rate)
    return drawing(
        _BOTTOM + BELOW,
        f"Throughput against callers: {title}",
        plane(x, y, "operations a second", "callers at the same time"),
        *(_series(looks[name], found, x, y) for name, found in speeds.items()),
    )


def _series(look: Look, speeds: _Speeds, x: Scale, y: Scale) -> Element:
    group = series(look, line([Point(x(callers), y(spread.median)) for callers, spread in speeds.items()]))
    for callers, spread in speeds.items():
        tip = f"{look.name}\n{callers:g} callers: {rate(spread.median)}"
        if spread.rounds > 1:
            group.append(whisker(x(callers), y(spread.low), y(spread.high)))
            tip += f"\n{spread.rounds} rounds: {rate(spread.low)} to {rate(spread.high)}"
        group.append(mark(look, Point(x(callers), y(spread.median)), tip))
    return group
