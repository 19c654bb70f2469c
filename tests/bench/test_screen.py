"""What is told of a run while it goes on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from bench import screen
from bench.plan import Step
from bench.record import Run, Sample
from tests.bench.runs import make_run, make_sample


def test_a_file_is_told_now_and_then_how_far_it_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    planned = 0

    def run(steps: Sequence[Step], _: object, *, tell: Callable[[Step, Sample | None], None], **__: Any) -> Run:
        nonlocal planned
        planned = len(steps)
        for step in steps:
            tell(step, None)
            tell(step, make_sample())
        return make_run()

    monkeypatch.setattr(screen, "run", run)
    screen.run_on_screen(
        full=True,
        rounds=5,
        front="memory://",
        store=f"sqlite:///{tmp_path}/x.db",
        only_scenarios=["hit-front"],
        only_contenders=[],
        out=None,
    )
    told = [line.strip() for line in capsys.readouterr().out.splitlines() if "samples taken" in line]
    assert planned > 100
    assert 19 <= len(told) <= 20
    assert told[-1] == f"{planned} of {planned} samples taken"
