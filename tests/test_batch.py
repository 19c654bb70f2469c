"""The batcher: concurrent callers share an exchange, and no caller's end is another's."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from typing import Any

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest
from anyio.abc import TaskGroup

from tiered_cache import StoreUnavailableError
from tiered_cache._batch import Batcher, Limits
from tiered_cache.testing import Gate
from tiered_cache.testing._gates import PATIENCE_SECONDS

pytestmark = pytest.mark.every_backend


class Exchange:
    """Answers n with -n. Each exchange may stop at a gate before it answers, and at another after."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.before: list[Gate] = []
        self.after: list[Gate] = []
        self.errors: list[Exception] = []
        self.under_way = self.most_under_way = 0

    async def __call__(self, questions: Sequence[int], answer: Callable[[Sequence[int]], None]) -> None:
        self.batches.append(list(questions))
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            await anyio.lowlevel.checkpoint()
            if self.before:
                await self.before.pop(0).wait()
            if self.errors:
                raise self.errors.pop(0)
            answer([-n for n in questions])
            if self.after:
                await self.after.pop(0).wait()
        finally:
            self.under_way -= 1


@pytest.fixture
def exchange() -> Exchange:
    return Exchange()


def batcher(exchange: Exchange, items: int = 100, in_flight: int = 4) -> Batcher[int, int]:
    return Batcher(exchange, Limits(items, 1000, in_flight))


class Callers:
    """Asks in tasks of their own; `answers` and `errors` by the first question of each."""

    def __init__(self, batches: Batcher[int, int]) -> None:
        self._batches = batches
        self.answers: dict[int, list[int]] = {}
        self.errors: dict[int, Exception] = {}

    async def ask(self, *questions: int) -> None:
        try:
            self.answers[questions[0]] = list(await self._batches.ask(questions))
        except Exception as error:  # noqa: BLE001  (the tests look at them)
            self.errors[questions[0]] = error


async def test_callers_of_one_moment_share_one_exchange_and_each_has_its_own_answers(exchange: Exchange) -> None:
    callers = Callers(batcher(exchange))
    async with anyio.create_task_group() as tasks:
        for n in range(0, 60, 3):
            tasks.start_soon(callers.ask, n, n + 1, n + 2)
    assert callers.answers == {n: [-n, -n - 1, -n - 2] for n in range(0, 60, 3)}
    assert len(exchange.batches) == 1
    assert sorted(exchange.batches[0]) == list(range(60))


class TestEager:
    """On trio, where nothing tells that the loop has turned, an eager batcher is like any other."""

    @pytest.fixture
    def eager(self, exchange: Exchange) -> Batcher[int, int]:
        return Batcher(exchange, Limits(100, 1000, 4), eager=True)

    async def crowd(self, batches: Batcher[int, int], *numbers: int) -> dict[int, list[int]]:
        callers = Callers(batches)
        async with anyio.create_task_group() as tasks:
            for n in numbers:
                tasks.start_soon(callers.ask, n)
        return callers.answers

    async def test_after_one_alone_the_first_of_a_crowd_goes_ahead_and_the_others_share(
        self, exchange: Exchange, eager: Batcher[int, int]
    ) -> None:
        assert await eager.ask([1]) == [-1]
        await anyio.wait_all_tasks_blocked()
        await self.crowd(eager, *range(2, 50))
        assert len(exchange.batches) <= 3
        assert sorted(n for batch in exchange.batches for n in batch) == list(range(1, 50))

    async def test_after_a_crowd_all_share(self, exchange: Exchange, eager: Batcher[int, int]) -> None:
        await self.crowd(eager, *range(10))
        await anyio.wait_all_tasks_blocked()
        await self.crowd(eager, *range(10, 20))
        assert list(map(len, exchange.batches)) == [10, 10]

    async def test_who_asks_again_after_an_exchange_that_waited_waits_for_no_turn(
        self, anyio_backend_name: str
    ) -> None:
        began_before_the_turn: list[bool] = []
        turned = False

        async def answer(questions: Sequence[int], reply: Callable[[Sequence[int]], None]) -> None:
            began_before_the_turn.append(not turned)
            await anyio.lowlevel.checkpoint()
            reply(questions)

        async def turn() -> None:
            nonlocal turned
            turned = True

        eager = Batcher(answer, Limits(100, 1000, 4), eager=True)
        async with anyio.create_task_group() as tasks:
            for n in range(3):
                turned = False
                tasks.start_soon(turn)
                await eager.ask([n])
        on_asyncio = anyio_backend_name == "asyncio"
        assert began_before_the_turn == [False, on_asyncio, on_asyncio]

    async def test_while_one_is_under_way_those_who_come_share(
        self, exchange: Exchange, eager: Batcher[int, int]
    ) -> None:
        await eager.ask([1])
        await anyio.wait_all_tasks_blocked()
        exchange.before = [gate := Gate()]
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(eager.ask, [2])
            await gate.reached()
            await self.crowd(eager, 3, 4, 5)
            gate.open()
        assert list(map(len, exchange.batches)) == [1, 1, 3]

    async def test_without_a_turn_of_the_loop_nobody_is_alone(self, exchange: Exchange) -> None:
        """Else a tier that answers without waiting would serve a crowd one by one, or hold up the loop for ever."""
        turned = False

        async def answer_at_once(questions: Sequence[int], answer: Callable[[Sequence[int]], None]) -> None:
            answer(questions)

        async def turn() -> None:
            nonlocal turned
            turned = True

        eager = Batcher(answer_at_once, Limits(100, 1000, 4), eager=True)
        await eager.ask([1])
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(turn)
            for n in range(10):
                await eager.ask([n])
            assert turned


