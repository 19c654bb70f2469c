"""Parts that all line charts are made of. Places are in units of the chart's own width, which is always the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from bench.report._elements import Child, Element, add, element
from bench.report._looks import Look
from bench.report._scales import Scale

WIDTH: Final = 600.0
LEFT: Final = 74.0
RIGHT: Final = WIDTH - 16.0
TOP: Final = 30.0
BELOW: Final = 56.0  # room for the labels and the title of the x axis


@dataclass(frozen=True, slots=True)
class Point:
    x: float
    y: float


def drawing(height: float, description: str, *children: Child) -> Element:
    """The arrow keys walk through the marks of a drawing that has the focus (page.js)."""
    return element(
        "svg",
        *children,
        class_="chart",
        viewBox=f"0 0 {WIDTH:g} {height:g}",
        role="img",
        aria_label=description,
        tabindex=0,
    )


def plane(x: Scale, y: Scale, y_title: str, x_title: str = "") -> Element:
    """Grid, tick labels and titles. Without a title of its own, the x axis has no labels either."""
    group = element("g", class_="plane", aria_hidden="true")
    for tick in y.ticks:
        place = y(tick.at)
        add(group, element("line", x1=x.start, x2=x.end, y1=place, y2=place, class_=_grid(tick.minor)))
        add(group, _label(tick.label, x.start - 8, place + 4.5, "end", tick.minor))
    for tick in x.ticks:
        place = x(tick.at)
        add(group, element("line", x1=place, x2=place, y1=y.start, y2=y.end, class_=_grid(tick.minor)))
        if x_title:
            add(group, _label(tick.label, place, y.start + 24, "middle", tick.minor))
    add(group, element("text", y_title, x=2, y=y.end - 14, class_="axis"))
    if x_title:
        add(group, element("text", x_title, x=x.end, y=y.start + 48, class_="axis", text_anchor="end"))
    return group


def _grid(minor: bool) -> str:
    return "grid minor" if minor else "grid"


def _label(text: str, x: float, y: float, text_anchor: str, minor: bool) -> Element | None:
    if not text:
        return None
    return element("text", text, x=x, y=y, text_anchor=text_anchor, class_="tick minor" if minor else "tick")


def series(look: Look, *children: Child, faint: bool = False) -> Element:
    """All that is drawn for one contender: what its legend shows and hides."""
    classes = f"series {look.classes}{' faint' if faint else ''}"
    return element("g", *children, class_=classes, data_contender=str(look.index))


def line(points: Sequence[Point]) -> Element | None:
    if len(points) < 2:
        return None
    places = "L".join(f"{point.x:.1f} {point.y:.1f}" for point in points)
    return element("path", d=f"M{places}", class_="line")


def mark(look: Look, place: Point, tip: str) -> Element:
    """A place on a line that can be asked for its values."""
    return look.shape(place.x, place.y, class_="mark", data_tip=tip, data_x=place.x, data_y=place.y)


def whisker(x: float, low: float, high: float) -> Element:
    """The spread of the rounds."""
    return element("line", x1=x, x2=x, y1=low, y2=high, class_="whisker")
