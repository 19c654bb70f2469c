"""Servers that were given are left as they were found, and are named without their passwords."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest
from psycopg import sql

from bench.heartbeat import heartbeat
from bench.plan import Step, plan
from bench.record import Sample
from bench.runner import run, take
from bench.tiers import Tiers, open_tiers
from tests.servers import admin, redis_admin


def leftovers(tiers: Tiers) -> list[str]:
    with admin(tiers.postgres) as connection:
        rows = connection.execute("SELECT nspname FROM pg_namespace WHERE nspname LIKE 'bench%'").fetchall()
    with redis_admin(tiers.redis) as client:
        return [row[0] for row in rows] + [str(key) for key in client.keys("*")]


def test_given_servers_are_left_as_they_were(redis_url: str, postgres_url: str) -> None:
    with redis_admin(redis_url) as client:
        client.set("somebody:else", "x")
    with open_tiers(redis_url, postgres_url) as tiers:
        assert not tiers.own_redis
        steps = plan(
            full=True,
            rounds=1,
            tiers=tiers.there,
            only_scenarios=["stampede"],
            only_contenders=["tiered-plain-redis-postgres"],
        )
        sample = take(steps[0], tiers)
        assert sample.refused == ""
        assert sample.lost == 0
        assert leftovers(tiers) == ["b'somebody:else'"]


def test_what_flushes_is_not_let_loose_on_a_redis_that_was_given(redis_url: str, postgres_url: str) -> None:
    with redis_admin(redis_url) as client:
        client.set("somebody:else", "x")
    with open_tiers(redis_url, postgres_url) as tiers:
        steps = plan(
            full=True,
            rounds=1,
            tiers=tiers.there,
            only_scenarios=["clear-under-load"],
            only_contenders=["AsyncRedisCache"],
        )
        made = run(steps, tiers, profile="x", rounds=1, tell=lambda step, sample: None)
        assert ["FLUSHDB" in sample.refused for sample in made.samples] == [True]
        assert leftovers(tiers) == ["b'somebody:else'"]


def test_a_run_that_is_stopped_keeps_what_was_measured(redis_url: str, postgres_url: str) -> None:
    with open_tiers(redis_url, postgres_url) as tiers:
        steps = plan(full=True, rounds=2, tiers=tiers.there, only_scenarios=["burst"], only_contenders=["redis-py"])

        def tell(step: Step, sample: Sample | None) -> None:
            if sample is not None:
                raise KeyboardInterrupt

        made = run(steps, tiers, profile="short", rounds=2, tell=tell)
        assert len(steps) == 4
        assert len(made.samples) == 1
        assert made.profile == "short, stopped"
        assert leftovers(tiers) == []


def test_a_corner_of_the_tiers_is_gone_afterwards(redis_url: str, postgres_url: str) -> None:
    with open_tiers(redis_url, postgres_url) as tiers:
        with tiers.place() as place:
            place.file(".db").touch()
            with admin(tiers.postgres) as connection:
                connection.execute(sql.SQL("CREATE TABLE {}.t (x int)").format(sql.Identifier(place.name)))
            with redis_admin(tiers.redis) as client:
                client.set(f"{place.name}:key", "x")
        assert leftovers(tiers) == []
        assert not place.file(".db").exists()


def test_without_servers_there_are_the_embedded_tiers(tmp_path: Path) -> None:
    with open_tiers("memory://", f"sqlite:///{tmp_path / 'mine.db'}") as tiers:
        assert tiers.there == {"memory", "sqlite"}
        assert tiers.folder == tmp_path


def test_the_record_names_no_password(redis_url: str, postgres_url: str) -> None:
    with open_tiers(redis_url.replace("redis://", "redis://default:s3cr3t@"), postgres_url) as tiers:
        assert "s3cr3t" not in str(tiers.names)
        assert "PostgreSQL" in tiers.names["store"]


@pytest.mark.anyio
async def test_a_held_loop_is_noticed() -> None:
    async with heartbeat() as heart:
        await asyncio.sleep(0.005)
        time.sleep(0.05)  # noqa: ASYNC251  (this is what it is to notice)
    assert heart.held > 0.04
