"""The figures that are aimed at: ratios of medians within one run, with the lowest and the highest of its rounds.

Two figures of different runs, machines or rounds are never divided by each other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import median

from .record import Figure, Sample

Measure = Callable[[Sample], float | None]
Rounds = Mapping[int, float]

_LANGCHAIN = "tiered-langchain-redis-postgres"
_NEAR = "tiered-langchain-near"
_LANGGRAPH = "tiered-langgraph-redis-postgres"
_EMBEDDED = "tiered-langgraph-embedded"
_ASYNC_REDIS = "langchain-AsyncRedisCache"
_SQLALCHEMY = "langchain-SQLAlchemyCache-postgres"
_WITHOUT_THE_RULE = "tiered-without-the-rule"


def figures(samples: Sequence[Sample]) -> list[Figure]:
    """Those for which the samples are there."""
    table = _Table(samples)
    standard = {"value_bytes": 2300}
    found = [
        table.ratio(
            "LangChain hit from Redis, 64 callers: rate against AsyncRedisCache",
            table.of("hit-front", _LANGCHAIN, rate, callers=64, batch=1, **standard),
            table.of("hit-front", _ASYNC_REDIS, rate, callers=64, batch=1, **standard),
            at_least=10,
        ),
        table.ratio(
            "LangChain hit from Redis, 1 caller: p50 against AsyncRedisCache",
            table.of("hit-front", _LANGCHAIN, p50, callers=1, batch=1, **standard),
            table.of("hit-front", _ASYNC_REDIS, p50, callers=1, batch=1, **standard),
            at_most=1,
        ),
        table.ratio(
            "LangChain hit from Redis, 1 caller: p50 against a raw redis-py GET",
            table.of("hit-front", _LANGCHAIN, p50, callers=1, batch=1, **standard),
            table.of("hit-front", "redis-py", p50, callers=1, batch=1, **standard),
            at_most=1.3,
        ),
        table.ratio(
            "LangChain hit from Redis with near_bytes, 1 caller: p50 against AsyncRedisCache",
            table.of("hit-front", _NEAR, p50, callers=1, batch=1, **standard),
            table.of("hit-front", _ASYNC_REDIS, p50, callers=1, batch=1, **standard),
            at_most=1,
        ),
        table.worst("hits lost, 256 callers at once", table.of("burst", _LANGCHAIN, lost, callers=256), "keys", 0),
        table.worst(
            "hits lost, 10,000 callers at once", table.of("burst", _LANGCHAIN, lost, callers=10_000), "keys", 0
        ),
        table.ratio(
            "LangChain hit from PostgreSQL, front empty, 64 callers: rate against SQLAlchemyCache",
            table.of("hit-store", _LANGCHAIN, rate, callers=64),
            table.of("hit-store", _SQLALCHEMY, rate, callers=64),
            at_least=20,
        ),
        table.ratio(
            "LangChain write-through, 64 callers: rate against SQLAlchemyCache on PostgreSQL",
            table.of("write", _LANGCHAIN, rate, callers=64, **standard),
            table.of("write", _SQLALCHEMY, rate, callers=64, **standard),
            at_least=10,
        ),
        table.ratio(
            "LangGraph aget of 16 keys, 1 caller: p50 against langgraph's RedisCache",
            table.of("hit-front", _LANGGRAPH, p50, callers=1, batch=16),
            table.of("hit-front", "langgraph-RedisCache", p50, callers=1, batch=16),
            at_most=1,
        ),
        *(
            table.middle(
                f"LangGraph aget of 16 keys, {callers} caller{'s' * (callers > 1)}: longest hold of the loop",
                table.of("hit-front", _LANGGRAPH, held, callers=callers, batch=16),
                "ms",
                5,
            )
            for callers in (1, 16)
        ),
        table.ratio(
            "embedded LangGraph hit, 64 callers: rate against langgraph's SqliteCache",
            table.of("hit-front", _EMBEDDED, rate, callers=64, batch=1),
            table.of("hit-front", "langgraph-SqliteCache", rate, callers=64, batch=1),
            at_least=10,
        ),
        *_clears(table),
        *(
            table.ratio(
                f"overhead of the rule: {callers} writer{'s' * (callers > 1)}, p50 against a plain SET at the end",
                table.of("write", _LANGCHAIN, p50, callers=callers, **standard),
                table.of("write", _WITHOUT_THE_RULE, p50, callers=callers, **standard),
                at_most=1.25,
            )
            for callers in (1, 64)
        ),
    ]
    return [figure for figure in found if figure is not None]


def _clears(table: _Table) -> list[Figure | None]:
    entries = sorted(table.values("clear", _LANGCHAIN, "entries"))
    if len(entries) < 2:
        return []
    few, many = entries[0], entries[-1]
    return [
        table.ratio(
            f"clear of a namespace among {many:,.0f} entries: p50 against among {few:,.0f}",
            table.of("clear", _LANGCHAIN, p50, entries=many),
            table.of("clear", _LANGCHAIN, p50, entries=few),
            at_most=1.25,
            note="the same, within a quarter",
        ),
        table.middle(
            f"clear of a namespace among {many:,.0f} entries: p50",
            {number: value * 1e3 for number, value in table.of("clear", _LANGCHAIN, p50, entries=many).items()},
            "ms",
            5,
        ),
    ]


def rate(sample: Sample) -> float | None:
    return sample.achieved or None


def p50(sample: Sample) -> float | None:
    return sample.latency.p50 if sample.latency else None


def lost(sample: Sample) -> float | None:
    """Hits that were not delivered, for whatever reason."""
    return sample.lost + sum(sample.errors.values())


def held(sample: Sample) -> float | None:
    """In milliseconds."""
    return sample.loop_held * 1e3


class _Table:
    def __init__(self, samples: Sequence[Sample]) -> None:
        self._samples = [sample for sample in samples if not sample.refused]

    def of(self, scenario: str, contender: str, measure: Measure, **params: float) -> Rounds:
        """What was measured, by round, in closed loops with these parameters."""
        return {
            sample.round: value
            for sample in self._samples
            if (sample.scenario, sample.contender, sample.mode) == (scenario, contender, "closed")
            and all(sample.params.get(name) == wanted for name, wanted in params.items())
            and (value := measure(sample)) is not None
        }

    def values(self, scenario: str, contender: str, param: str) -> set[float]:
        return {
            float(sample.params[param])
            for sample in self._samples
            if (sample.scenario, sample.contender) == (scenario, contender)
        }

    def ratio(
        self,
        name: str,
        mine: Rounds,
        theirs: Rounds,
        *,
        at_least: float | None = None,
        at_most: float | None = None,
        note: str = "",
    ) -> Figure | None:
        both = mine.keys() & theirs.keys()
        if not both:
            return None
        value = median(mine[number] for number in both) / median(theirs[number] for number in both)
        ratios = [mine[number] / theirs[number] for number in both]
        goal = at_least if at_least is not None else at_most
        assert goal is not None
        return Figure(name, value, "x", goal, at_least is not None, min(ratios), max(ratios), note)

    def middle(self, name: str, values: Rounds, unit: str, at_most: float) -> Figure | None:
        if not values:
            return None
        return Figure(name, median(values.values()), unit, at_most, False, min(values.values()), max(values.values()))

    def worst(self, name: str, values: Rounds, unit: str, at_most: float) -> Figure | None:
        """For what must never happen, the median would be no answer."""
        if not values:
            return None
        return Figure(name, max(values.values()), unit, at_most, False, min(values.values()), max(values.values()))
