"""Where faults happen: a Redis, a PostgreSQL, a proxy before each, a SQLite file; and the caches on them."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, Literal, Self, TypeVar

from sqlalchemy import Engine, create_engine, event

from tests.servers import PostgresServer, RedisServer, fresh_database, redis_admin
from tiered_cache import TieredCache
from tiered_cache.testing import SlowProxy

T = TypeVar("T")

Kind = Literal["postgres", "sqlite"]

FRONT_TIMEOUT: Final = 0.1
STORE_TIMEOUT: Final = 0.5
MARK_TTL: Final = 1.0
BREAKER_WINDOW: Final = 0.2
BREAKER_RETRY: Final = 0.3
RECOVERY_INTERVAL: Final = 0.5
FRONT_CONNECTIONS: Final = 16
STORE_CONNECTIONS: Final = 8

#: Of the PostgreSQL: few enough that others can use them all up.
MAX_CONNECTIONS: Final = 40


class Servers:
    """Shared by the faults of a run; a second Redis only where one is asked for."""

    def __init__(self) -> None:
        self.redis = RedisServer("--repl-diskless-sync-delay", "0")
        self.postgres = PostgresServer(max_connections=str(MAX_CONNECTIONS))
        self.other_redis = RedisServer("--repl-diskless-sync-delay", "0")

    def __enter__(self) -> Self:
        self.redis.start()
        self.postgres.start()
        return self

    def __exit__(self, *_: object) -> None:
        for server in (self.redis, self.postgres, self.other_redis):
            server.close()


@dataclass
class File:
    """A SQLite file, and an engine on it that can be told not to write, or to grow no more."""

    path: Path
    engine: Engine = field(init=False)
    pragmas: dict[str, int] = field(default_factory=dict[str, int])

    def __post_init__(self) -> None:
        self.engine = create_engine(
            f"sqlite:///{self.path}",
            connect_args={"check_same_thread": False, "timeout": STORE_TIMEOUT * 0.9},
            pool_size=STORE_CONNECTIONS,
            max_overflow=0,
        )
        event.listen(self.engine, "connect", _use_wal)
        event.listen(self.engine, "checkout", self._restrict)

    def _restrict(self, connection: sqlite3.Connection, *_: object) -> None:
        for name, value in self.pragmas.items():
            connection.execute(f"PRAGMA {name} = {value}").fetchall()


def _use_wal(connection: sqlite3.Connection, _: object) -> None:
    connection.execute("PRAGMA journal_mode = WAL").fetchone()


@dataclass
class Place:
    """One run's tiers. What is asked of the servers blocks, so it goes through `do`."""

    servers: Servers
    kind: Kind
    front_url: str
    store_url: str
    front_proxy: SlowProxy
    store_proxy: SlowProxy
    file: File

    @property
    def redis(self) -> RedisServer:
        return self.servers.redis

    @property
    def postgres(self) -> PostgresServer:
        return self.servers.postgres

    def cache(self, **options: Any) -> TieredCache:
        store = self.file.engine if self.kind == "sqlite" else self.store_proxy.url(self.store_url)
        settings: dict[str, Any] = {
            "front_timeout": FRONT_TIMEOUT,
            "store_timeout": STORE_TIMEOUT,
            "mark_ttl": MARK_TTL,
            "breaker_window": BREAKER_WINDOW,
            "breaker_retry": BREAKER_RETRY,
            "recovery_interval": RECOVERY_INTERVAL,
            "front_connections": FRONT_CONNECTIONS,
            "store_connections": STORE_CONNECTIONS,
            **options,
        }
        return TieredCache(self.front_proxy.url(self.front_url), store, **settings)

    async def do(self, work: Callable[..., T], *arguments: object) -> T:
        """In a thread: the load goes on meanwhile."""
        return await asyncio.to_thread(work, *arguments)

    async def tell_redis(self, *command: object) -> Any:
        return await self.do(_tell, self.redis.url, *command)


def _tell(url: str, *command: object) -> Any:
    with redis_admin(url) as client:
        return client.execute_command(*command)


@asynccontextmanager
async def open_place(servers: Servers, kind: Kind) -> AsyncGenerator[Place]:
    """Empty tiers on servers that are up, whatever happened to them before."""
    if servers.redis.running:
        servers.redis.thaw()
        servers.redis.kill()  # forgets settings as well as data
    servers.redis.start()
    if servers.postgres.running:
        servers.postgres.thaw()
    servers.postgres.start()
    with _database(servers.postgres) as database, TemporaryDirectory() as folder:
        file = File(Path(folder) / "store.db")
        async with (
            SlowProxy("127.0.0.1", servers.redis.port) as front_proxy,
            SlowProxy("127.0.0.1", servers.postgres.port) as store_proxy,
        ):
            yield Place(servers, kind, servers.redis.url, database, front_proxy, store_proxy, file)
        file.engine.dispose()


@contextmanager
def _database(server: PostgresServer) -> Generator[str]:
    with fresh_database(server.url) as url:
        try:
            yield url
        finally:
            if server.running:
                server.thaw()
            server.start()
