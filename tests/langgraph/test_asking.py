"""Which keys are looked up, by who asks: stand-ins with the names and the variables of LangGraph's own functions.

That LangGraph still has these is shown by the tests with graphs, which fail where it is not recognised.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from tiered_cache.langgraph._asking import keys_to_look_up

Asking = Callable[[Sequence[str]], Sequence[str] | None]
Tasks = list[tuple[str, object]]

A, B, C = object(), object(), object()


def match_cached_writes(tasks: Tasks, get: Asking) -> Sequence[str] | None:
    cached = dict(tasks)
    return get(tuple(cached))


def accept_push(tasks: Tasks, pushed: object, get: Asking = keys_to_look_up) -> Sequence[str] | None:
    return match_cached_writes(tasks, get)


def stream(tasks: Tasks, get: Asking = keys_to_look_up) -> Sequence[str] | None:
    return match_cached_writes(tasks, get)


def something_new(tasks: Tasks) -> Sequence[str] | None:
    return match_cached_writes(tasks, keys_to_look_up)


def test_before_any_task_runs_all_are_looked_up() -> None:
    assert stream([("a", A), ("b", B)]) == ("a", "b")


def test_then_only_the_one_to_be_started_is() -> None:
    assert accept_push([("a", A), ("b", B), ("c", C)], B) == ["b"]


def test_one_that_needs_no_lookup_costs_none() -> None:
    assert accept_push([("a", A)], B) == []


def test_of_two_with_one_key_only_that_which_is_given_the_result_counts() -> None:
    assert accept_push([("a", A), ("a", B)], B) == ["a"]
    assert accept_push([("a", A), ("a", B)], A) == []


def through(levels: int) -> Asking:
    def get(keys: Sequence[str]) -> Sequence[str] | None:
        return through(levels - 1)(keys) if levels else keys_to_look_up(keys)

    return get


def test_a_cache_in_between_changes_nothing() -> None:
    assert accept_push([("a", A), ("b", B)], B, through(3)) == ["b"]


@pytest.mark.parametrize(
    "ask",
    [
        lambda: keys_to_look_up(["a"]),
        lambda: something_new([("a", A)]),
        lambda: accept_push([("a", A)], None),
        lambda: accept_push([("a", A)], A, through(50)),
        lambda: accept_push([("a", A)], A, lambda keys: keys_to_look_up([f"renamed {key}" for key in keys])),
    ],
    ids=["nobody", "another function", "nothing started", "far away", "other keys"],
)
def test_who_is_not_recognised_is_told_so(ask: Callable[[], Sequence[str] | None]) -> None:
    assert ask() is None
