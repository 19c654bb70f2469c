"""`stable_key`: equal values have one key, in every process and for ever; others have others."""

from __future__ import annotations

import copy
import dataclasses
import functools
import json
import os
import re
import struct
import subprocess
import sys
import time
from collections import OrderedDict, defaultdict
from collections.abc import Callable
from decimal import Decimal
from enum import Enum
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple, cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, RemoveMessage
from pydantic import BaseModel, SecretStr

import tiered_cache
from tests.stable_values import Client, Colour, Point, Question, Search, values
from tiered_cache import UnsupportedValueError, stable_key

GOLDEN: Final[dict[str, str]] = json.loads((Path(__file__).parent / "stable_keys.json").read_text())


# --- one key for equal values -----------------------------------------------------------------------------------------


def test_keys_are_those_of_every_release() -> None:
    """A key that changes here is a result that is lost to everybody who keeps it. Add to the table; change nothing."""
    assert {name: stable_key(value) for name, value in values().items()} == GOLDEN


def test_keys_of_different_values_differ() -> None:
    assert len(set(GOLDEN.values())) == len(GOLDEN)


def keys_in_processes(*program: str, seeds: int) -> list[dict[str, str]]:
    """The same program in several processes, each with another hash seed."""
    running = [
        subprocess.Popen(
            [sys.executable, *program], env={**os.environ, "PYTHONHASHSEED": str(seed)}, stdout=subprocess.PIPE
        )
        for seed in range(1, seeds + 1)
    ]
    return [json.loads(process.communicate(timeout=60)[0]) for process in running]


PICKLED: Final = """
import hashlib, json, pickle
from tests.stable_values import values
found = {}
for name, value in values().items():
    try:
        found[name] = hashlib.sha256(pickle.dumps(value)).hexdigest()
    except Exception:
        continue
print(json.dumps(found))
"""


def test_every_process_has_the_same_keys() -> None:
    """The program is run as `__main__` there, and imported here."""
    assert keys_in_processes("-m", "tests.stable_values", seeds=4) == [GOLDEN] * 4


def test_the_naive_way_has_others_in_every_process() -> None:
    one, other = keys_in_processes("-c", PICKLED, seeds=2)
    differing = {name for name in one if one[name] != other[name]}
    assert {"set", "frozenset", "dict", "pydantic", "dataclass", "state"} <= differing


def test_arguments_by_name_come_in_no_order() -> None:
    assert stable_key(1, a=2, b=3) == stable_key(1, b=3, a=2)
    assert stable_key(1, a=2) != stable_key(1, 2)
    assert stable_key() != stable_key(None)
    assert stable_key(**{"args[0]": 1}) != stable_key(1)


@pytest.mark.parametrize(
    "apart",
    [
        pytest.param([1, True, 1.0, Decimal(1), "1", b"1", 1 + 0j, np.int64(1)], id="one"),
        pytest.param(
            [0.0, -0.0, 0, False, None, "", list[int](), (), dict[int, int](), set[int](), frozenset[int]()],
            id="nothing",
        ),
        pytest.param([Decimal("1.0"), Decimal("1.00")], id="decimals"),
        pytest.param([["a", "b"], ["ab"], ["astr:b"], ["a3:str:1:b"], [["a"], "b"], [["a", "b"]]], id="borders"),
        pytest.param([{"a": "b"}, {"b": "a"}, ["a", "b"], [("a", "b")], {"a", "b"}], id="pairs"),
        pytest.param([RemoveMessage("1"), RemoveMessage("2")], id="messages that are nothing but an id"),
    ],
)
def test_what_can_be_told_apart_has_keys_of_its_own(apart: list[Any]) -> None:
    assert len({stable_key(value) for value in apart}) == len(apart)


def test_a_nan_is_a_nan() -> None:
    negative = struct.unpack(">d", bytes.fromhex("fff8000000000001"))[0]
    assert stable_key(float("nan")) == stable_key(negative) == stable_key(-float("nan"))


def test_a_dict_has_no_order_and_an_ordered_dict_has() -> None:
    assert stable_key({"a": 1, "b": 2}) == stable_key({"b": 2, "a": 1})
    assert stable_key(OrderedDict(a=1, b=2)) != stable_key(OrderedDict(b=2, a=1))


def test_what_was_set_in_a_model_does_not_matter() -> None:
    given_all = Question(text="q", tags=set(), points=[])
    assert given_all.model_fields_set != Question(text="q").model_fields_set
    assert stable_key(given_all) == stable_key(Question(text="q"))
    assert stable_key(Question.model_validate({"text": "q", "more": 1})) != stable_key(Question(text="q"))


