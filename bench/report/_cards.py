"""Cards: a scenario with one panel for each setting in which it was run, and the table of numbers below a chart."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from bench.groups import Setting
from bench.record import Sample
from bench.report._elements import Child, Element, add, element
from bench.report._looks import Look
from bench.units import digits


@dataclass(frozen=True, slots=True)
class Panel:
    setting: Setting
    body: Sequence[Element]
    #: The panel that tells most is shown first.
    weight: float


def section(identity: str, title: str, lead: str, *children: Child) -> Element:
    return element("section", element("h2", title), element("p", lead, class_="lead"), *children, id=identity)


def grid(cards: Iterable[Element]) -> Element:
    return element("div", *cards, class_="cards")


def card(scenario: str, panels: Sequence[Panel]) -> Element:
    best = max(range(len(panels)), key=lambda i: panels[i].weight)
    article = element("article", element("h3", scenario), class_="card", data_card="")
    if len(panels) > 1:
        common = set[str].intersection(*(set(panel.setting.words) for panel in panels))
        choice = element("select")
        for i, panel in enumerate(panels):
            told = " · ".join(word for word in panel.setting.words if word not in common)
            add(choice, element("option", told, value=str(i), selected="" if i == best else None))
        add(article, element("label", "With ", choice, class_="setting"))
    for panel in panels:
        add(article, element("div", element("h4", panel.setting.title), *panel.body, class_="panel"))
    return article


def numbers(headings: Sequence[str], rows: Iterable[tuple[Look, Sequence[Sample], Sequence[str]]]) -> Element:
    """One row a contender: the legend of a chart, its values for those who cannot see it, and what went wrong."""
    head = element("tr", element("th", "Contender", scope="col"), *(element("th", h, scope="col") for h in headings))
    body = element("tbody")
    for look, samples, cells in rows:
        key = element("th", element("button", look.key(), **toggle(look)), scope="row")
        add(body, element("tr", key, *(element("td", cell) for cell in cells), data_contender=str(look.index)))
        if (notes := trouble(samples)) is not None:
            add(body, element("tr", element("td", notes, colspan=len(headings) + 1), class_="note"))
    return element("div", element("table", element("thead", head), body, class_="numbers"), class_="scroll", tabindex=0)


def toggle(look: Look) -> dict[str, str]:
    return {"type": "button", "class_": "toggle", "data_toggle": str(look.index), "aria_pressed": "true"}


def trouble(samples: Sequence[Sample]) -> Element | None:
    """What nobody may overlook: hits that were lost, errors, samples that do not count."""
    lost, errors = sum(sample.lost for sample in samples), errors_by_name(samples)
    refused = [sample.refused for sample in samples if sample.refused]
    notes = element("span", class_="troubles")
    if lost:
        add(notes, element("span", f"✗ {digits(lost)} hit{'s' * (lost > 1)} lost", class_="bad"))
    for name, count in errors.items():
        add(notes, element("span", f"✗ {digits(count)} {name}", class_="bad"))
    for reason in dict.fromkeys(refused):
        again = f" ({refused.count(reason)} of {len(samples)} samples)" if len(samples) > 1 else ""
        add(notes, element("span", f"⚠ refused{again}: {reason}", class_="warn"))
    return notes if len(notes) else None


def errors_by_name(samples: Iterable[Sample]) -> dict[str, int]:
    total: dict[str, int] = {}
    for sample in samples:
        for name, count in sample.errors.items():
            total[name] = total.get(name, 0) + count
    return total
