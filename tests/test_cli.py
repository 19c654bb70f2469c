"""The demo, run as a user runs it, and what it says."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

import anyio
import pytest
import redis

from tests.servers import admin, redis_admin, redis_calls
from tiered_cache import TieredCache
from tiered_cache.cli import main

FAST = ["--speed", "1000"]
TITLES = ["cold", "warm", "another process", "front lost", "chat cleared"]


class Row(NamedTuple):
    model_calls: int
    hits_front: int
    hits_store: int


@pytest.fixture
def prompts(tmp_path: Path) -> str:
    path = tmp_path / "prompts.txt"
    path.write_text(
        "\ufeffWhat is a cache?\n\n  Why is the sky blue?  \nÄpfel, oder \u00bbBirnen\u00ab?\nWhat is a cache?\n",
        "utf-8",
    )
    return str(path)


QUESTIONS = 3  # in that file


def rows(output: str) -> dict[str, Row]:
    """The figures of the table, by round."""
    found: dict[str, Row] = {}
    for line in output.splitlines():
        title, *cells = [cell.strip() for cell in re.split("[│|]", line.strip("│| "))]
        if title in TITLES and len(cells) == 7:
            found[title] = Row(*map(int, cells[:3]))
    return found


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["demo", *FAST, *arguments]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return out


def test_a_newcomer_sees_five_rounds_and_what_they_saved(prompts: str, capsys: pytest.CaptureFixture[str]) -> None:
    output = run(capsys, "--prompts", prompts)
    assert "3 questions" in output
    assert rows(output) == {
        "cold": Row(9, 0, 0),
        "warm": Row(0, 9, 0),
        "another process": Row(0, 0, 9),
        "front lost": Row(0, 0, 9),
        "chat cleared": Row(3, 6, 0),
    }
    last = output.splitlines()[-1]
    assert last.startswith("Without the cache: 45 model calls. With it: 12. Callers waited ")


def test_on_servers_another_process_meets_the_same_front(
    prompts: str, redis_url: str, postgres_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    output = run(capsys, "--prompts", prompts, "--front", redis_url, "--store", postgres_url)
    assert rows(output) == {
        "cold": Row(9, 0, 0),
        "warm": Row(0, 9, 0),
        "another process": Row(0, 9, 0),
        "front lost": Row(0, 0, 9),
        "chat cleared": Row(3, 6, 0),
    }


async def test_nothing_of_the_users_is_touched_and_nothing_is_left(
    prompts: str, redis_url: str, postgres_url: str
) -> None:
    async with TieredCache(redis_url, postgres_url) as cache:
        await cache.namespace("mine").set("k", "v")
        with redis_admin(redis_url) as client:
            client.set("tiered_cache_demo", "mine too")
            before = set(client.scan_iter())
        calls = redis_calls(redis_url)
        arguments = ["demo", *FAST, "--prompts", prompts, "--front", redis_url, "--store", postgres_url]
        assert await anyio.to_thread.run_sync(main, arguments) == 0
        called = redis_calls(redis_url) - calls
        with redis_admin(redis_url) as client:
            assert_expiring(client, set(client.scan_iter()) - before)
            assert client.get("tiered_cache_demo") == b"mine too"
        forbidden = {"FLUSHDB", "FLUSHALL", "KEYS", "SCAN"}
        assert not forbidden & called.keys()
        assert await cache.namespace("mine").get("k") == "v"
    with admin(postgres_url) as connection:
        row = connection.execute("SELECT count(*) FROM tiered_cache_entry").fetchone()
    assert row == (1,)


def assert_expiring(client: redis.Redis, keys: set[Any]) -> None:
    assert keys
    assert all(key.startswith(b"tiered_cache_demo_") for key in keys)
    assert all(0 < int(client.ttl(key)) <= 600 for key in keys)


def test_another_process_really_is_another_process(
    prompts: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[tuple[list[str], Any]] = []
    open_process = anyio.open_process

    async def spy(command: Any, **options: Any) -> Any:
        process = await open_process(command, **options)
        started.append((command, process))
        return process

    monkeypatch.setattr(anyio, "open_process", spy)
    run(capsys, "--prompts", prompts)
    ((command, process),) = started
    assert process.pid != os.getpid()
    assert process.returncode == 0
    assert command[0] == sys.executable
    assert "sqlite" not in " ".join(command)  # nor any other URL: arguments can be read by everybody on the machine


def heed_interrupts() -> None:
    """What a shell starts in the background ignores them, and so would its children."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def test_a_demo_that_is_interrupted_ends_at_once_and_leaves_nothing(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tiered_cache.cli", "demo", "--speed", "3"]
    environment = {**os.environ, "TMPDIR": str(tmp_path), "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        preexec_fn=heed_interrupts,
    ) as process:
        assert process.stdout is not None
        while not process.stdout.readline().startswith("cold"):
            assert process.poll() is None
        assert list(tmp_path.iterdir())
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=20)
    assert process.returncode == 130
    assert err == "tiered-cache: stopped\n"
    assert list(tmp_path.iterdir()) == []


def test_the_questions_that_are_shipped_are_many_and_different() -> None:
    lines = files("tiered_cache.cli").joinpath("questions.txt").read_text("utf-8").splitlines()
    assert len(lines) >= 50
    assert len(set(lines)) == len(lines)
    assert all(line == line.strip() and line for line in lines)
