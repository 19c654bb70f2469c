"""Every setting is checked at the door, whether it comes from the code or from the environment."""

from __future__ import annotations

import math
from dataclasses import FrozenInstanceError, fields
from pathlib import Path
from typing import Any, get_type_hints

import pytest

from tests.doubles import DictStore
from tiered_cache import ConfigurationError, MemoryFront, Options, TieredCache
from tiered_cache._options import OptionsDict, milliseconds, options_from_env

DURATIONS = ("watermark_ttl", "mark_ttl", "front_timeout", "store_timeout", "reclaim_interval", "near_staleness")
WHOLE = ("front_connections", "store_connections", "front_bytes", "batch_items", "batches_in_flight", "reclaim_rows")


def cache(**options: Any) -> TieredCache:
    return TieredCache(MemoryFront(), DictStore(), **options)


@pytest.mark.parametrize("value", [0, -1, math.nan, math.inf, 1e12, "5", True, b"", [1]], ids=repr)
@pytest.mark.parametrize("name", ["ttl", "front_ttl", *DURATIONS])
def test_a_duration_is_a_number_of_seconds_above_0(name: str, value: Any) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Options.of({name: value})
    assert repr(value) in str(caught.value)


@pytest.mark.parametrize("name", DURATIONS)
def test_only_the_ttls_may_be_none(name: str) -> None:
    with pytest.raises(ConfigurationError, match=name):
        Options.of({name: None})
    assert Options(ttl=None, front_ttl=None) == Options()


@pytest.mark.parametrize("value", [0, -1, 1.5, "5", True, None], ids=repr)
@pytest.mark.parametrize("name", WHOLE)
def test_a_number_of_things_is_whole_and_at_least_1(name: str, value: Any) -> None:
    with pytest.raises(ConfigurationError, match=name):
        Options.of({name: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[("front_ttl_jitter", value) for value in (-0.1, 1, 1.5, math.nan, "0.1", None)],
        *[("near_bytes", value) for value in (-1, 1.5, "5", True, None)],
        *[("setup", value) for value in ("later", "", None, True)],
        *[("prefix", value) for value in ("", None, b"bytes")],
    ],
)
def test_the_other_settings_are_checked_too(name: str, value: Any) -> None:
    with pytest.raises(ConfigurationError, match=name):
        Options.of({name: value})


def test_a_mark_must_outlive_the_statement_that_it_stands_for() -> None:
    with pytest.raises(ConfigurationError, match=r"mark_ttl.*store_timeout"):
        Options(mark_ttl=5, store_timeout=5)
    Options(mark_ttl=5.1, store_timeout=5)


def test_options_do_not_change() -> None:
    with pytest.raises(FrozenInstanceError):
        Options().ttl = 5  # pyright: ignore[reportAttributeAccessIssue]


def test_a_name_that_is_no_option_is_refused_with_those_that_are() -> None:
    with pytest.raises(ConfigurationError, match=r"tttl is no option; there are .*ttl"):
        cache(tttl=5)


def test_the_keyword_arguments_are_the_fields_of_options() -> None:
    assert get_type_hints(OptionsDict) == get_type_hints(Options)
    assert [field.name for field in fields(Options)] == list(OptionsDict.__annotations__)


def test_how_long_cells_stay_depends_on_who_else_sees_the_front(sqlite_url: str) -> None:
    assert cache().options.front_ttl == 5
    assert TieredCache("redis://localhost:1", sqlite_url).options.front_ttl == 3600
    assert cache(front_ttl=9).options.front_ttl == 9


def test_a_watermark_stays_in_the_front_no_longer_than_a_cell_may() -> None:
    assert cache(front_ttl=9).options.watermark_ttl == 9
    assert cache(front_ttl=90).options.watermark_ttl == 60
    assert cache(front_ttl=90, watermark_ttl=2).options.watermark_ttl == 2


def test_milliseconds_are_whole_and_never_none() -> None:
    assert [milliseconds(seconds) for seconds in (1e-9, 0.0015, 1, 2.5, 1e11)] == [1, 1, 1000, 2500, 10**14]


# --- the environment --------------------------------------------------------------------------------------------------


def test_settings_are_read_from_the_environment(tmp_path: Path) -> None:
    environ = {
        "HOME": "/root",
        "TIERED_CACHE_FRONT": "memory://",
        "TIERED_CACHE_STORE": f"sqlite:///{tmp_path / 'env.db'}",
        "TIERED_CACHE_TTL": "90.5",
        "TIERED_CACHE_FRONT_TTL": "none",
        "TIERED_CACHE_BATCH_ITEMS": "7",
        "TIERED_CACHE_SERVE_MISS": "true",
        "TIERED_CACHE_SETUP": "never",
        "TIERED_CACHE_TABLE_PREFIX": "mine_",
        "TIERED_CACHE_SCHEMA": "",
        "TIERED_CACHE_TEST_REDIS": "not for us",
    }
    made = TieredCache.from_env(environ)
    options = made.options
    assert (options.ttl, options.batch_items, options.serve_miss, options.setup) == (90.5, 7, True, "never")
    assert (options.schema, options.front_ttl) == (None, 5)
    assert "env.db" in repr(made)
    assert "mine_" in made.ddl()


def test_an_empty_environment_gives_the_defaults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for environ in ({}, {"TIERED_CACHE_FRONT": "", "TIERED_CACHE_STORE": ""}):
        made = TieredCache.from_env(environ)
        assert made.options == cache().options
        assert repr(made) == repr(TieredCache())
    assert not list(tmp_path.iterdir()), "making a cache opens nothing"


def test_the_environment_of_the_process_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIERED_CACHE_BATCH_ITEMS", "11")
    assert TieredCache.from_env().options.batch_items == 11


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("TIERED_CACHE_TTL", "an hour"),
        ("TIERED_CACHE_TTL", "nan"),
        ("TIERED_CACHE_FRONT_TIMEOUT", ""),
        ("TIERED_CACHE_BATCH_ITEMS", "7.5"),
        ("TIERED_CACHE_SERVE_MISS", "perhaps"),
        ("TIERED_CACHE_SETUP", "later"),
        ("TIERED_CACHE_MARK_TTL", "0"),
    ],
)
def test_a_wrong_value_in_the_environment_is_an_error(variable: str, text: str) -> None:
    with pytest.raises(ConfigurationError):
        TieredCache.from_env({variable: text})


def test_a_misspelt_variable_is_an_error_and_not_without_effect() -> None:
    with pytest.raises(ConfigurationError, match=r"TIERED_CACHE_TTLS is no setting; there are .*ttl"):
        options_from_env({"TIERED_CACHE_TTLS": "5"})


# --- what a cache is made of ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("front", [5, object(), "http://localhost", "memcached://a"], ids=repr)
def test_what_is_no_front_is_refused(front: Any) -> None:
    with pytest.raises(ConfigurationError):
        TieredCache(front, DictStore())


@pytest.mark.parametrize("store", [5, object(), "mongodb://a", "no url"], ids=repr)
def test_what_is_no_store_is_refused(store: Any) -> None:
    with pytest.raises(ConfigurationError):
        TieredCache(MemoryFront(), store)


def test_only_a_sql_store_has_ddl(sqlite_url: str) -> None:
    with pytest.raises(ConfigurationError, match="DictStore"):
        cache().ddl()
    assert "CREATE TABLE" in TieredCache(MemoryFront(), sqlite_url).ddl()
