"""The store's suite over every store there is, by every way to reach a database, and over a wrapper without faults."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from uuid import uuid4

import pytest
from sqlalchemy.engine import make_url

from tests.doubles import DictStore
from tests.servers import free_port
from tests.store.conftest import Place
from tiered_cache import Store
from tiered_cache._sql import SqlStore
from tiered_cache.testing import FaultyStore, ManualClock, StoreSuite
from tiered_cache.testing._store_base import StoreTests
from tiered_cache.testing._store_journal import JournalSuite
from tiered_cache.testing._store_rows import RowSuite
from tiered_cache.testing._store_space import SpaceSuite


@pytest.mark.every_backend
class TestDictStore(StoreSuite):
    @asynccontextmanager
    async def store(self) -> AsyncGenerator[Store]:
        clock = self.clock = ManualClock()
        yield DictStore(lambda: round(clock() * 1000), identity=uuid4().hex[:12])


class TestFaultyStoreWithoutFaults(StoreSuite):
    @asynccontextmanager
    async def store(self) -> AsyncGenerator[Store]:
        clock = self.clock = ManualClock()
        yield FaultyStore(DictStore(lambda: round(clock() * 1000)))

    def unreachable(self) -> Store:
        store = FaultyStore(DictStore())
        store.down = True
        return store


class OnSql(StoreTests):
    place: Place

    @pytest.fixture(autouse=True)
    def _place(self, place: Place) -> None:
        self.place = place

    @asynccontextmanager
    async def store(self) -> AsyncGenerator[Store]:
        yield self.place.store(clock=self.clock)

    @asynccontextmanager
    async def another(self, store: Store) -> AsyncGenerator[Store]:
        # In memory, a store is the whole database.
        yield store if self.place.kind == "memory" else self.place.store(clock=self.clock)


class TestSqlStore(OnSql, StoreSuite):
    def unreachable(self) -> Store | None:
        if self.place.kind not in ("asyncpg", "psycopg"):
            return None
        url = make_url(self.place.url).set(port=free_port(), drivername=f"postgresql+{self.place.kind}")
        return SqlStore(url, timeout=20)

    @asynccontextmanager
    async def store(self) -> AsyncGenerator[Store]:
        self.clock = ManualClock()
        async with super().store() as store:
            yield store


@pytest.mark.parametrize("place", ["sqlite", "asyncpg"], indirect=True)
class TestSqlStoreByTheClockOfTheDatabase(OnSql, RowSuite, SpaceSuite, JournalSuite):
    """Without an injected clock; what asks for none is left to the suite above."""


@pytest.mark.parametrize("anyio_backend", ["trio"])
class TestEmbeddedStoreOnTrio(StoreSuite):
    @pytest.fixture(autouse=True)
    def _url(self, sqlite_url: str) -> None:
        self.url = sqlite_url

    @asynccontextmanager
    async def store(self) -> AsyncGenerator[Store]:
        self.clock = ManualClock()
        store = SqlStore(self.url, clock=self.clock)
        yield store
        await store.aclose()
