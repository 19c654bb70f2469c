"""Every setting, once, with its unit, checked at the door."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Final, Literal, TypedDict, cast

from ._errors import ConfigurationError
from ._zstd import check_installed

Setup = Literal["now", "background", "never"]

MAX_TTL_SECONDS: Final = 1e11

#: What `front_ttl` is by default: where all processes share the front, and where each has one of its own.
SHARED_FRONT_TTL: Final = 3600.0
LOCAL_FRONT_TTL: Final = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How a cache behaves. Durations are in seconds, sizes in bytes."""

    #: How long an entry is valid where the namespace and the call say nothing; None: until it is cleared.
    ttl: float | None = None
    #: The longest that a cell stays in the front. Also the bound on staleness where a front loses what it acknowledged,
    #: and, for a front that only this process sees, where another process writes to the store. None: 3600 s for a
    #: front that processes share, 5 s for `memory://`.
    front_ttl: float | None = None
    #: The share of `front_ttl` by which cells written together differ in their expiry.
    front_ttl_jitter: float = 0.1
    #: How long the front may keep its copy of when a namespace was last cleared.
    watermark_ttl: float = 60.0
    #: How long a mark of somebody who never settles (a killed process) keeps a key out of the front.
    mark_ttl: float = 10.0
    #: How long one exchange with the front may take, connecting included, before the store is asked instead.
    front_timeout: float = 0.1
    #: For how long at least half of the exchanges with the front must have failed before it is spared; and how often it
    #: is then tried whether it answers again, by one exchange. So are reads of a store that keeps its callers waiting.
    breaker_window: float = 0.5
    breaker_retry: float = 1.0
    #: How soon other processes are told of a change of which the front could not be told, once it answers again.
    recovery_interval: float = 5.0
    #: How long a process that died in `get_or_compute` keeps the others from computing.
    lease_ttl: float = 5.0
    #: The share of hits in the front that are compared with the store, 1, 10 and 60 s later. Each costs three reads.
    audit_share: float = 0.0
    #: How long one statement in the store may take, waiting for a connection included.
    store_timeout: float = 5.0
    #: Connections to Redis, for each event loop.
    front_connections: int = 16
    #: Connections to the database, for each event loop (for a driver that runs in threads: at most this many threads).
    store_connections: int = 8
    #: What the in-process front holds at most. All caches of a process share it: the largest that one asks for counts.
    front_bytes: int = 64 * 1024 * 1024
    #: What is held in this process, in front of Redis, of what it has read there; 0: nothing. Needs a front in Redis.
    near_bytes: int = 0
    #: The longest that a change by another process may go unseen by readers to whom that gives an older value. It is
    #: seen as soon as Redis says so, where that is sooner. This process's own changes are seen at once.
    near_staleness: float = 1.0
    #: Begins every key in Redis.
    prefix: str = "tiered_cache"
    #: Begins the name of every table in the database.
    table_prefix: str = "tiered_cache_"
    #: The database schema that holds the tables; None: the connection's default.
    schema: str | None = None
    #: When tables are created: before the first use ("now"), after opening, while reads miss ("background"), or
    #: by someone else ("never": print the DDL with `ddl()` and apply it as you apply your own).
    setup: Setup = "now"
    #: Whether a read is a miss where the store is needed and does not answer, instead of StoreUnavailableError.
    serve_miss: bool = False
    #: Keys that share one exchange with a tier at most, and exchanges of one kind that a loop has under way at most.
    batch_items: int = 512
    batches_in_flight: int = 2
    #: What such an exchange carries at most, values counted; a single value may be larger.
    batch_bytes: int = 4 * 1024 * 1024
    #: Values that take more bytes than this are compressed in both tiers (extra `zstd`); None: none are. It saves space
    #: and time on the wire, about 60 % of text, for about 2 us a kB at writing and 1 us at reading. Every process that
    #: reads them needs the extra, and not the option: without it they are misses, counted as corrupt.
    compress_above: int | None = None
    #: How often expired and cleared rows are looked for, and how many are removed in one statement.
    reclaim_interval: float = 60.0
    reclaim_rows: int = 500

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Options:
        """Raises ConfigurationError for a name that is no option."""
        known = {field.name for field in fields(cls)}
        for name in given:
            if name not in known:
                raise ConfigurationError(f"{name} is no option; there are {', '.join(sorted(known))}")
        return cls(**given)

    def with_front_ttl(self, default: float) -> Options:
        """The same with `front_ttl` filled in, which also bounds `watermark_ttl`."""
        front_ttl = default if self.front_ttl is None else self.front_ttl
        return replace(self, front_ttl=front_ttl, watermark_ttl=min(self.watermark_ttl, front_ttl))

    def __post_init__(self) -> None:
        if self.ttl is not None:
            check_ttl(self.ttl)
        if self.front_ttl is not None:
            check_ttl(self.front_ttl)
        for name in (
            *("watermark_ttl", "mark_ttl", "front_timeout", "breaker_window", "breaker_retry", "recovery_interval"),
            *("lease_ttl", "store_timeout", "reclaim_interval", "near_staleness"),
        ):
            _check(
                name,
                getattr(self, name),
                (int, float),
                lambda x: 0 < x <= MAX_TTL_SECONDS,
                "a number of seconds above 0",
            )
        for name in (
            "front_connections",
            "store_connections",
            "front_bytes",
            "batch_items",
            "batches_in_flight",
            "batch_bytes",
            "reclaim_rows",
        ):
            _check(name, getattr(self, name), (int,), lambda x: x >= 1, "a whole number, 1 or more")
        _check("near_bytes", self.near_bytes, (int,), lambda x: x >= 0, "a number of bytes, 0 for none")
        if self.compress_above is not None:
            _check("compress_above", self.compress_above, (int,), lambda x: x >= 0, "a number of bytes, or None")
            check_installed()
        _check(
            "front_ttl_jitter", self.front_ttl_jitter, (int, float), lambda x: 0 <= x < 1, "a share from 0 to below 1"
        )
        _check("audit_share", self.audit_share, (int, float), lambda x: 0 <= x <= 1, "a share from 0 to 1")
        _check("prefix", self.prefix, (str,), bool, "a text that is not empty")
        _check(
            "setup", self.setup, (str,), lambda x: x in ("now", "background", "never"), '"now", "background" or "never"'
        )
        if self.store_timeout >= self.mark_ttl:
            raise ConfigurationError(
                f"mark_ttl ({self.mark_ttl} s) must be longer than store_timeout ({self.store_timeout} s): "
                "a mark has to outlive the statement that it stands for"
            )


