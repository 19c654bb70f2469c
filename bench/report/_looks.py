"""What a contender looks like: one colour, one shape and one dash in all charts of a page.

The colours themselves, light and dark, are in page.css. They were chosen so that eight can be told apart with any
common colour blindness; shapes and dashes tell them apart without any colour.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from bench.report._elements import Element, element

COLOURS: Final = 8
_DASHES: Final = 4
#: Corners and first angle in degrees of each shape; no corners are a circle. Seven, so that a colour that comes
#: round again has another shape.
_SHAPES: Final = ((0, 0), (4, 45), (3, -90), (4, 0), (3, 90), (6, 0), (5, -90))


@dataclass(frozen=True, slots=True)
class Look:
    name: str
    index: int

    @property
    def classes(self) -> str:
        return f"c{self.index % COLOURS} d{self.index // COLOURS % _DASHES}"

    def shape(self, x: float, y: float, radius: float = 4.5, **attributes: str | float | None) -> Element:
        corners, turn = _SHAPES[self.index % len(_SHAPES)]
        if not corners:
            return element("circle", cx=x, cy=y, r=radius, **attributes)
        radius *= 1 + 1 / corners  # so that all shapes seem to be of one size
        angles = [math.radians(turn + 360 * corner / corners) for corner in range(corners)]
        points = " ".join(f"{x + radius * math.cos(a):.2f},{y + radius * math.sin(a):.2f}" for a in angles)
        return element("polygon", points=points, **attributes)

    def key(self) -> Element:
        """A short piece of the contender's line with its name, to stand in a legend or a table."""
        line = element("line", x1=0, x2=26, y1=8, y2=8, class_="line")
        mark = self.shape(13, 8, class_="mark")
        swatch = element("svg", line, mark, class_="swatch", viewBox="0 0 26 16", aria_hidden="true")
        return element("span", swatch, self.name, class_=f"key {self.classes}")


class Looks:
    """Contenders in the order in which they first appear."""

    def __init__(self, contenders: Iterable[str]) -> None:
        self._looks = {name: Look(name, i) for i, name in enumerate(dict.fromkeys(contenders))}

    def __iter__(self) -> Iterator[Look]:
        return iter(self._looks.values())

    def __getitem__(self, contender: str) -> Look:
        return self._looks[contender]
