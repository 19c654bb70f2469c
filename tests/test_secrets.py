"""No password and no payload in what people and log files get to see."""

from __future__ import annotations

import logging
import traceback
from pathlib import Path

import pytest
from sqlalchemy import create_engine
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from tests.servers import empty_database, free_port, with_driver
from tiered_cache import StoreUnavailableError, TieredCache, TieredCacheError

PASSWORD = "hunter2-secret"
PAYLOAD = "the payload of a user"


@pytest.fixture(autouse=True)
def everything_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)


def shown(error: BaseException) -> str:
    return "".join(traceback.format_exception(error))


def test_a_cache_shows_where_its_tiers_are_but_not_how_to_get_in() -> None:
    cache = TieredCache(
        f"redis://user:{PASSWORD}@localhost:6379/0", f"postgresql+asyncpg://user:{PASSWORD}@localhost/app"
    )
    assert "localhost" in repr(cache)
    assert PASSWORD not in repr(cache) + repr(vars(cache)) + repr(cache.options)


@pytest.mark.parametrize("driver", ["asyncpg", "psycopg"])
async def test_refused_connections_show_no_password_and_no_payload(
    caplog: pytest.LogCaptureFixture, driver: str
) -> None:
    port = free_port()
    cache = TieredCache(
        f"redis://user:{PASSWORD}@127.0.0.1:{port}/0", f"postgresql+{driver}://user:{PASSWORD}@127.0.0.1:{port}/app"
    )
    with pytest.raises(StoreUnavailableError) as caught:
        await cache.set("k", PAYLOAD)
    await cache.aclose()
    text = shown(caught.value) + caplog.text
    assert PASSWORD not in text
    assert PAYLOAD not in text


async def test_a_wrong_password_is_not_repeated(
    caplog: pytest.LogCaptureFixture, redis_url: str, sqlite_url: str
) -> None:
    front = redis_url.replace("redis://", f"redis://user:{PASSWORD}@")
    async with TieredCache(front, sqlite_url, front_timeout=5) as cache:
        await cache.set("k", PAYLOAD)
        assert await cache.get("k") == PAYLOAD
        assert cache.stats().front_errors > 0
    assert PASSWORD not in caplog.text
    assert PAYLOAD not in caplog.text


@pytest.mark.parametrize("driver", ["asyncpg", "psycopg"])
async def test_an_engine_of_the_users_own_shows_no_payload_either(
    caplog: pytest.LogCaptureFixture, postgres_url: str, driver: str
) -> None:
    caplog.set_level(logging.INFO, logger="sqlalchemy")  # at DEBUG SQLAlchemy shows rows; that is the user's choice
    asynchronous = driver == "asyncpg"
    engine = create_async_engine(postgres_url) if asynchronous else create_engine(with_driver(postgres_url, driver))
    cache = TieredCache("memory://", engine)
    await cache.setup()
    empty_database(postgres_url)  # the tables go while the cache is in use
    with pytest.raises(StoreUnavailableError) as caught:
        await cache.set("k", PAYLOAD)
    await cache.aclose()
    (engine.sync_engine if isinstance(engine, AsyncEngine) else engine).dispose()
    assert PAYLOAD not in shown(caught.value) + caplog.text


async def test_a_value_that_cannot_be_stored_is_not_quoted(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    class Odd:
        def __repr__(self) -> str:
            return PAYLOAD

    async with TieredCache("memory://", f"sqlite:///{tmp_path / 'store.db'}") as cache:
        with pytest.raises(TieredCacheError) as caught:
            await cache.set("the key", {"a": [Odd()]})
    assert "the key" in str(caught.value)
    assert "Odd" in str(caught.value)
    assert PAYLOAD not in shown(caught.value) + caplog.text