class OptionsDict(TypedDict, total=False):
    """The fields of `Options` as keyword arguments."""

    ttl: float | None
    front_ttl: float | None
    front_ttl_jitter: float
    watermark_ttl: float
    mark_ttl: float
    front_timeout: float
    breaker_window: float
    breaker_retry: float
    recovery_interval: float
    lease_ttl: float
    audit_share: float
    store_timeout: float
    front_connections: int
    store_connections: int
    front_bytes: int
    near_bytes: int
    near_staleness: float
    prefix: str
    table_prefix: str
    schema: str | None
    setup: Setup
    serve_miss: bool
    batch_items: int
    batches_in_flight: int
    batch_bytes: int
    compress_above: int | None
    reclaim_interval: float
    reclaim_rows: int


def _check(name: str, value: Any, kinds: tuple[type, ...], good: Callable[[Any], bool], wanted: str) -> None:
    if not isinstance(value, kinds) or isinstance(value, bool) or not good(value):
        raise ConfigurationError(f"{name} is {wanted}, not {value!r}")


def check_ttl(ttl: Any) -> float:
    """Raises ConfigurationError unless `ttl` is a number of seconds above 0 (and not beyond all calendars)."""
    if isinstance(ttl, bool) or not isinstance(ttl, (int, float)) or math.isnan(ttl) or not 0 < ttl <= MAX_TTL_SECONDS:
        raise ConfigurationError(
            f"a ttl is a number of seconds above 0 and up to {MAX_TTL_SECONDS:g}, or None for no expiry, not {ttl!r}"
        )
    return float(ttl)


def milliseconds(seconds: float) -> int:
    """At least 1: Redis refuses an expiry of 0."""
    return max(1, int(seconds * 1000))


def options_from_env(environ: Mapping[str, str], prefix: str = "TIERED_CACHE_") -> OptionsDict:
    """The settings found in `TIERED_CACHE_<NAME>`; `FRONT` and `STORE` are left to the caller.

    Raises ConfigurationError for a value of the wrong kind, and for a name that is no setting: a misspelt one must not
    be silently without effect.
    """
    kinds: dict[str, str] = {field.name: str(field.type) for field in fields(Options)}
    found: dict[str, Any] = {}
    for variable, text in environ.items():
        if not variable.startswith(prefix):
            continue
        name = variable.removeprefix(prefix).lower()
        if name in ("front", "store") or name.startswith("test_"):
            continue
        if name not in kinds:
            raise ConfigurationError(f"{variable} is no setting; there are {', '.join(sorted(kinds))}")
        found[name] = _parse(variable, text, kinds[name])
    return cast("OptionsDict", found)


def _parse(variable: str, text: str, kind: str) -> Any:
    if "None" in kind and text.strip().lower() in ("", "none"):
        return None
    try:
        if kind.startswith("bool"):
            return {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}[text.strip().lower()]
        if kind.startswith("int"):
            return int(text)
        if kind.startswith("float"):
            return float(text)
    except (ValueError, KeyError):
        raise ConfigurationError(f"{variable} must be a {kind}, not {text!r}") from None
    return text