@pytest.mark.parametrize("binding", [False, True])
async def test_a_cancelled_caller_of_a_binding_batcher_goes_once_it_is_over(exchange: Exchange, binding: bool) -> None:
    exchange.before = [gate := Gate()]
    batches = Batcher(exchange, Limits(100, 1000, 1), binding=binding)
    gone = anyio.Event()

    async def follow(scope: anyio.CancelScope) -> None:
        with scope:
            try:
                await batches.ask([2])
            finally:
                gone.set()

    scope = anyio.CancelScope()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(batches.ask, [0])
        await gate.reached()
        tasks.start_soon(batches.ask, [1])
        await anyio.wait_all_tasks_blocked()
        tasks.start_soon(follow, scope)
        await anyio.wait_all_tasks_blocked()
        scope.cancel()
        await anyio.wait_all_tasks_blocked()
        assert gone.is_set() is not binding
        gate.open()
    assert exchange.batches == [[0], [1, 2]]


def test_who_is_given_much_is_woken_in_turns_with_others_in_between(exchange: Exchange) -> None:
    """What they do with their answers would else hold up the loop in one piece."""
    order: list[str] = []

    async def caller(batches: Batcher[int, int], n: int) -> None:
        await batches.ask([n])
        order.append("answered")

    async def somebody_else() -> None:
        while order.count("answered") < 10:
            order.append("-")
            await asyncio.sleep(0)

    async def main() -> None:
        batches = Batcher(exchange, Limits(100, 10_000_000, 4), lambda questions: 100_000)
        async with anyio.create_task_group() as tasks:
            for n in range(10):
                tasks.start_soon(caller, batches, n)
            tasks.start_soon(somebody_else)

    asyncio.run(main())
    assert len(exchange.batches) == 1
    turns = "".join(each[0] for each in order).strip("-").split("-")
    assert max(map(len, turns)) <= 3
    assert sum(map(len, turns)) == 10


async def test_heavy_questions_make_small_batches(exchange: Exchange) -> None:
    callers = Callers(Batcher(exchange, Limits(100, 10, 4), sum))
    async with anyio.create_task_group() as tasks:
        for n in (4, 5, 6, 30, 1):
            tasks.start_soon(callers.ask, n)
    assert all(sum(batch) <= 10 or len(batch) == 1 for batch in exchange.batches)
    assert callers.answers == {n: [-n] for n in (4, 5, 6, 30, 1)}


