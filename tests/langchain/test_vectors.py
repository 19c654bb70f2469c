"""Payloads of embeddings, and the names of their models."""

from __future__ import annotations

import math
from enum import Enum
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.embeddings import DeterministicFakeEmbedding

from tests.langchain.embedders import CountingEmbeddings
from tiered_cache import ConfigurationError, UnsupportedValueError
from tiered_cache.langchain._model_names import ModelName, model_name
from tiered_cache.langchain._vectors import VectorCodec, numbers_of, rounded

CODEC = VectorCodec()

# As release 0.1.0 wrote them. Never change one: add.
GOLDEN: dict[bytes, list[float]] = {
    b"\x01\x00\x00\x00?\x00\x00\x80\xbf\x00\x00\x00\x80\xab\xaa\xaa>": [0.5, -1.0, -0.0, 0.3333333432674408],
    b"\x02UUUUUU\xd5?\x00\x00\x00\x00\x00\x00\x00\x80Y\xf3\xf8\xc2\x1fn\xa5\x01": [1 / 3, -0.0, 1e-300],
}


@pytest.mark.parametrize("payload", GOLDEN, ids=range(len(GOLDEN)))
def test_a_payload_of_an_earlier_release_is_readable(payload: bytes) -> None:
    assert repr(CODEC.decode(payload)) == repr(GOLDEN[payload])  # -0.0 equals 0.0
    assert CODEC.encode(GOLDEN[payload]) == payload


def test_the_id_of_what_is_stored_never_changes() -> None:
    assert CODEC.id == 5


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1))
def test_what_comes_out_equals_what_went_in(numbers: list[float]) -> None:
    assert repr(CODEC.decode(CODEC.encode(numbers))) == repr(numbers)


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False, width=32), min_size=1))
def test_numbers_of_4_bytes_take_4_bytes_and_are_not_rounded(numbers: list[float]) -> None:
    assert rounded(numbers) == numbers
    assert len(CODEC.encode(numbers)) == 1 + 4 * len(numbers)


@given(st.lists(st.floats(min_value=-1e38, max_value=1e38), min_size=1))
def test_rounding_twice_is_rounding_once_and_fits_4_bytes(numbers: list[float]) -> None:
    small = rounded(numbers)
    assert rounded(small) == small
    assert len(CODEC.encode(small)) == 1 + 4 * len(numbers)
    assert all(math.isclose(a, b, rel_tol=1e-6, abs_tol=1e-44) for a, b in zip(small, numbers, strict=True))


@pytest.mark.parametrize(
    "value",
    [None, [], (0.5,), b"\x01", [1], [True], ["a"], [0.5, None], [math.nan], [0.5, math.inf], [-math.inf], "abc"],
    ids=repr,
)
def test_what_is_no_vector_is_refused(value: Any) -> None:
    with pytest.raises(UnsupportedValueError):
        CODEC.encode(value)


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\x01",
        b"\x02",
        b"\x00\x00\x00\x00?",
        b"\x03\x00\x00\x00?",
        *(b"\x01\x00\x00\x00?"[:n] for n in range(1, 5)),
        *(b"\x02UUUUUU\xd5?"[:n] for n in range(1, 9)),
        b"\x01\x00\x00\xc0\x7f",
        b"\x01\x00\x00\x80\x7f",
        b"\x02" + b"\x00" * 6 + b"\xf0\xff",
    ],
    ids=repr,
)
def test_a_damaged_payload_is_an_error(payload: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        CODEC.decode(payload)


def test_bytes_are_not_taken_for_the_memory_of_numbers() -> None:
    with pytest.raises(TypeError, match="bytes"):
        numbers_of(b"12345678")


# --- the names of models ----------------------------------------------------------------------------------------------


class Named(CountingEmbeddings):
    def __init__(self, **attributes: Any) -> None:
        super().__init__(None)
        vars(self).update(attributes)


class OtherClass(Named):
    pass


class Task(Enum):
    QUERY = "query"
    DOCUMENT = "document"


def name(model: str | None = None, **attributes: Any) -> ModelName:
    return model_name(Named(**attributes), model, {"version": None})


@pytest.mark.parametrize("attribute", ["model", "model_name", "model_id", "repo_id", "deployment", "model_path"])
def test_a_model_is_named_as_its_object_names_it(attribute: str) -> None:
    assert name(**{attribute: "m-1"}).name == "m-1"
    assert name(**{attribute: "m-1"}) == name(**{attribute: "m-1"})
    assert name(**{attribute: "m-1"}) != name(**{attribute: "m-2"})


SETTINGS: list[dict[str, Any]] = [
    {},
    {"dimensions": 256},
    {"dimensions": "256"},
    {"dimensions": 512},
    {"output_dimensionality": 256},
    {"normalize": True},
    {"normalize": False},
    {"encode_kwargs": {"normalize_embeddings": True}},
    {"encode_kwargs": {"normalize_embeddings": False}},
    {"query_encode_kwargs": {"prompt": "query: "}},
    {"prompts": {"query": "q: "}},
    {"prompts": {"query": "Q: "}},
    {"model_kwargs": {"revision": "abc"}},
    {"task_type": Task.QUERY},
    {"task_type": Task.DOCUMENT},
    {"embedding_types": ["float"]},
    {"embedding_types": ["int8"]},
    {"base_url": "http://localhost:1"},
    {"base_url": "http://localhost:2"},
    {"deployment": "d-1"},
    {"query_instruction": "\ud83d"},
]


def test_settings_that_change_vectors_keep_them_apart() -> None:
    names = [name(model_name="m-1", **settings) for settings in SETTINGS]
    assert len(set(names)) == len(names)
    assert model_name(OtherClass(model_name="m-1"), None, {}) != model_name(Named(model_name="m-1"), None, {})
    assert model_name(Named(model_name="m-1"), None, {"version": "1"}) != name(model_name="m-1")


@pytest.mark.parametrize(
    "settings",
    [
        {"api_key": "hunter2"},
        {"batch_size": 5, "chunk_size": 7, "max_retries": 3, "show_progress": True},
        {"encode_kwargs": {"batch_size": 32}, "model_kwargs": {"device": "cpu", "token": "hunter2"}},
        {"client": object(), "dimensions": None, "normalize": object()},
    ],
    ids=lambda settings: ",".join(settings),
)
def test_settings_that_change_nothing_cost_no_vector(settings: dict[str, Any]) -> None:
    assert name(model_name="m-1", **settings) == name(model_name="m-1")


def test_a_name_that_is_given_replaces_the_class_and_the_server_but_no_setting() -> None:
    assert name("mine", model_name="a", base_url="http://a") == model_name(OtherClass(), "mine", {"version": None})
    assert name("mine", dimensions=5) != name("mine", dimensions=6)
    assert name("mine") != name("yours")


def test_nothing_of_a_servers_address_is_shown() -> None:
    assert "hunter2" not in repr(name(model_name="m-1", base_url="http://user:hunter2@localhost"))


@pytest.mark.parametrize(
    "nameless",
    [DeterministicFakeEmbedding(size=5), Named(), Named(model=object()), Named(model=""), Named(model_name=None)],
    ids=repr,
)
def test_a_model_without_a_name_is_refused_until_it_is_given_one(nameless: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"model='\.\.\.'"):
        model_name(nameless, None, {})
    assert model_name(nameless, "m-1", {}).name == "m-1"


def test_a_digest_of_settings_is_the_same_in_every_release() -> None:
    assert name(model_name="m-1", dimensions=256).settings == "fba14a5d9f21a44b307b81d56aed6216"
