"""A front that keeps failing is spared: what is asked of it, what is served, what is said; by a clock of the tests'."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from tests.doubles import DictStore
from tests.processes import unhurried
from tiered_cache import Event, FrontUnavailableError, MemoryFront, StoreUnavailableError, TieredCache, _guard
from tiered_cache.testing import FaultyFront, FaultyStore

pytestmark = pytest.mark.every_backend


class Service:
    """A cache with a breaker of 1 s, that probes every 2 s."""

    def __init__(self, **options: Any) -> None:
        self.now = 0.0
        self.events: list[Event] = []
        self.front = FaultyFront(MemoryFront())
        self.store = FaultyStore(DictStore())
        self.cache = TieredCache(
            self.front,
            self.store,
            on_event=self.events.append,
            **unhurried(breaker_window=1.0, breaker_retry=2.0, **options),
        )
        engine = self.cache.view.shared.engine
        engine.on_change = lambda _: None
        engine.on_use = lambda _: None
        self.breakers = list(engine.access.front.breakers.values())
        for breaker in self.breakers:
            breaker._clock = lambda: self.now
            breaker.forget()

    @property
    def state(self) -> dict[str, str]:
        return {kind: state for kind, state in self.cache.stats().breakers.items() if kind.startswith("front")}

    async def asked(self) -> int:
        """How many exchanges with the front a read and a write make."""
        before = len(self.front.calls)
        await self.cache.get("k")
        await self.cache.set("k", self.now)
        return len(self.front.calls) - before


@pytest.fixture
async def service() -> Service:
    service = Service()
    await service.cache.set("k", 0)
    assert await service.cache.get("k") == 0
    assert await service.asked() == 3
    return service


async def fail_until_open(service: Service) -> None:
    service.front.down = True
    for breaker in service.breakers:
        breaker.forget()  # how well it went before
    for _ in range(3):
        await service.asked()
        service.now += 0.5
    assert set(service.state.values()) == {"open"}


async def test_a_front_that_fails_for_a_second_is_not_asked_any_more(service: Service) -> None:
    service.front.down = True
    assert await service.asked() == 3
    service.now += 0.5
    assert await service.asked() == 3
    await fail_until_open(service)
    errors = service.cache.stats().front_errors
    assert await service.asked() == 0
    assert await service.cache.get("k") == service.now
    stats = service.cache.stats()
    assert stats.front_errors == errors
    assert stats.front_spared >= 4
    assert stats.front_failures == {"other": errors}


async def test_one_probe_finds_out_that_it_is_back(service: Service) -> None:
    await fail_until_open(service)
    service.front.down = False
    assert await service.asked() == 0
    service.now += 2
    assert await service.asked() == 3
    assert set(service.state.values()) == {"closed"}


async def test_one_probe_finds_out_that_it_is_not(service: Service) -> None:
    await fail_until_open(service)
    service.now += 2
    assert await service.asked() == 2  # a read, and a step
    assert set(service.state.values()) == {"open"}
    assert await service.asked() == 0


async def test_a_front_that_takes_no_steps_still_serves(service: Service) -> None:
    """A replica, or a server whose memory is full."""
    service.front.down = False
    for _ in range(8):
        for name in ("mark_write", "settle_write", "mark_read"):
            service.front.fail(name, "before", FrontUnavailableError("read only", failure="busy"))
        await service.cache.set("other", 1)
        assert await service.cache.get("k") is not None
        service.front.forget_plans()
        service.now += 0.5
    assert service.state == {"front_read": "closed", "front_step": "open"}
    hits = service.cache.stats().hits_front
    assert await service.cache.get("k") is not None
    assert service.cache.stats().hits_front == hits + 1
    assert service.cache.stats().front_failures["busy"] >= 4


async def test_a_crowd_that_waits_for_connections_is_not_sent_to_the_store(service: Service) -> None:
    for _ in range(10):
        service.front.fail("get", "before", FrontUnavailableError("no connection became free", failure="pool_wait"))
        await service.cache.get("k")
        service.now += 0.5
    assert service.state["front_read"] == "closed"
    assert service.cache.stats().front_failures == {"pool_wait": 10}


async def test_what_was_not_announced_while_it_was_spared_is_in_the_journal(service: Service) -> None:
    await fail_until_open(service)
    service.front.down = False
    other = TieredCache(service.front.inner, service.store.inner)
    await service.cache.set("k", "new")
    assert await service.cache.get("k") == "new"
    service.now += 2
    assert await service.cache.view.shared.engine.upkeep.deliver() == 1
    assert await other.get("k") == "new"
    assert await service.cache.get("k") == "new"


async def test_states_are_told_once_per_change_and_logged_once(
    service: Service, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_guard, "STEADY_SECONDS", 0)
    with caplog.at_level(logging.INFO, "tiered_cache"):
        await fail_until_open(service)
        service.front.down = False
        service.now += 2
        await service.asked()
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]
    for tier in ("front_read", "front_step"):
        assert [event.state for event in service.events if event.tier == tier] == ["open", "half_open", "closed"]
    service.store.down = True
    for _ in range(3):
        with pytest.raises(Exception, match="down, as planned"):
            await service.cache.set("k", 1)
    service.store.down = False
    await service.cache.set("k", 1)
    assert [event.state for event in service.events if event.tier == "store"] == ["failing", "working"]


async def test_a_listener_that_fails_breaks_nobody(caplog: pytest.LogCaptureFixture) -> None:
    def listen(event: Event) -> None:
        raise LookupError("a defect")

    service = Service()
    service.cache.view.shared.recorder._on_event = listen
    await fail_until_open(service)
    assert "listener" in caplog.text
    assert await service.cache.get("k") is not None


class TestStore:
    async def test_one_that_keeps_everybody_waiting_is_not_read_for_a_while(self, service: Service) -> None:
        engine = service.cache.view.shared.engine
        breaker = engine.access.store.breaker
        breaker._clock = lambda: service.now
        breaker.forget()
        engine.access.store._slow = 0  # every failure is one that was waited for
        service.store.down = True
        for _ in range(3):
            with pytest.raises(StoreUnavailableError, match="down"):
                await service.cache.get("absent")
            service.now += 0.5
        reads = service.store.count("read")
        for _ in range(3):
            with pytest.raises(StoreUnavailableError, match="kept everybody waiting"):
                await service.cache.get("absent")
        assert await service.cache.get("k") is not None  # from the front
        assert service.store.count("read") == reads
        assert service.cache.stats().store_spared == 3
        assert service.cache.stats().breakers["store_read"] == "open"
        with pytest.raises(StoreUnavailableError, match="down"):
            await service.cache.set("k", 1)  # is always tried
        service.store.down = False
        service.now += 30
        assert await service.cache.get("absent") is None
        assert service.cache.stats().breakers["store_read"] == "closed"

    async def test_one_that_fails_at_once_is_always_asked(self, service: Service) -> None:
        service.cache.view.shared.engine.access.store.breaker._clock = lambda: service.now
        service.store.down = True
        for _ in range(10):
            with pytest.raises(StoreUnavailableError, match="down"):
                await service.cache.get("absent")
            service.now += 0.5
        assert service.store.count("read") >= 10
        assert service.cache.stats().store_spared == 0

    async def test_one_that_fails_at_once_keeps_nobody_waiting_any_more(self, service: Service) -> None:
        engine = service.cache.view.shared.engine
        breaker = engine.access.store.breaker
        breaker._clock = lambda: service.now
        breaker.forget()
        slow, engine.access.store._slow = engine.access.store._slow, 0
        service.store.down = True
        for _ in range(4):
            with pytest.raises(StoreUnavailableError):
                await service.cache.get("absent")
            service.now += 0.5
        engine.access.store._slow = slow
        service.now += 60
        for _ in range(5):
            with pytest.raises(StoreUnavailableError, match="down"):
                await service.cache.get("absent")
        assert [event.state for event in service.events if event.tier == "store_read"] == [
            "open",
            "half_open",
            "closed",
        ]
