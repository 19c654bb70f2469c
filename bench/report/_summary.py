"""The head of the page: what was run where, what went wrong, and the figures."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import datetime
from typing import Final

from bench.record import Figure, Run, Sample
from bench.report._cards import errors_by_name, section, toggle, trouble
from bench.report._elements import Element, add, element
from bench.report._looks import Looks
from bench.units import digits, with_unit

_STRIP_WIDTH: Final = 160.0
_STRIP_HEIGHT: Final = 24.0


def heading(run: Run) -> Element:
    refused = sum(bool(sample.refused) for sample in run.samples)
    reached = sum(figure.reached for figure in run.figures)
    line = [
        f"{_date(run.started)}",
        f"profile {run.profile}",
        f"{run.rounds} round{'s' * (run.rounds != 1)}",
        f"{_duration(run.seconds)}",
        f"{digits(len(run.samples))} sample{'s' * (len(run.samples) != 1)}" + (f", {refused} refused" * bool(refused)),
    ]
    score = f"{reached} of {len(run.figures)} figures reached" if run.figures else None
    return element(
        "header",
        element("h1", "Benchmark report"),
        element("p", " · ".join(line), class_="when"),
        element("p", score, class_=f"score {'good' if reached == len(run.figures) else 'bad'}") if score else None,
    )


def _date(started: str) -> str:
    try:
        return f"{datetime.fromisoformat(started):%-d %B %Y, %H:%M %Z}".strip()
    except ValueError:
        return started


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"


def summary_section(run: Run, looks: Looks) -> Element:
    facts = element(
        "div",
        *(_facts(title, held) for title, held in _tables(run).items() if held),
        class_="facts",
    )
    lead = "Ratios within one run matter; absolute numbers are this machine's."
    return section("summary", "Summary", lead, _troubles(run, looks), facts)


def _tables(run: Run) -> dict[str, Mapping[str, str]]:
    return {"Machine": run.machine, "Tiers": run.tiers, "Versions": run.versions}


def _facts(title: str, held: Mapping[str, str]) -> Element:
    rows = (element("div", element("dt", name), element("dd", value)) for name, value in held.items())
    return element("div", element("h3", title), element("dl", *rows))


def _troubles(run: Run, looks: Looks) -> Element:
    if not run.samples:
        return element("p", "This run holds no samples.", class_="calm")
    lost = sum(sample.lost for sample in run.samples)
    errors = sum(errors_by_name(run.samples).values())
    refused = sum(bool(sample.refused) for sample in run.samples)
    if not lost + errors + refused:
        return element("p", "✓ No lost hits, no errors, no refused samples.", class_="calm")
    said = f"{digits(lost)} hits lost, {digits(errors)} errors, {digits(refused)} samples refused"
    return element("div", element("h3", said), _by_contender(run, looks), class_="alarm", role="note")


def _by_contender(run: Run, looks: Looks) -> Element:
    """Those that lost most hits come first."""
    found: dict[str, dict[str, list[Sample]]] = {}
    for sample in run.samples:
        found.setdefault(sample.contender, {}).setdefault(sample.scenario, []).append(sample)
    by_lost = sorted(found, key=lambda name: -sum(s.lost for samples in found[name].values() for s in samples))
    lines = element("ul")
    for name in by_lost:
        notes = [
            element("div", element("b", scenario), note)
            for scenario, samples in found[name].items()
            if (note := trouble(samples)) is not None
        ]
        if notes:
            add(lines, element("li", looks[name].key(), element("div", *notes)))
    return lines


def figures_section(run: Run) -> Element | None:
    if not run.figures:
        return None
    head = element("tr", *(element("th", name, scope="col") for name in ("", "Figure", "Value", "Goal", "Rounds", "")))
    body = element("tbody", *(_figure(figure) for figure in run.figures))
    table = element("table", element("thead", head), body, class_="figures")
    lead = "Medians of the rounds, with the lowest and the highest. The small bar holds them against the goal."
    return section("figures", "Figures", lead, element("div", table, class_="scroll", tabindex=0))


def _figure(figure: Figure) -> Element:
    goal = f"{'at least' if figure.above else 'at most'} {with_unit(figure.goal, figure.unit)}"
    between = f"{with_unit(figure.low, figure.unit)} to {with_unit(figure.high, figure.unit)}"
    name = element("th", figure.name, element("small", figure.note) if figure.note else None, scope="row")
    mark = "✓ reached" if figure.reached else "✗ not reached"
    return element(
        "tr",
        element("td", element("span", mark, class_="verdict")),
        name,
        element("td", with_unit(figure.value, figure.unit), class_="value"),
        element("td", goal),
        element("td", between),
        element("td", figure_strip(figure)),
        class_="good" if figure.reached else "bad",
    )


def figure_strip(figure: Figure) -> Element | None:
    """The range of the rounds and the median, beside the goal; the side that is aimed at is shaded.

    None for what cannot be drawn, such as a ratio to nothing.
    """
    values = [figure.low, figure.high, figure.value, figure.goal]
    if not all(map(math.isfinite, values)):
        return None
    log = min(values) > 0
    places = [math.log(value) if log else value for value in values]
    low, high = min(places), max(places)
    margin = (high - low) * 0.15 or 1.0
    low, high = low - margin, high + margin
    from_x, to_x, x, goal = ((place - low) / (high - low) * _STRIP_WIDTH for place in places)
    shade_x, shade_width = (goal, _STRIP_WIDTH - goal) if figure.above else (0.0, goal)
    middle = _STRIP_HEIGHT / 2
    return element(
        "svg",
        element("rect", x=shade_x, y=3, width=shade_width, height=_STRIP_HEIGHT - 6, class_="aim"),
        element("line", x1=goal, x2=goal, y1=0, y2=_STRIP_HEIGHT, class_="goal"),
        element("line", x1=from_x, x2=to_x, y1=middle, y2=middle, class_="range"),
        element("circle", cx=x, cy=middle, r=4.5, class_="dot"),
        class_="strip",
        viewBox=f"0 0 {_STRIP_WIDTH:g} {_STRIP_HEIGHT:g}",
        aria_hidden="true",
    )


def legend(looks: Looks) -> Element | None:
    """Shows and hides contenders in all charts at once."""
    buttons = [element("button", look.key(), **toggle(look)) for look in looks]
    if not buttons:
        return None
    every = element("button", "Show all", type="button", class_="all", data_all="")
    return element("div", *buttons, every, class_="legend", role="group", aria_label="Contenders shown in the charts")
