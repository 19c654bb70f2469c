"""How fresh a reader wants what he reads to be: said with the call, or round it where a framework makes the call."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from ._errors import ConfigurationError, NotCachedError
from ._options import check_ttl


@dataclass(frozen=True, slots=True)
class Freshness:
    """What a reader asks for. None: he does not say, and what is said round him counts."""

    max_age: float | None = None
    refresh: bool | None = None
    only_if_cached: bool | None = None

    def within(self, outer: Freshness | None) -> Freshness:
        if outer is None:
            return self
        return Freshness(
            outer.max_age if self.max_age is None else self.max_age,
            outer.refresh if self.refresh is None else self.refresh,
            outer.only_if_cached if self.only_if_cached is None else self.only_if_cached,
        )


#: What is said round the current call.
around: ContextVar[Freshness | None] = ContextVar("tiered_cache.freshness", default=None)


def asked(
    max_age: float | None = None, refresh: bool | None = None, only_if_cached: bool | None = None
) -> Freshness | None:
    """What a call says, and what is said round it. Raises ConfigurationError for what is wrong with it."""
    if max_age is None and refresh is None and only_if_cached is None:
        return around.get()
    for name, value in (("refresh", refresh), ("only_if_cached", only_if_cached)):
        if value is not None and type(value) is not bool:
            raise ConfigurationError(f"{name} is True, False, or None for what is said round the call, not {value!r}")
    if refresh and only_if_cached:
        raise ConfigurationError("refresh computes anew and only_if_cached computes nothing: give one of them")
    seconds = None if max_age is None else _check_age(max_age)
    return Freshness(seconds, refresh, only_if_cached).within(around.get())


@contextmanager
def freshness(
    *, max_age: float | None = None, refresh: bool | None = None, only_if_cached: bool | None = None
) -> Generator[None]:
    """How fresh everything has to be that any cache reads within, through the adapters as well.

    `max_age`, in seconds: what was made longer ago is a miss, for these reads only. So is what does not say when it was
    made, as written by the first release. An age is never taken to be less than it is.

    `refresh`: everything is a miss, so that it is computed anew and stored in place of what is there.

    `only_if_cached`: what would have to be computed raises NotCachedError, before anybody pays for it: in
    `get_or_compute`, `LangChainCache`, `CachedEmbeddings` and `LangGraphCache`. A plain `get` computes nothing and is
    as ever.

    It goes where context variables go: into awaited calls, tasks begun within, and synchronous calls. Where one is
    inside another, each field counts as the innermost says that says anything. Raises ConfigurationError for a
    `max_age` that is not above 0, and for `refresh` together with `only_if_cached`.
    """
    token = around.set(asked(max_age, refresh, only_if_cached))
    try:
        yield
    finally:
        around.reset(token)


def check_cached() -> None:
    """To be called where nothing was found: raises NotCachedError where the reader asked for `only_if_cached`."""
    wanted = around.get()
    if wanted is not None and wanted.only_if_cached:
        raise not_cached()


def not_cached() -> NotCachedError:
    return NotCachedError(
        "there is nothing in the cache for this, or nothing fresh enough, and only_if_cached forbids to compute it: "
        "explain(key) of its namespace says what there is"
    )


def _check_age(max_age: float) -> float:
    try:
        return check_ttl(max_age)
    except ConfigurationError:
        raise ConfigurationError(f"max_age is a number of seconds above 0, or None, not {max_age!r}") from None