def test_fields_that_are_not_compared_do_not_count() -> None:
    assert stable_key(Search("q", client=1)) == stable_key(Search("q", client=object()))


# --- messages ---------------------------------------------------------------------------------------------------------


def answer(**more: Any) -> AIMessage:
    """As LangChain makes them: what it changes in a hit, it assigns without validating."""
    return AIMessage("hello").model_copy(update=more)


@pytest.mark.parametrize(
    ("as_computed", "as_hit"),
    [
        pytest.param(answer(id="1"), answer(id="2"), id="id"),
        pytest.param(answer(), answer(usage_metadata={"total_cost": 0}), id="usage of none"),
        pytest.param(
            answer(usage_metadata={"input_tokens": 1, "output_tokens": 2, "total_tokens": 3}),
            answer(usage_metadata={"input_tokens": 1, "output_tokens": 2, "total_tokens": 3, "total_cost": 0}),
            id="usage",
        ),
        pytest.param(
            answer(response_metadata={"model_name": "m"}),
            answer(response_metadata={"model_name": "m", "tiered_cache": {"hit": True}}),
            id="marker",
        ),
    ],
)
def test_what_a_cache_adds_to_an_answer_does_not_count(as_computed: AnyMessage, as_hit: AnyMessage) -> None:
    assert stable_key(as_computed) == stable_key(as_hit)


def test_whatever_else_a_message_says_counts() -> None:
    assert stable_key(HumanMessage("hi", name="a")) != stable_key(HumanMessage("hi", name="b"))
    assert stable_key(HumanMessage("hi")) != stable_key(AIMessage("hi"))
    assert stable_key(answer(response_metadata={"a": 1})) != stable_key(answer())
    assert stable_key(HumanMessage("hi", more=1)) != stable_key(HumanMessage("hi"))


# --- arrays -----------------------------------------------------------------------------------------------------------


def test_an_array_is_its_elements_however_they_lie_in_memory() -> None:
    array = np.arange(12, dtype=np.int32).reshape(3, 4)
    same = [np.asfortranarray(array), array.astype(">i4"), np.repeat(array, 2, axis=1)[:, ::2], array.copy()]
    assert {stable_key(each) for each in same} == {stable_key(array)}
    others = [array.T, array.reshape(4, 3), array.astype(np.int64), array.astype(np.float32), array.tolist(), array[:2]]
    assert len({stable_key(each) for each in [array, *others]}) == 1 + len(others)


def test_nan_is_nan_in_arrays_whatever_the_processor_says() -> None:
    for kind in (np.float16, np.float32, np.float64):
        one, other = np.array([-np.nan, 1], dtype=kind), np.array([np.nan, 1], dtype=kind)
        assert one.tobytes() != other.tobytes()
        assert stable_key(one) == stable_key(other)
        assert stable_key(one[0]) == stable_key(other[0])
    assert stable_key(np.array([complex(-np.nan, 1)])) == stable_key(np.array([complex(np.nan, 1)]))
    assert stable_key(np.array([1, complex(np.nan, 1)])) != stable_key(np.array([1, complex(np.nan, 2)]))


def test_an_array_of_variable_text_is_its_words() -> None:
    kind: Any = np.dtypes.StringDType()
    words = ["a", "a word that is too long to be kept in place" * 3]
    assert stable_key(np.array(words, dtype=kind)) == stable_key(np.array(list(words), dtype=kind))
    assert stable_key(np.array(words, dtype=kind)) != stable_key(np.array(words[::-1], dtype=kind))


# --- what has no key --------------------------------------------------------------------------------------------------


def local() -> None: ...


local.__qualname__ = "another"


class Shout(str):
    """Has a state that its text does not tell."""

    volume: int


class Slot(str):
    __slots__ = ("volume",)


SECRET: Final = "sk-secret"


def containing_itself() -> list[Any]:
    values: list[Any] = []
    values.append(values)
    return values


def loud() -> Shout:
    shout = Shout(SECRET)
    shout.volume = 11
    return shout


class Holder(BaseModel):
    key: SecretStr


