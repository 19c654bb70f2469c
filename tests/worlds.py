"""The pairs of tiers that one test body runs over. See the docstring of conftest.py."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple

import fakeredis

from tests.servers import redis_admin
from tiered_cache import _cache
from tiered_cache._options import OptionsDict

WORLDS = ("embedded", "servers", "fake")

#: For caches whose deadlines are not what is tested: a busy machine must not turn hits of the front into hits of the
#: store, which tests tell apart, nor writes into failures.
PATIENT: Final = OptionsDict(front_timeout=2.0, store_timeout=30.0, mark_ttl=60.0)


class World(NamedTuple):
    """A front and a store for `TieredCache(world.front, world.store)`, empty when the test begins."""

    name: str
    front: Any
    store: str
    # What a second cache takes to meet the first in one front: the same URL, or a new client of the same server.
    other_front: Callable[[], Any]
    # All cells are gone, as after a restart of Redis; the front goes on working.
    lose_front: Callable[[], None]


def embedded(sqlite_url: str) -> World:
    """No server: the in-process front and a SQLite file."""

    def lose_front() -> None:
        if _cache._process_front is not None:
            _cache._process_front.forget()

    return World("embedded", "memory://", sqlite_url, lambda: "memory://", lose_front)


def servers(redis_url: str, postgres_url: str) -> World:
    """Real Redis and real PostgreSQL."""

    def lose_front() -> None:
        with redis_admin(redis_url) as client:
            client.flushall()

    return World("servers", redis_url, postgres_url, lambda: redis_url, lose_front)


def fake(sqlite_url: str) -> World:
    """A ready-made client of fakeredis, and a SQLite file."""
    server = fakeredis.FakeServer(version=(7,))

    def client() -> Any:
        return fakeredis.FakeAsyncRedis(server=server)

    def lose_front() -> None:
        admin: Any = fakeredis.FakeStrictRedis(server=server)
        admin.flushall()

    return World("fake", client(), sqlite_url, client, lose_front)