async def test_what_one_caller_asks_is_never_split_however_much_it_is(exchange: Exchange) -> None:
    callers = Callers(batcher(exchange, items=10))
    async with anyio.create_task_group() as tasks:
        for n in range(0, 40, 8):
            tasks.start_soon(callers.ask, *range(n, n + 8))
        tasks.start_soon(callers.ask, *range(100, 150))
    assert callers.answers[100] == [-n for n in range(100, 150)]
    assert sorted(len(batch) for batch in exchange.batches) == [8, 8, 8, 8, 8, 50]


async def test_no_more_exchanges_than_allowed_are_under_way_and_the_next_one_gathers_meanwhile(
    exchange: Exchange,
) -> None:
    gates = [Gate(), Gate()]
    exchange.before += gates
    callers = Callers(batcher(exchange, in_flight=2))
    async with anyio.create_task_group() as tasks:
        for n, gate in enumerate(gates, 1):
            tasks.start_soon(callers.ask, n)
            await gate.reached()
        for n in range(10, 30):
            tasks.start_soon(callers.ask, n)
            await anyio.wait_all_tasks_blocked()
        assert len(exchange.batches) == 2
        gates[0].open()
        await anyio.wait_all_tasks_blocked()
        assert callers.answers.keys() == {1, *range(10, 30)}
        gates[1].open()
    assert exchange.batches[2:] == [list(range(10, 30))]
    assert exchange.most_under_way == 2


async def test_an_error_reaches_every_caller_of_its_exchange_and_no_other(exchange: Exchange) -> None:
    callers = Callers(batcher(exchange))
    exchange.errors.append(StoreUnavailableError("away"))
    async with anyio.create_task_group() as tasks:
        for n in (1, 2, 3):
            tasks.start_soon(callers.ask, n)
    assert callers.errors.keys() == {1, 2, 3}
    await callers.ask(4)
    assert callers.answers == {4: [-4]}


async def test_a_defect_is_the_leaders_alone_and_the_others_ask_again(exchange: Exchange) -> None:
    callers = Callers(batcher(exchange))
    exchange.errors.append(ZeroDivisionError())
    async with anyio.create_task_group() as tasks:
        for n in (1, 2, 3):
            tasks.start_soon(callers.ask, n)
    assert len(callers.errors) == 1
    assert len(callers.answers) == 2
    assert len(exchange.batches) == 2


async def gather(
    exchange: Exchange, callers: Callers, leader: TaskGroup, others: TaskGroup, followers: Sequence[int]
) -> None:
    """A batch led by the caller of 1 in one group and followed by others: it is sent as this returns.

    All loops agree on who leads since an exchange that is under way (of 0) holds the batch up meanwhile.
    """
    busy = Gate()
    exchange.before.insert(0, busy)
    others.start_soon(callers.ask, 0)
    await busy.reached()
    leader.start_soon(callers.ask, 1)
    await anyio.wait_all_tasks_blocked()
    for n in followers:
        others.start_soon(callers.ask, n)
    await anyio.wait_all_tasks_blocked()
    busy.open()


async def test_a_leader_cancelled_in_mid_exchange_loses_nobody(exchange: Exchange) -> None:
    callers, gate = Callers(batcher(exchange, in_flight=1)), Gate()
    exchange.before.append(gate)
    async with anyio.create_task_group() as others, anyio.create_task_group() as leader:
        await gather(exchange, callers, leader, others, range(2, 30))
        await gate.reached()
        leader.cancel_scope.cancel()
    assert callers.answers == {n: [-n] for n in range(30) if n != 1}
    assert [len(batch) for batch in exchange.batches] == [1, 29, 28]


async def test_a_leader_cancelled_before_its_turn_loses_nobody(exchange: Exchange) -> None:
    """It still waits for one of the exchanges under way to end."""
    callers = Callers(batcher(exchange, in_flight=1))
    gate = Gate()
    exchange.before.append(gate)
    async with anyio.create_task_group() as others:
        others.start_soon(callers.ask, 1)
        await gate.reached()
        async with anyio.create_task_group() as leader:
            leader.start_soon(callers.ask, 2)
            await anyio.wait_all_tasks_blocked()
            others.start_soon(callers.ask, 3)
            others.start_soon(callers.ask, 4)
            await anyio.wait_all_tasks_blocked()
            leader.cancel_scope.cancel()
        gate.open()
    assert callers.answers == {1: [-1], 3: [-3], 4: [-4]}


