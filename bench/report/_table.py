"""All samples, sortable."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from bench.groups import params_in_words
from bench.record import Latency, Run, Sample
from bench.report._cards import errors_by_name, section
from bench.report._elements import Element, element
from bench.report._looks import Looks
from bench.units import NOTHING, digits, rate, seconds

_LEAD: Final = (
    "Every sample, those that do not count too, with the reason. Select a heading to sort by it. Lag is by how much "
    "the generator itself was late (p99); held is the longest time the event loop was held."
)


@dataclass(frozen=True, slots=True)
class _Column:
    title: str
    #: What is sorted by, None where there is nothing.
    value: Callable[[Sample], float | str | None]
    #: What is shown of a number.
    show: Callable[[float], str] = digits


def _latency(field: str) -> Callable[[Sample], float | None]:
    def value(sample: Sample) -> float | None:
        return None if sample.latency is None else float(getattr(sample.latency, field))

    return value


_TITLES: Final = {"p50": "p50", "p90": "p90", "p99": "p99", "p999": "p99.9", "max": "Max"}
assert _TITLES.keys() == Latency.__dataclass_fields__.keys() - {"histogram"}

_COLUMNS: Final = [
    _Column("Round", lambda sample: sample.round),
    _Column("Mode", lambda sample: sample.mode),
    _Column("Setting", lambda sample: ", ".join(params_in_words(sample.params))),
    _Column("Offered", lambda sample: sample.offered, rate),
    _Column("Achieved", lambda sample: sample.achieved, rate),
    *(_Column(title, _latency(field), seconds) for field, title in _TITLES.items()),
    _Column("Operations", lambda sample: sample.operations),
    _Column("Took", lambda sample: sample.seconds, seconds),
    _Column("Lag", lambda sample: sample.lag, seconds),
    _Column("Held", lambda sample: sample.loop_held, seconds),
]
_HEADINGS: Final = ["Contender", "Scenario", "State", "Lost", "Errors", *(column.title for column in _COLUMNS)]


def samples_section(run: Run, looks: Looks) -> Element | None:
    if not run.samples:
        return None
    head = element("tr", *(_heading(title, i) for i, title in enumerate(_HEADINGS)))
    body = element("tbody", *(_row(sample, looks) for sample in run.samples))
    table = element("table", element("thead", head), body, class_="samples", data_sortable="")
    search = element("input", type="search", id="filter", placeholder="scenario, contender, setting")
    only = element("input", type="checkbox", id="troubled")
    tools = element(
        "form",
        element("label", "Filter ", search),
        element("label", only, " only lost hits, errors and refused"),
        element("output", id="shown", aria_live="polite"),
        class_="tools",
    )
    return section("samples", "Samples", _LEAD, tools, element("div", table, class_="scroll tall", tabindex=0))


def _heading(title: str, column: int) -> Element:
    button = element("button", title, type="button", data_sort=str(column))
    return element("th", button, scope="col", aria_sort="none")


def _row(sample: Sample, looks: Looks) -> Element:
    errors = errors_by_name([sample])
    told = ", ".join(f"{digits(count)} {name}" for name, count in errors.items())
    troubled = bool(sample.refused or sample.lost or errors)
    classes = "refused" if sample.refused else "troubled" if troubled else None
    state = element("span", f"⚠ refused: {sample.refused}", class_="warn") if sample.refused else "counts"
    return element(
        "tr",
        element("th", looks[sample.contender].key(), scope="row", data_value=sample.contender),
        _cell(sample.scenario, sample.scenario),
        element("td", state, data_value=sample.refused),
        _count(sample.lost, f"✗ {digits(sample.lost)}"),
        _count(sum(errors.values()), f"✗ {told}"),
        *(_plain(column, sample) for column in _COLUMNS),
        class_=classes,
    )


def _plain(column: _Column, sample: Sample) -> Element:
    value = column.value(sample)
    return _cell(NOTHING if value is None else value if isinstance(value, str) else column.show(value), value)


def _cell(shown: str, value: float | str | None) -> Element:
    return element("td", shown, class_=None if isinstance(value, str) else "number", data_value=_sorted_by(value))


def _count(count: int, shown: str) -> Element:
    content = element("span", shown, class_="bad") if count else "0"
    return element("td", content, class_="number", data_value=str(count))


def _sorted_by(value: float | str | None) -> str:
    """Nothing sorts below everything."""
    return "-1" if value is None else value if isinstance(value, str) else repr(value)
