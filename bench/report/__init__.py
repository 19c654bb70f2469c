"""The report: one HTML file that needs nothing else, neither a network nor a server.

Everything in it is drawn here, as SVG; its script only sorts, hides and shows, and the page is readable without it.
"""

from __future__ import annotations

from pathlib import Path

from bench.record import Run
from bench.report._page import page

__all__ = ["write_report"]


def write_report(run: Run, path: Path) -> None:
    """Raises OSError where the file cannot be written."""
    path.write_text(page(run), encoding="utf-8")
