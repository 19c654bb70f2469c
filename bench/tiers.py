"""The servers of a run: its own, or those that it was given; and what they are called in the record."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import uuid4

import psycopg
import redis
from psycopg import sql
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from tests.servers import PostgresServer, RedisServer, admin, redis_admin

from .contenders.base import Tier
from .job import Place
from .refusal import Refusal


@dataclass(frozen=True, slots=True)
class Tiers:
    """What contenders may be measured on."""

    redis: str
    postgres: str
    folder: Path
    own_redis: bool
    #: For the record, without passwords.
    names: dict[str, str]

    @property
    def there(self) -> frozenset[Tier]:
        found: set[Tier] = {"sqlite", "memory"}
        if self.redis:
            found.add("redis")
        if self.postgres:
            found.add("postgres")
        return frozenset(found)

    @contextmanager
    def place(self) -> Generator[Place]:
        """A corner of the tiers for one sample. Nothing is left of it, unless a peer gives its keys no prefix."""
        place = Place(f"bench_{uuid4().hex[:10]}", self.redis, self.postgres, str(self.folder), self.own_redis)
        if self.postgres:
            with admin(self.postgres, name="bench") as connection:
                connection.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(place.name)))
        try:
            yield place
        finally:
            self._clean(place)

    def _clean(self, place: Place) -> None:
        if self.postgres:
            with admin(self.postgres, name="bench") as connection:
                connection.execute("SET client_min_messages TO warning")
                connection.execute(sql.SQL("DROP SCHEMA {} CASCADE").format(sql.Identifier(place.name)))
        if self.redis:
            with redis_admin(self.redis) as client:
                if self.own_redis:
                    client.flushall()
                else:
                    for key in client.scan_iter(match=f"{place.name}*", count=5000):
                        client.unlink(key)
        for file in self.folder.glob(f"{place.name}*"):
            file.unlink(missing_ok=True)


@contextmanager
def open_tiers(front: str | None, store: str | None) -> Generator[Tiers]:
    """Starts what is not given. `memory://` and `sqlite:///file` mean that there is no Redis, or no PostgreSQL.

    A SQLite URL says in which folder the files go. Raises Refusal for servers that cannot be used.
    """
    with _redis(front) as redis_url, _postgres(store) as postgres_url, TemporaryDirectory(prefix="bench-") as temporary:
        folder = _folder(store) or Path(temporary)
        names = {
            "front": _name(redis_url, _redis_version(redis_url), own=front is None) if redis_url else "memory://",
            "store": _name(postgres_url, _postgres_version(postgres_url), own=store is None)
            if postgres_url
            else "sqlite",
        }
        yield Tiers(redis_url, postgres_url, folder, front is None, names)


@contextmanager
def _redis(given: str | None) -> Generator[str]:
    if given is None:
        with RedisServer() as server:
            yield server.url
    elif given.startswith("memory:"):
        yield ""
    elif given.startswith(("redis://", "rediss://", "unix://")):
        yield given
    else:
        raise Refusal(f"--front is a URL such as redis://localhost:6379/0, or memory://, not {given!r}")


@contextmanager
def _postgres(given: str | None) -> Generator[str]:
    if given is None:
        with PostgresServer() as server:
            yield server.url
        return
    try:
        drivername = make_url(given).drivername
    except ArgumentError:
        drivername = ""
    if drivername.startswith("postgresql"):
        yield make_url(given).set(drivername="postgresql+asyncpg").render_as_string(hide_password=False)
    elif drivername.startswith("sqlite"):
        yield ""
    else:
        raise Refusal("--store is a URL such as postgresql+asyncpg://user@localhost/database, or sqlite:///file.db")


def _folder(store: str | None) -> Path | None:
    if store is None or not store.startswith("sqlite"):
        return None
    folder = Path(make_url(store).database or "").resolve().parent
    if not folder.is_dir():
        raise Refusal(f"there is no folder {folder}: make it, or name a SQLite file in one that exists")
    return folder


def _name(url: str, version: str, *, own: bool) -> str:
    return f"{version}, started for the run" if own else f"{version} at {_shown(url)}"


def _shown(url: str) -> str:
    return make_url(url).render_as_string(hide_password=True)


def _redis_version(url: str) -> str:
    try:
        with redis_admin(url) as client:
            info: dict[str, Any] = client.info("server")
    except redis.RedisError as error:
        raise Refusal(f"the front at {_shown(url)} does not answer: is it running? ({error})") from error
    return f"Redis {info['redis_version']}"


def _postgres_version(url: str) -> str:
    try:
        with admin(url, name="bench") as connection:
            row = connection.execute("SHOW server_version").fetchone()
    except psycopg.Error as error:
        raise Refusal(f"the store at {_shown(url)} does not answer: is it running? ({error})") from error
    assert row is not None
    return f"PostgreSQL {row[0].split()[0]}"
