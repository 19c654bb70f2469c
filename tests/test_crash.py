"""A process that is killed with SIGKILL at every step of what it does, on real servers, and those who come after it."""

from __future__ import annotations

import time
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final
from uuid import uuid4

import pytest

from tests.crash import MARK_SECONDS, OPTIONS, VERBS, Death, Deaths, Verb, deaths
from tests.servers import redis_admin
from tiered_cache import MISSING, SyncNamespace, TieredCache

#: What there is afterwards, if the change was committed.
AFTER: Final[dict[Verb, Any]] = {
    "set": "new",
    "delete": MISSING,
    "clear": MISSING,
    "get": "old",
    "get_or_compute": "new",
}

MOST_STEPS: Final = 60


class Survivors:
    """Another process, and one that comes later, with nothing of its own."""

    def __init__(self, redis_url: str, postgres_url: str) -> None:
        self.redis_url, self.postgres_url = redis_url, postgres_url
        self.caches = [self.one_more(), self.one_more()]

    def one_more(self) -> TieredCache:
        cache = TieredCache(self.redis_url, self.postgres_url, **OPTIONS)
        cache.view.shared.engine.on_change = lambda _: None
        cache.view.shared.engine.on_use = lambda _: None
        return cache

    def spaces(self, namespace: str) -> list[SyncNamespace]:
        return [cache.namespace(namespace).sync for cache in self.caches]

    def answers(self, namespace: str) -> list[Any]:
        return [space.get("k", MISSING) for space in self.spaces(namespace) * 2]

    def close(self) -> None:
        for cache in self.caches:
            cache.close()


@pytest.fixture
def survivors(redis_url: str, postgres_url: str) -> Generator[Survivors]:
    survivors = Survivors(redis_url, postgres_url)
    yield survivors
    survivors.close()


@pytest.fixture
def dying(redis_url: str, postgres_url: str) -> Generator[Deaths]:
    with deaths(redis_url, postgres_url) as dying:
        yield dying


def prepared(survivors: Survivors, verb: Verb) -> str:
    """A namespace in which everybody has "old" in the front; for a promotion, in the store alone."""
    namespace = uuid4().hex
    one, _ = survivors.spaces(namespace)
    if verb == "get_or_compute":
        assert one.get("k", MISSING) is MISSING
        return namespace
    one.set("k", "old")
    assert survivors.answers(namespace) == ["old"] * 4
    if verb == "get":
        with redis_admin(survivors.redis_url) as redis:
            redis.flushall()
    return namespace


@pytest.mark.parametrize("verb", VERBS)
def test_killed_at_any_step_it_leaves_what_was_committed_and_nothing_older(
    survivors: Survivors, dying: Deaths, verb: Verb
) -> None:
    truths: dict[str, Any] = {}
    for step in range(MOST_STEPS):
        namespace = prepared(survivors, verb)
        killed = dying.of(Death(namespace, verb, step, naive=False))
        truth = in_the_store(survivors, namespace)
        assert truth in (AFTER[verb], "old" if verb != "get_or_compute" else MISSING)
        assert survivors.answers(namespace) == [truth] * 4, f"step {step}"
        truths[namespace] = truth
        if not killed:
            assert truth == AFTER[verb]
            assert step >= 6
            break
    else:
        pytest.fail("it never comes to an end")
    assert len(set(map(repr, truths.values()))) == (1 if verb == "get" else 2)
    time.sleep(MARK_SECONDS + 0.1)  # what it left behind has expired
    for namespace, truth in truths.items():
        assert survivors.answers(namespace) == [truth] * 4
        if truth is not MISSING:  # and the key is served from the front again
            before = survivors.caches[0].stats().hits_front
            survivors.spaces(namespace)[0].get("k")
            assert survivors.caches[0].stats().hits_front == before + 1


def in_the_store(survivors: Survivors, namespace: str) -> Any:
    """As a process would see it that has no front."""
    lone = TieredCache("memory://", survivors.postgres_url, front_bytes=1)
    try:
        return lone.namespace(namespace).sync.get("k", MISSING)
    finally:
        lone.close()


@pytest.mark.parametrize("verb", ["set", "delete", "clear"])
def test_without_the_rule_the_old_value_is_left(survivors: Survivors, dying: Deaths, verb: Verb) -> None:
    found: list[bool] = []
    for step in range(MOST_STEPS):
        namespace = prepared(survivors, verb)
        killed = dying.of(Death(namespace, verb, step, naive=True))
        found.append(survivors.answers(namespace) != [in_the_store(survivors, namespace)] * 4)
        if not killed:
            break
    assert any(found)
    assert not found[-1]


def test_computations_whose_process_is_killed_are_taken_over_within_seconds(
    survivors: Survivors, dying: Deaths
) -> None:
    killed: list[str] = []
    for step in range(MOST_STEPS):
        namespace = prepared(survivors, "get_or_compute")
        if not dying.of(Death(namespace, "get_or_compute", step, naive=False)):
            break
        killed.append(namespace)

    def take_over(namespace: str) -> Any:
        return survivors.spaces(namespace)[0].get_or_compute("k", lambda: "taken over")

    began = time.monotonic()
    with ThreadPoolExecutor(len(killed)) as threads:
        values = list(threads.map(take_over, killed))
    assert time.monotonic() - began < 5 * MARK_SECONDS
    assert set(values) == {"taken over", "new"}
    assert [survivors.answers(namespace) for namespace in killed] == [[value] * 4 for value in values]
