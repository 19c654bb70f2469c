"""What a command cannot do is one line that names the cure; what it is asked for is what is planned."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from bench.cli import main
from bench.figures import figures
from bench.machine import machine, versions
from bench.plan import plan
from bench.record import Run
from bench.refusal import Refusal
from bench.table import show
from tests.bench.made_up import sample
from tests.servers import free_port

SECRET = "s3cr3t"
EVERYWHERE = ("redis", "postgres", "sqlite", "memory")


def refusal(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert SECRET not in out + err
    (line,) = err.splitlines()
    assert line.startswith("bench: ")
    return line


def test_a_front_that_is_no_url(capsys: pytest.CaptureFixture[str]) -> None:
    assert "redis://localhost" in refusal(capsys, "--front", "nonsense", "--store", "sqlite:///x.db")


def test_a_front_that_does_not_answer(capsys: pytest.CaptureFixture[str]) -> None:
    url = f"redis://u:{SECRET}@127.0.0.1:{free_port()}/0"
    assert "is it running?" in refusal(capsys, "run", "--front", url, "--store", "sqlite:///x.db")


@pytest.mark.parametrize("url", ["nonsense", f"oracle://u:{SECRET}@h/d"])
def test_a_store_that_is_none(capsys: pytest.CaptureFixture[str], url: str) -> None:
    assert "postgresql+asyncpg://" in refusal(capsys, "--front", "memory://", "--store", url)


def test_a_store_that_does_not_answer(capsys: pytest.CaptureFixture[str]) -> None:
    url = f"postgresql+asyncpg://u:{SECRET}@127.0.0.1:{free_port()}/d"
    assert "is it running?" in refusal(capsys, "--front", "memory://", "--store", url)


def test_a_scenario_that_is_none(capsys: pytest.CaptureFixture[str]) -> None:
    tiers = ("--front", "memory://", "--store", "sqlite:///x.db")
    assert "hit-front" in refusal(capsys, *tiers, "--scenario", "hit")
    assert "tiered-langchain-embedded" in refusal(capsys, *tiers, "--contender", "no-such")
    assert "nothing is left" in refusal(capsys, *tiers, "--scenario", "burst", "--contender", "redis-py")


def test_a_file_that_cannot_be_written(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert "there is no folder" in refusal(capsys, "--out", str(tmp_path / "nowhere" / "run.json"))


def test_a_record_that_is_none(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    page = str(tmp_path / "page.html")
    assert "--out" in refusal(capsys, "report", str(tmp_path / "missing.json"), "-o", page)
    (tmp_path / "empty.json").write_text("{}")
    assert "no record of a run" in refusal(capsys, "report", str(tmp_path / "empty.json"), "-o", page)
    assert "--out" in refusal(capsys, "compare", str(tmp_path / "a.json"), str(tmp_path / "b.json"))


# --- the plan ---------------------------------------------------------------------------------------------------------


def test_rounds_are_interleaved_and_another_begins_each_time() -> None:
    steps = plan(full=True, rounds=3, tiers=EVERYWHERE, only_scenarios=["stampede"])
    first_case = [step for step in steps if step.case.params["callers"] == 64]
    orders = [[step.contender for step in first_case if step.round == number] for number in range(3)]
    assert len({order[0] for order in orders}) == 3
    assert all(sorted(order) == sorted(orders[0]) for order in orders)
    assert [step.round for step in steps] == sorted(step.round for step in steps)


def test_a_scenario_that_is_named_is_what_the_profile_has_of_it() -> None:
    short, full = (plan(full=full, rounds=1, tiers=EVERYWHERE, only_scenarios=["write"]) for full in (False, True))
    assert 0 < len(short) < len(full)


def test_only_contenders_whose_tiers_are_there_are_planned() -> None:
    steps = plan(full=True, rounds=1, tiers=("sqlite", "memory"))
    assert {step.contender for step in steps} == {
        *("tiered-langchain-embedded", "tiered-langgraph-embedded", "tiered-plain-embedded"),
        *("langchain-SQLAlchemyCache-sqlite", "langgraph-SqliteCache", "langgraph-InMemoryCache"),
    }


def test_contenders_are_chosen_by_a_part_of_their_name() -> None:
    steps = plan(full=False, rounds=1, tiers=EVERYWHERE, only_contenders=["AsyncRedis"])
    assert {step.contender for step in steps} == {"langchain-AsyncRedisCache"}
    with pytest.raises(Refusal, match="no contender"):
        plan(full=False, rounds=1, tiers=EVERYWHERE, only_contenders=["nobody"])


# --- what is shown ----------------------------------------------------------------------------------------------------


def test_the_table_shows_what_was_not_reached_what_failed_and_what_was_refused() -> None:
    samples = [
        sample("hit-front", "tiered-langchain-redis-postgres", callers=64, achieved=500),
        sample("hit-front", "langchain-AsyncRedisCache", callers=64, achieved=100, lost=37, errors={"OSError": 12}),
        sample("hit-front", "aiocache", callers=64, refused="not installed: aiocache"),
    ]
    run = Run("2026-01-01", 1.0, "short", 1, machine(), versions(), {"front": "x"}, samples, figures(samples))
    console = Console(width=200, record=True, file=io.StringIO())
    show(run, console)
    text = console.export_text()
    assert "not reached" in text
    assert "37" in text
    assert "12" in text
    assert "not installed: aiocache" in text
