"""What a person sees: a bar while a round runs, and a table at the end. Plain text where there is no terminal."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from ._round import Figures


class Line(NamedTuple):
    """A round, and how much less its callers waited than those of the cold one, in seconds."""

    title: str
    figures: Figures
    saved: float


class Screen:
    """Writes to stdout."""

    def __init__(self) -> None:
        self._console = Console(highlight=False)
        self._progress = Progress(
            TextColumn("{task.description:<24}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=self._console,
            disable=not self._console.is_terminal,
        )

    def say(self, text: str) -> None:
        self._console.print(text, markup=False, soft_wrap=True)

    @contextmanager
    def rounds(self) -> Generator[None]:
        with self._progress:
            yield

    @contextmanager
    def round(self, title: str, requests: int) -> Generator[Callable[[], None]]:
        """Gives what is to be called after each request."""
        task = self._progress.add_task(title, total=requests)
        yield lambda: self._progress.advance(task)
        if not self._console.is_terminal:
            self.say(f"{title}: {requests} requests")

    def table(self, lines: Sequence[Line]) -> None:
        table = Table(caption="p50, p99: of one request. Saved: by all of a round's, against the cold one's.")
        table.add_column("round")
        for heading in ("model\ncalls", "hits:\nfront", "\nstore", "\np50", "\np99", "\ntook", "waiting\nsaved"):
            table.add_column(heading, justify="right")
        for title, figures, saved in lines:
            table.add_row(
                title,
                str(figures.model_calls),
                str(figures.hits_front),
                str(figures.hits_store),
                _milliseconds(quantile(figures.latencies, 0.5)),
                _milliseconds(quantile(figures.latencies, 0.99)),
                f"{figures.took:.1f} s",
                duration(saved) if saved > 0 else "-",
            )
        self._console.print(table)


def quantile(values: Sequence[float], share: float) -> float:
    """The smallest of `values` that at least this share of them does not exceed."""
    ranked = sorted(values)
    return ranked[max(0, -(-int(share * 1000) * len(ranked) // 1000) - 1)]


def duration(seconds: float) -> str:
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 100:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s"


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:.1f} ms" if seconds < 0.01 else f"{seconds * 1000:.0f} ms"
