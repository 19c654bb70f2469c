"""Where the time of an operation goes: a stacked bar for each contender."""

from __future__ import annotations

from statistics import median
from typing import Final

from bench.groups import by_setting, counted
from bench.record import Run, Sample
from bench.report._cards import Panel, card, grid, numbers, section
from bench.report._chart import BELOW, LEFT, RIGHT, WIDTH, drawing
from bench.report._elements import Element, add, element
from bench.report._looks import Looks
from bench.report._scales import Scale, linear
from bench.units import NOTHING, seconds

_TONES: Final = 8
_LEFT: Final = 4.0
_ROW: Final = 66.0
_BAR: Final = 28.0
_LETTER: Final = 11.0
_LEAD: Final = "The median of the rounds for each stage of one operation. Shorter is better."


def stages_section(run: Run, looks: Looks) -> Element | None:
    tones = {name: i % _TONES for i, name in enumerate(dict.fromkeys(n for s in run.samples for n in s.stages))}
    by_scenario: dict[str, list[Panel]] = {}
    for setting, contenders in by_setting(counted(run.samples)).items():
        spent = {name: found for name, samples in contenders.items() if (found := _spent(samples))}
        if spent:
            chart = stages_chart(f"{setting.scenario}, {setting.title}", spent, tones, looks)
            stages = [name for name in tones if any(name in found for found in spent.values())]
            rows = [(looks[name], contenders[name], _row(found, stages)) for name, found in spent.items()]
            body = [chart, _legend(stages, tones), numbers(stages, rows)]
            by_scenario.setdefault(setting.scenario, []).append(Panel(setting, body, weight=len(spent)))
    if not by_scenario:
        return None
    cards = grid(card(scenario, panels) for scenario, panels in by_scenario.items())
    return section("stages", "Where the time goes", _LEAD, cards)


def _spent(samples: list[Sample]) -> dict[str, float]:
    names = dict.fromkeys(name for sample in samples for name in sample.stages)
    return {name: median(sample.stages[name] for sample in samples if name in sample.stages) for name in names}


def _row(spent: dict[str, float], stages: list[str]) -> list[str]:
    return [seconds(spent[stage]) if stage in spent else NOTHING for stage in stages]


def _legend(stages: list[str], tones: dict[str, int]) -> Element:
    return element(
        "p",
        *(element("span", element("i", class_=f"tone s{tones[name]}"), name) for name in stages),
        class_="tones",
    )


def stages_chart(title: str, spent: dict[str, dict[str, float]], tones: dict[str, int], looks: Looks) -> Element:
    """`spent` holds, for each contender, the seconds of each stage."""
    x = linear((sum(stages.values()) for stages in spent.values()), _LEFT, RIGHT - LEFT / 2, seconds)
    bottom = _ROW * len(spent) + 10
    grid_lines = element("g", class_="plane", aria_hidden="true")
    for tick in x.ticks:
        place = x(tick.at)
        anchor = "middle" if tick.at else "start"
        text = element("text", tick.label, x=place, y=bottom + 20, text_anchor=anchor, class_=_tick(tick.minor))
        add(grid_lines, element("line", x1=place, x2=place, y1=0, y2=bottom, class_="grid"), text)
    svg = drawing(bottom + BELOW - 26, f"Where the time goes: {title}", grid_lines)
    for row, (name, stages) in enumerate(spent.items()):
        look = looks[name]
        group = element("g", class_=f"bar {look.classes}", data_contender=str(look.index))
        top = row * _ROW + 10
        add(group, look.shape(_LEFT + 6, top + 8, class_="mark"))
        add(group, element("text", name, x=_LEFT + 20, y=top + 14, class_="name"))
        _stack(group, name, stages, tones, top + 22, x)
        add(svg, group)
    return svg


def _tick(minor: bool) -> str:
    return "tick minor" if minor else "tick"


def _stack(group: Element, name: str, stages: dict[str, float], tones: dict[str, int], y: float, x: Scale) -> None:
    total, done = sum(stages.values()), 0.0
    for stage, spent in stages.items():
        start, end = x(done), x(done + spent)
        done += spent
        tip = f"{name}\n{stage} {seconds(spent)}, {100 * spent / total:.0f} % of {seconds(total)}" if total else stage
        tone = f"tone s{tones[stage]}"
        middle = {"data_x": (start + end) / 2, "data_y": y + _BAR / 2}
        rect = element(
            "rect", x=start, y=y, width=end - start, height=_BAR, class_=f"{tone} stage", data_tip=tip, **middle
        )
        add(group, rect)
        if end - start > len(stage) * _LETTER + 8:
            label = element("text", stage, x=(start + end) / 2, y=y + 19, text_anchor="middle", class_=f"on {tone}")
            add(group, label)
    label = element("text", seconds(total), x=min(x(total) + 6, WIDTH - 4), y=y + 19, class_="total")
    add(group, label)
