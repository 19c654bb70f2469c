"""`get_or_compute` across event loops and threads, and for synchronous callers."""

from __future__ import annotations

import contextvars
import signal
import threading
import time
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import anyio
import anyio.to_thread
import pytest

from tests.doubles import Computation
from tests.faulty import cache as cache
from tests.faulty import store as store
from tests.waiting import until
from tiered_cache import MemoryFront, TieredCache
from tiered_cache.testing import FaultyFront, FaultyStore, Gate
from tiered_cache.testing._gates import PATIENCE_SECONDS

pytestmark = pytest.mark.every_backend


async def test_one_computation_for_two_loops_in_two_threads(cache: TieredCache) -> None:
    compute, other = Computation(gate=Gate()), Computation("never")
    elsewhere: list[Any] = []

    async def ask() -> None:
        elsewhere.append(await cache.get_or_compute("k", other))

    with anyio.fail_after(PATIENCE_SECONDS):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(cache.get_or_compute, "k", compute)
            assert compute.gate is not None
            await compute.gate.reached()
            # A context of its own: what is called inside a computation computes by itself.
            thread = threading.Thread(target=contextvars.Context().run, args=(anyio.run, ask))
            thread.start()
            await until(lambda: cache.stats().misses == 2)
            compute.gate.open()
            await anyio.to_thread.run_sync(thread.join)
    assert elsewhere == ["computed"]
    assert (compute.runs, other.runs) == (1, 0)


def test_of_many_threads_one_computes(cache: TieredCache) -> None:
    inside, goes_on = threading.Event(), threading.Event()
    runs: list[int] = []

    def compute() -> list[int]:
        runs.append(1)
        inside.set()
        assert goes_on.wait(PATIENCE_SECONDS)
        return [1]

    with ThreadPoolExecutor(16) as pool:
        asked = [pool.submit(cache.sync.get_or_compute, "k", compute) for _ in range(16)]
        assert inside.wait(PATIENCE_SECONDS)
        goes_on.set()
        results = [each.result(PATIENCE_SECONDS) for each in asked]
    assert results == [[1]] * 16
    assert len(runs) == 1


def test_an_error_of_a_synchronous_computation_is_shared_among_threads(cache: TieredCache) -> None:
    error = LookupError("away")

    def compute() -> None:
        raise error

    with pytest.raises(LookupError) as caught:
        cache.sync.get_or_compute("k", compute)
    assert caught.value is error
    assert cache.sync.get_or_compute("k", lambda: 1) == 1


async def test_a_synchronous_call_on_a_thread_that_runs_a_loop_waits_for_nobody(cache: TieredCache) -> None:
    """It holds up the loop on which the computation under way needs to go on."""
    compute = Computation(gate=Gate())
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(cache.get_or_compute, "k", compute)
        assert compute.gate is not None
        await compute.gate.reached()
        assert cache.sync.get_or_compute("k", lambda: "mine") == "mine"
        compute.gate.open()


@pytest.fixture
def interruptible() -> Generator[None]:
    """What a shell starts in the background ignores interrupts."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_an_interrupted_synchronous_caller_leaves_no_flight_that_nobody_leads(store: FaultyStore) -> None:
    cache = TieredCache(FaultyFront(MemoryFront()), store, front_timeout=PATIENCE_SECONDS)
    cache.sync.set("another", 1)
    inside = threading.Event()
    lasting = threading.Event()

    def last_long() -> None:
        inside.set()
        lasting.wait(PATIENCE_SECONDS)
        raise GeneratorExit  # a computation that was given up, and did not fail

    def lead() -> None:
        with pytest.raises(GeneratorExit):
            cache.sync.get_or_compute("k", last_long)

    leader = threading.Thread(target=lead)
    leader.start()
    assert inside.wait(PATIENCE_SECONDS)
    ((flight,),) = cache.view.shared.flights._flights.values()
    main = threading.main_thread().ident
    assert main is not None

    def interrupt() -> None:
        while not flight._wake:
            time.sleep(0.001)
        time.sleep(0.05)  # by now the main thread waits, too: for this waiting to end
        signal.pthread_kill(main, signal.SIGINT)

    interrupter = threading.Thread(target=interrupt)
    interrupter.start()
    with pytest.raises(KeyboardInterrupt):
        cache.sync.get_or_compute("k", lambda: "never")
    interrupter.join()
    lasting.set()
    leader.join()
    for _ in range(10):  # turns of the loop on which somebody who still waited would take the lead now
        cache.sync.get("k")
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(cache.sync.get_or_compute, "k", lambda: "next").result(PATIENCE_SECONDS) == "next"


def test_two_threads_whose_computations_need_one_another_both_end(cache: TieredCache) -> None:
    both = threading.Barrier(2, timeout=PATIENCE_SECONDS)
    results: list[str] = []

    def ask(mine: str, other: str) -> None:
        def compute() -> str:
            both.wait()
            return f"{mine}({cache.sync.get_or_compute(other, lambda: other)})"

        results.append(cache.sync.get_or_compute(mine, compute))

    threads = [threading.Thread(target=ask, args=pair, daemon=True) for pair in (("a", "b"), ("b", "a"))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_SECONDS)
    assert sorted(results) in (["a(b(a))", "b(a)"], ["a(b)", "b(a(b))"])
