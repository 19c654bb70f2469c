"""Numbers as a person reads them: three significant digits and a unit."""

from __future__ import annotations

import math
from typing import Final

#: Stands where there is no value.
NOTHING: Final = "\N{EN DASH}"
_TIMES: Final = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"))


def digits(value: float) -> str:
    """Three significant digits, never an exponent; thousands are set apart by a thin space."""
    if not math.isfinite(value):
        return str(value)
    if value == 0:
        return "0"
    decimals = max(0, 2 - math.floor(math.log10(abs(value))))
    text = f"{round(value, decimals):,.{decimals}f}".replace(",", "\N{NARROW NO-BREAK SPACE}")
    return text.rstrip("0").rstrip(".") if "." in text else text


def seconds(value: float) -> str:
    """176 µs, 1.23 ms, 95 s."""
    for size, unit in _TIMES:
        if round(value / size, 3) >= 1:
            return f"{digits(value / size)} {unit}"
    return "0 s" if value == 0 else f"{digits(value / 1e-6)} µs"


def rate(per_second: float) -> str:
    """In operations a second: 870/s, 12.3 k/s."""
    if per_second >= 1e6:
        return f"{digits(per_second / 1e6)} M/s"
    return f"{digits(per_second / 1e3)} k/s" if per_second >= 1e3 else f"{digits(per_second)}/s"


def size(in_bytes: float) -> str:
    """200 B, 2 kB, 1.5 MB."""
    for unit, factor in (("MB", 1e6), ("kB", 1e3)):
        if in_bytes >= factor:
            return f"{digits(in_bytes / factor)} {unit}"
    return f"{digits(in_bytes)} B"


def with_unit(value: float, unit: str) -> str:
    """The value of a figure: 12.3 times, 5 ms, 0 keys."""
    if unit == "x":
        return f"{digits(value)}\N{MULTIPLICATION SIGN}"
    if unit == "s":
        return seconds(value)
    return f"{digits(value)} {unit}".rstrip()