@pytest.mark.parametrize(
    ("value", "place", "kind"),
    [
        pytest.param(object, "args[0]", "builtins:object", id="object"),
        pytest.param(lambda: {"docs": [0, {"a": object()}]}, "args[0]['docs'][1]['a']", "builtins:object", id="nested"),
        pytest.param(lambda: {SECRET: object()}, "args[0][<str>]", "builtins:object", id="a key that is data"),
        pytest.param(lambda: Search("q", {"a": {object()}}), "args[0].filters['a']{...}", "builtins:object", id="set"),
        pytest.param(lambda: Holder(key=SecretStr(SECRET)), "args[0].key", "pydantic.types:SecretStr", id="model"),
        pytest.param(lambda: np.array([1, object()], dtype=object), "args[0].flat[1]", "builtins:object", id="array"),
        pytest.param(lambda: np.zeros(2, np.longdouble), "args[0]", "an array of", id="long double"),
        pytest.param(lambda: np.ma.masked_array([1], [True]), "args[0]", "MaskedArray", id="masked array"),
        pytest.param(lambda: lambda: None, "args[0]", "<lambda>", id="lambda"),
        pytest.param(lambda: local, "args[0]", "another", id="function of another name"),
        pytest.param(lambda: partial(print), "args[0]", "functools:partial", id="partial"),
        pytest.param(lambda: list[int]().append, "args[0]", "list.append", id="method of a list"),
        pytest.param(lambda: (each for each in ()), "args[0]", "builtins:generator", id="generator"),
        pytest.param(loud, "args[0]", "tests.test_stable:Shout", id="subclass with a state"),
        pytest.param(lambda: Slot(SECRET), "args[0]", "tests.test_stable:Slot", id="subclass with a slot"),
        pytest.param(containing_itself, "args[0][0][0]", "100 levels", id="containing itself"),
    ],
)
def test_what_cannot_be_told_apart_is_refused_by_place_type_and_cure(
    value: Callable[[], Any], place: str, kind: str
) -> None:
    with pytest.raises(UnsupportedValueError) as caught:
        stable_key(value())
    message = str(caught.value)
    assert message.startswith(place)
    assert kind in message
    assert any(cure in message for cure in ("__stable_key__", "leave it out", "convert it"))
    assert SECRET not in message


def test_an_argument_is_named() -> None:
    with pytest.raises(UnsupportedValueError, match=r"^state\['a'\]: "):
        stable_key(state={"a": object()})


def test_no_subclass_passes_for_what_it_is_made_of() -> None:
    assert stable_key(loud().upper()) == stable_key(SECRET.upper())
    assert stable_key(Point(1, 2)) != stable_key((1, 2))
    assert stable_key(Colour.RED) != stable_key("r")
    assert stable_key(np.float64(1)) != stable_key(1.0)


def test_a_class_says_by_itself_what_identifies_its_objects() -> None:
    assert stable_key(Client("a")) == stable_key(Client("a"))
    assert stable_key(Client("a")) != stable_key(Client("b"))
    assert stable_key(Client("a")) != stable_key("a")


@dataclasses.dataclass
class OwnWord:
    """It goes before the rules of its kind."""

    name: str
    seen: float

    def __stable_key__(self) -> str:
        return self.name


def test_its_own_word_goes_before_all_rules() -> None:
    assert stable_key(OwnWord("a", 1.0)) == stable_key(OwnWord("a", 2.0))


def test_a_function_of_the_program_that_runs_is_that_of_its_module(tmp_path: Path) -> None:
    """Run as a file, run by `-m`, in a spawned child, imported: the same function, the same class."""
    (tmp_path / "jobs.py").write_text(
        """
import sys, multiprocessing
from tiered_cache import stable_key
class State: ...
def work(*_): return stable_key(State, work)
if __name__ == "__main__":
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        print(work(), *pool.map(work, [1]))
"""
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(tiered_cache.__file__).parents[1])}
    keys: list[str] = []
    for program in (["jobs.py"], ["-m", "jobs"], ["-c", "import jobs; print(jobs.work())"]):
        done = subprocess.run(
            [sys.executable, *program], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, done.stderr
        keys += done.stdout.split()
    assert len(keys) == 5
    assert len(set(keys)) == 1


# --- anything ---------------------------------------------------------------------------------------------------------

scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.binary(max_size=5)
    | st.decimals(places=2, allow_nan=False)
    | st.dates()
    | st.datetimes()
    | st.timedeltas()
    | st.uuids()
    | st.sampled_from(Colour)
)
hashable = st.recursive(
    scalars,
    lambda inner: st.tuples(inner, inner) | st.frozensets(inner, max_size=3) | st.builds(Point, inner, inner),
    max_leaves=6,
)
nested = st.recursive(
    hashable,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.tuples(inner)
        | st.sets(hashable, max_size=4)
        | st.dictionaries(hashable, inner, max_size=4)
        | st.builds(Search, st.text(max_size=2), st.dictionaries(st.text(max_size=2), inner, max_size=2))
    ),
    max_leaves=12,
)


