"""What can happen to a call on its way to a tier and back: by plan, or by chance from a seed."""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple, TypeVar

import anyio

from tiered_cache._errors import TieredCacheError

from ._gates import Gate

T = TypeVar("T")

When = Literal["before", "after"]

#: "fail": the call is lost on its way. "lose": its answer is, after it was carried out. "delay" and "hang": it comes
#: late, or never. "corrupt": bits of the answer are flipped, or its end is missing. "drop": the cells of its keys
#: vanish from the front.
Fault = Literal["fail", "lose", "delay", "hang", "corrupt", "drop"]

_WHEN: Final[dict[Fault, When]] = {"lose": "after", "corrupt": "after"}


class Call(NamedTuple):
    """One exchange with a tier, and how many keys were in it."""

    name: str
    keys: int


@dataclass
class Exchange:
    """A call under way. `work` carries it out; `answer` is what it will return, once there is one."""

    name: str
    keys: Sequence[bytes]
    work: Callable[[], Awaitable[Any]]
    answer: Any = None


Act = Callable[[Exchange], Awaitable[None]]


class _Plan(NamedTuple):
    name: str
    when: When
    act: Act


@dataclass
class _Chance:
    """What may happen to any call."""

    probability: float
    faults: Sequence[Fault]
    seconds: float


class Faulty:
    """A tier that counts its calls and does to them what was planned. Used from any loop and any thread.

    A plan is for the next call of a name, and used once; plans for one name come in their order. `before` the inner
    tier is asked, or `after` it has answered.
    """

    def __init__(self) -> None:
        #: Every call so far, those that failed too.
        self.calls: list[Call] = []
        #: Nothing answers while it is true, and nothing arrives.
        self.down = False
        self._plans: list[_Plan] = []
        self._chance: _Chance | None = None
        self._dice = random.Random(0)  # noqa: S311 (repeatable, not secret)
        self._lock = threading.Lock()

    def count(self, name: str) -> int:
        """How many calls of this name there were."""
        return self.counts[name]

    @property
    def counts(self) -> Counter[str]:
        """How many calls there were, by name."""
        return Counter(call.name for call in list(self.calls))

    # --- by plan ------------------------------------------------------------------------------------------------------

    def fail(self, name: str, when: When = "before", error: Exception | None = None) -> None:
        """The call is lost on the way there, or (`after`) its answer on the way back. `error` in place of the usual."""

        async def fail(exchange: Exchange) -> None:
            raise error or self._unavailable(f"{exchange.name} fails, as planned", when)

        self._plan(name, when, fail)

    def delay(self, name: str, seconds: float, when: When = "before") -> None:
        """The call, or its answer, is so much longer on its way."""
        self.plan(name, when, lambda: anyio.sleep(seconds))

    def stop(self, name: str, when: When = "before") -> Gate:
        """The call, or its answer, waits at a gate until that is opened."""
        gate = Gate()
        self.plan(name, when, gate.wait)
        return gate

    def hang(self, name: str, when: When = "before") -> None:
        """The call, or its answer, never arrives, and nobody says so."""
        self.plan(name, when, anyio.sleep_forever)

    def corrupt(self, name: str) -> None:
        """What the call reads comes back damaged: each cell or envelope with a bit flipped, or cut short."""
        self._plan(name, "after", self._act("corrupt", 0))

    def plan(self, name: str, when: When, act: Callable[[], Awaitable[None]]) -> None:
        """Awaits `act` before or after the call: anything else a test can think of."""
        self._plan(name, when, lambda _: act())

    def forget_plans(self) -> None:
        """Nothing is planned any more."""
        with self._lock:
            self._plans.clear()

    # --- by chance ----------------------------------------------------------------------------------------------------

    def at_random(
        self,
        probability: float,
        *,
        seed: int = 0,
        faults: Collection[Fault] = ("fail", "lose", "delay", "corrupt", "drop"),
        seconds: float = 0.01,
    ) -> None:
        """From now on each call has one of these faults with this probability; 0 ends it.

        The same seed and the same order of calls give the same faults. `seconds` is the longest delay. A fault that
        this tier does not have (nothing drops out of a store) does not happen.
        """
        with self._lock:
            self._dice.seed(seed)
            self._chance = _Chance(probability, tuple(faults), seconds)

    # --- the way of a call --------------------------------------------------------------------------------------------

    async def _pass_on(self, name: str, keys: Sequence[bytes], work: Callable[[], Awaitable[T]]) -> T:
        self.calls.append(Call(name, len(keys)))
        if self.down:
            raise self._unavailable("down, as planned", "before")
        exchange = Exchange(name, keys, work)
        when, by_chance = self._draw()
        await self._meet(exchange, "before", by_chance if when == "before" else None)
        exchange.answer = await work()
        await self._meet(exchange, "after", by_chance if when == "after" else None)
        return exchange.answer

    async def _meet(self, exchange: Exchange, when: When, by_chance: Act | None) -> None:
        if by_chance is not None:
            await by_chance(exchange)
        with self._lock:
            plan = next((plan for plan in self._plans if plan[:2] == (exchange.name, when)), None)
            if plan is not None:
                self._plans.remove(plan)
        if plan is not None:
            await plan.act(exchange)

    def _plan(self, name: str, when: When, act: Act) -> None:
        with self._lock:
            self._plans.append(_Plan(name, when, act))

    def _draw(self) -> tuple[When, Act | None]:
        chance = self._chance
        if chance is None:
            return "before", None
        with self._lock:
            if self._dice.random() >= chance.probability:
                return "before", None
            fault = self._dice.choice(chance.faults)
            return _WHEN.get(fault, "before"), self._act(fault, self._dice.random() * chance.seconds)

    def _act(self, fault: Fault, seconds: float) -> Act:
        async def act(exchange: Exchange) -> None:
            match fault:
                case "fail" | "lose":
                    raise self._unavailable(f"{exchange.name} fails, by chance", _WHEN.get(fault, "before"))
                case "delay":
                    await anyio.sleep(seconds)
                case "hang":
                    await anyio.sleep_forever()
                case "corrupt":
                    exchange.answer = self._damaged(exchange.answer)
                case "drop":
                    await self._drop(exchange.keys)

        return act

    def _damage(self, content: bytes) -> bytes:
        """A bit of it flipped, or its end cut off; never equal to it, unless it is empty."""
        with self._lock:
            place, bit, cut = self._dice.randrange(max(1, len(content))), self._dice.randrange(8), self._dice.random()
        if not content or cut < 0.5:
            return content[:place]
        return content[:place] + bytes((content[place] ^ 1 << bit,)) + content[place + 1 :]

    def _unavailable(self, message: str, when: When) -> TieredCacheError:
        raise NotImplementedError

    def _damaged(self, answer: Any) -> Any:
        """An answer with what was read in it damaged."""
        raise NotImplementedError

    async def _drop(self, keys: Sequence[bytes]) -> None:
        """Nothing drops out of a store."""
