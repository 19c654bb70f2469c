"""Every contender whose libraries are here answers a hit with what was stored; one that is not here says so."""

from __future__ import annotations

import asyncio
import json
import socket
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from uuid import uuid4

import pytest
from psycopg import sql

from bench.contenders import contender, contenders
from bench.contenders.base import Setting
from bench.contenders.tiered import Ours
from bench.job import Job, Place
from bench.scenarios import scenario, scenarios
from bench.scenarios.base import Scenario
from bench.worker import measure, run
from tests.servers import admin
from tiered_cache import Front

PEERS = {
    "langchain-": "langchain_community",
    "langgraph-SqliteCache": "langgraph.cache.sqlite",
    "cashews": "cashews",
    "aiocache": "aiocache",
}


def missing(name: str) -> str | None:
    """The module that this contender would need, where it is not installed."""
    needed = next((module for start, module in PEERS.items() if name.startswith(start)), None)
    return needed if needed is not None and find_spec(needed) is None else None


@pytest.fixture
def place(redis_url: str, postgres_url: str, tmp_path: Path) -> Place:
    name = f"bench_{uuid4().hex[:8]}"
    with admin(postgres_url) as connection:
        connection.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(name)))
    return Place(name, redis_url, postgres_url, str(tmp_path), own_redis=True)


@pytest.mark.filterwarnings("ignore")  # peers call what is deprecated
@pytest.mark.parametrize("name", list(contenders()))
async def test_a_contender_answers_a_hit_with_what_was_stored(name: str, place: Place) -> None:
    if missing(name) is not None:
        with pytest.raises(ImportError):
            await contender(name).make(Setting(place, 2300)).open()
        return
    subject = contender(name).make(Setting(place, 2300))
    await subject.open()
    try:
        assert await subject.get([1]) == 0
        await subject.put([1])
        assert await subject.get([1]) == 1
        assert await subject.check(1)
        await subject.fill(range(2, 20))
        assert await subject.get(range(25)) == 19
    finally:
        await subject.aclose()


def job(place: Place, scenario: str, contender: str, **params: float | str) -> Job:
    mode = "open" if "rate" in params else "closed"
    return Job(scenario, contender, 0, mode, {"keys": 32, **params}, 0.1, place)


def test_a_process_of_its_own_measures_one_sample(place: Place) -> None:
    made = measure(job(place, "hit-front", "redis-py", callers=4))
    assert made.refused == ""
    assert made.operations > 0
    assert made.lost == 0
    assert made.latency is not None
    assert made.latency.max > 0


def test_a_contender_that_cannot_be_set_up_is_shown_failing(place: Place) -> None:
    nowhere = Place(place.name, place.redis, "postgresql+asyncpg://postgres@127.0.0.1:1/postgres", place.folder)
    made = run(job(nowhere, "hit-front", "asyncpg", callers=1))
    assert "while it was set up" in made.refused
    assert "127.0.0.1" in made.refused
    assert made.latency is None


def test_a_process_that_dies_is_a_refused_sample(place: Place) -> None:
    made = measure(job(place, "no-such-scenario", "redis-py"))
    assert "no_such_scenario" in made.refused


def test_a_library_that_is_not_there_is_named(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "cashews", None)
    made = run(job(place, "hit-front", "cashews", callers=1))
    assert "not installed: cashews" in made.refused


@pytest.mark.parametrize("each", list(scenarios().values()), ids=list(scenarios()))
def test_every_case_names_contenders_that_exist(each: Scenario) -> None:
    for full in (False, True):
        for case in each.cases(full):
            assert set(case.contenders) <= set(contenders())
            assert len(set(case.contenders)) == len(case.contenders)
            json.dumps(asdict(Job(each.name, "x", 0, case.mode, case.params, 1.0, Place("", "", "", ""))))
    assert scenario(each.name) is each


@pytest.mark.parametrize(
    ("name", "contender_name", "params"),
    [
        ("hit-store", "tiered-langchain-redis-sqlite", {"callers": 4}),
        ("miss", "tiered-langchain-embedded", {"callers": 4}),
        ("write", "tiered-langchain-embedded", {"callers": 4}),
        ("mixed", "tiered-langchain-embedded", {"callers": 4, "zipf": 0.99, "churn": 0.1}),
        ("stampede", "tiered-plain-embedded", {"callers": 16, "compute": 0.001}),
        ("burst", "tiered-langchain-redis-sqlite", {"callers": 100}),
        ("clear", "tiered-langchain-embedded", {"entries": 100, "parts": 4}),
        ("clear-under-load", "tiered-langchain-embedded", {"callers": 4}),
        ("fan-out", "tiered-langgraph-embedded", {"callers": 2, "batch": 16}),
    ],
)
def test_a_scenario_measures_and_loses_nothing(
    name: str, contender_name: str, params: dict[str, float | str], place: Place
) -> None:
    made = run(job(place, name, contender_name, **params))
    assert made.refused == ""
    assert made.operations > 0
    assert (made.lost, made.errors) == (0, {})


def test_stages_add_up_to_a_hit(place: Place) -> None:
    made = measure(job(place, "stages", "tiered-langchain-redis-postgres", callers=4))
    assert made.refused == ""
    assert set(made.stages) == {"key", "front", "decode", "wake-up"}
    assert all(seconds >= 0 for seconds in made.stages.values())
    assert made.stages["front"] > 0


def test_a_dead_front_is_seen_in_the_time_line(place: Place) -> None:
    asked = job(place, "degraded", "langchain-AsyncRedisCache", rate=100.0, fault="front dead")
    if missing(asked.contender) is not None:
        asked = job(place, "degraded", "tiered-langchain-redis-postgres", rate=100.0, fault="front dead")
    made = measure(Job(asked.scenario, asked.contender, 0, "open", asked.params, 0.9, place))
    assert list(made.events) == ["front dead", "front back"]
    assert made.timeline
    assert made.operations == 90
    if asked.contender.startswith("tiered"):
        assert (made.lost, made.errors) == (0, {})
    else:
        assert made.lost > 0


async def test_a_front_that_is_measured_through_a_wrapper_has_the_options_that_were_asked_for(tmp_path: Path) -> None:
    fronts: list[Front] = []

    def wrapped(front: Front) -> Front:
        fronts.append(front)
        return front

    with socket.create_server(("127.0.0.1", 0)) as silent:
        place = Place("bench_x", f"redis://127.0.0.1:{silent.getsockname()[1]}/0", "", str(tmp_path))
        ours = Ours(Setting(place, 100, {"front_timeout": 0.25, "front_connections": 2}), "redis", "sqlite", wrapped)
        try:
            said = await asyncio.gather(*(fronts[0].get([b"k"]) for _ in range(3)), return_exceptions=True)
        finally:
            await ours.cache.aclose()
    waited = [text for text in map(str, said) if "no connection" in text]
    assert len(waited) == 1, "two connections for three exchanges"
    assert all("within 0.25 s" in str(each) for each in said)