def meaning(value: Any) -> Any:
    """What a value is, types and all, in terms of equality alone: an independent account of what a key should tell."""
    kind = cast("type[object]", type(value))
    if kind is dict:
        return kind, frozenset((meaning(key), meaning(item)) for key, item in value.items())
    if kind in (set, frozenset):
        members = [meaning(each) for each in value]
        return kind, frozenset((each, members.count(each)) for each in members)
    if kind in (list, tuple, Point):
        return kind, tuple(meaning(each) for each in value)
    if kind is Search:
        return kind, meaning(value.query), meaning(value.filters)
    return kind, "nan" if value != value else str(value), getattr(value, "fold", 0)


def rebuilt(value: Any) -> Any:
    """An equal value of other objects, its dicts and sets filled the other way round."""
    if type(value) is dict:
        pairs = reversed(cast("dict[Any, Any]", value).items())
        return {rebuilt(key): rebuilt(item) for key, item in pairs}
    if type(value) in (set, frozenset, list, tuple):
        members = [rebuilt(each) for each in value]
        return type(value)(members[::-1] if type(value) in (set, frozenset) else members)
    return "".join(list(value)) if isinstance(value, str) else copy.copy(value)


@given(nested)
def test_an_equal_value_has_the_same_key(value: Any) -> None:
    assert stable_key(value) == stable_key(rebuilt(value)) == stable_key(copy.deepcopy(value))


@given(nested, nested)
def test_keys_are_equal_exactly_where_values_are(one: Any, other: Any) -> None:
    assert (stable_key(one) == stable_key(other)) == (meaning(one) == meaning(other))


@given(st.lists(nested, max_size=3), st.lists(nested, max_size=3))
def test_no_arguments_run_into_one_another(ones: list[Any], others: list[Any]) -> None:
    assert (stable_key(*ones) == stable_key(*others)) == (meaning(ones) == meaning(others))
    assert stable_key(ones, others) != stable_key([*ones, *others])


# --- what is not on the surface ---------------------------------------------------------------------------------------


class Status(Enum):
    """As is done for what a service may add: a value without a name is no error."""

    DONE = 1

    @classmethod
    def _missing_(cls, value: object) -> Status:
        unknown = object.__new__(cls)
        unknown._name_ = "UNKNOWN"
        unknown._value_ = cast("int", value)
        return unknown


class Nameless(Enum):
    DONE = 1

    @classmethod
    def _missing_(cls, value: object) -> Nameless:
        unknown = object.__new__(cls)
        unknown._value_ = cast("int", value)
        return unknown


@dataclasses.dataclass
class Place:
    x: int
    y: int


class Undeclared(Place):
    """Adds an attribute, and is no dataclass itself."""

    def __init__(self, x: int, colour: str) -> None:
        super().__init__(x, 0)
        self.colour = colour


class Derived(Place):
    @functools.cached_property
    def length(self) -> int:
        return 5


class Tagged(NamedTuple("Tagged", [("x", int)])):
    """Has room for attributes."""


class Folder(type(Path())):
    """Has room for attributes."""


class Word(str):
    __slots__ = ()


@pytest.mark.parametrize("kind", [Status, Nameless])
def test_members_that_an_enum_made_up_are_their_values(kind: Any) -> None:
    assert stable_key(kind(5)) == stable_key(kind(5)) != stable_key(kind(6))


def test_what_a_default_dict_makes_counts() -> None:
    assert len({stable_key(defaultdict(made, a=1)) for made in (int, list, None)}) == 3
    with pytest.raises(UnsupportedValueError, match="lambda"):
        stable_key(defaultdict(lambda: 1))


def tagged(made: Any) -> Any:
    made.tag = "a"
    return made


@pytest.mark.parametrize(
    "value",
    [time.localtime(0), Undeclared(1, "red"), tagged(Tagged(1)), tagged(Folder("a"))],
    ids=lambda it: type(it).__name__,
)
def test_an_object_with_more_in_it_than_its_kind_tells_has_no_key(value: Any) -> None:
    with pytest.raises(UnsupportedValueError, match=type(value).__name__):
        stable_key(value)


def test_what_a_dataclass_keeps_of_what_it_computed_does_not_count() -> None:
    asked = Derived(3, 4)
    assert asked.length == 5
    assert stable_key(asked) == stable_key(Derived(3, 4))


def test_a_pattern_is_what_it_searches_for() -> None:
    assert stable_key(re.compile(Word("a"))) == stable_key(re.compile("a"))