async def test_a_leader_cancelled_at_once_asks_nothing(exchange: Exchange) -> None:
    callers = Callers(batcher(exchange))
    with anyio.CancelScope() as scope:
        scope.cancel()
        await callers.ask(1)
    await callers.ask(2)
    assert exchange.batches == [[2]]


async def test_a_cancelled_follower_disturbs_nobody(exchange: Exchange) -> None:
    callers, gate = Callers(batcher(exchange, in_flight=1)), Gate()
    exchange.before.append(gate)
    async with anyio.create_task_group() as others:
        async with anyio.create_task_group() as follower:
            await gather(exchange, callers, others, others, [2])
            follower.start_soon(callers.ask, 3)
            await gate.reached()
            follower.cancel_scope.cancel()
        gate.open()
    assert callers.answers == {0: [0], 1: [-1], 2: [-2]}


async def test_what_the_leader_does_after_the_answer_keeps_nobody_waiting(exchange: Exchange) -> None:
    callers, first, gate = Callers(batcher(exchange, in_flight=1)), Gate(), Gate()
    exchange.after += [first, gate]
    first.open()
    async with anyio.create_task_group() as tasks:
        await gather(exchange, callers, tasks, tasks, [2])
        await gate.reached()
        await anyio.wait_all_tasks_blocked()
        assert callers.answers == {0: [0], 2: [-2]}
        gate.open()
    assert callers.answers == {0: [0], 1: [-1], 2: [-2]}


async def test_a_leader_cancelled_after_the_answer_takes_it_from_nobody(exchange: Exchange) -> None:
    callers, first, gate = Callers(batcher(exchange, in_flight=1)), Gate(), Gate()
    exchange.after += [first, gate]
    first.open()
    async with anyio.create_task_group() as others, anyio.create_task_group() as leader:
        await gather(exchange, callers, leader, others, [2])
        await gate.reached()
        leader.cancel_scope.cancel()
    assert callers.answers == {0: [0], 2: [-2]}
    assert len(exchange.batches) == 2


async def test_each_loop_has_batches_of_its_own(exchange: Exchange) -> None:
    batches = batcher(exchange)
    here, gate = Callers(batches), Gate()
    exchange.before.append(gate)
    there: list[Any] = []

    async def ask() -> None:
        there.extend(await batches.ask([2]))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(here.ask, 1)
        await gate.reached()
        thread = threading.Thread(target=anyio.run, args=(ask,))
        thread.start()
        await anyio.to_thread.run_sync(thread.join)
        gate.open()
    assert (there, here.answers) == ([-2], {1: [-1]})


def test_loops_in_turn_begin_anew(exchange: Exchange) -> None:
    """One of them ends in the middle of an exchange."""
    batches = batcher(exchange, in_flight=1)

    async def abandon() -> None:
        gate = Gate()
        exchange.before.append(gate)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(batches.ask, [1])
            await gate.reached()
            tasks.cancel_scope.cancel()

    async def ask() -> list[int]:
        with anyio.fail_after(PATIENCE_SECONDS):
            return list(await batches.ask([2]))

    anyio.run(abandon)
    assert anyio.run(ask) == [-2]
    assert asyncio.run(ask()) == [-2]
    assert anyio.run(ask, backend="trio") == [-2]


def test_a_task_that_asyncio_cancels_loses_nobody_either(exchange: Exchange) -> None:
    batches = batcher(exchange)

    async def main() -> None:
        gate = Gate()
        exchange.before.append(gate)
        leader = asyncio.create_task(batches.ask([1]))
        others = [asyncio.create_task(batches.ask([n])) for n in (2, 3)]
        await gate.reached()
        leader.cancel()
        assert [list(await other) for other in others] == [[-2], [-3]]
        with pytest.raises(asyncio.CancelledError):
            await leader

    asyncio.run(main())
