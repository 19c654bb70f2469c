"""Payloads: those of every release are readable for ever, and none can make anything but an answer."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest
from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatGeneration, Generation

from tests.langchain.answers import ai
from tiered_cache.langchain._serde import GenerationsCodec, _same

CODEC = GenerationsCodec()

# As release 0.1.0 wrote them. Never change one: add.
GOLDEN: dict[bytes, list[Generation]] = {
    b'\x01[{"lc": 1, "type": "constructor", "id": ["langchain", "schema", "output", "Generation"], '
    b'"kwargs": {"text": "zwei \xc3\x84pfel", "generation_info": {"p": NaN}, "type": "Generation"}}]': [
        Generation(text="zwei Äpfel", generation_info={"p": float("nan")})
    ],
    b'\x01[{"lc": 1, "type": "constructor", "id": ["langchain", "schema", "output", "ChatGeneration"], "kwargs": '
    b'{"text": "two", "generation_info": {"finish_reason": "stop"}, "message": {"lc": 1, "type": "constructor", '
    b'"id": ["langchain", "schema", "messages", "AIMessage"], "kwargs": {"content": "two", "additional_kwargs": '
    b'{"k": {"__lc_escaped__": {"lc": 1}}}, "response_metadata": {"model_name": "m-1"}, "type": "ai", "id": "run-1", '
    b'"tool_calls": [{"name": "f", "args": {"a": [1, 2.5, null, true]}, "id": "c", "type": "tool_call"}], '
    b'"invalid_tool_calls": [], "usage_metadata": {"input_tokens": 1, "output_tokens": 2, "total_tokens": 3}}}, '
    b'"type": "ChatGeneration"}}]': [
        ChatGeneration(
            message=AIMessage(
                content="two",
                additional_kwargs={"k": {"lc": 1}},
                response_metadata={"model_name": "m-1"},
                id="run-1",
                tool_calls=[{"name": "f", "args": {"a": [1, 2.5, None, True]}, "id": "c"}],
                usage_metadata={"input_tokens": 1, "output_tokens": 2, "total_tokens": 3},
            ),
            generation_info={"finish_reason": "stop"},
        )
    ],
}


def planted(value: Any) -> bytes:
    return b"\x01" + json.dumps(value).encode()


def constructor(*path: str, **kwargs: Any) -> dict[str, Any]:
    return {"lc": 1, "type": "constructor", "id": list(path), "kwargs": kwargs}


TEXT = constructor("langchain", "schema", "output", "Generation", text="x")


@pytest.mark.parametrize("payload", GOLDEN, ids=range(len(GOLDEN)))
def test_a_payload_of_an_earlier_release_is_readable(payload: bytes) -> None:
    assert _same(GOLDEN[payload], CODEC.decode(payload))


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\x01",
        b"\x00[]",
        b"\x02" + planted([TEXT])[1:],
        planted([TEXT])[1:],
        planted([TEXT])[:-1],
        planted([TEXT]) + b"x",
        b"\x01\xff\xfe",
        planted([]),
        planted({}),
        planted(None),
        planted("a text"),
        planted(["a text"]),
        planted([{"text": "a plain dict"}]),
        planted([TEXT, None]),
        planted([[TEXT]]),
        planted(TEXT),
        planted([constructor("langchain", "schema", "messages", "AIMessage", content="no generation")]),
        planted([constructor("langchain", "schema", "output", "Generation")]),
        planted([constructor("langchain", "schema", "output", "Generation", text=["not a text"])]),
        planted([{"lc": 1, "type": "not_implemented", "id": ["a"], "repr": "x"}]),
        planted([{"lc": 1, "type": "secret", "id": ["PATH"]}]),
        planted([{"lc": 1, "type": "constructor", "id": [], "kwargs": {}}]),
        planted([{"__lc_escaped__": TEXT}]),
        b"\x01" + b"[" * 100_000,
    ],
    ids=range(25),
)
def test_what_is_no_answer_is_an_error_and_never_a_text(payload: bytes) -> None:
    with pytest.raises((ValueError, TypeError, NotImplementedError, RecursionError)):
        CODEC.decode(payload)


@pytest.mark.parametrize(
    "path",
    [
        ("langchain_core", "prompts", "prompt", "PromptTemplate"),
        ("langchain", "prompts", "prompt", "PromptTemplate"),
        ("langchain_core", "documents", "base", "Document"),
        ("langchain_core", "language_models", "fake_chat_models", "FakeListChatModel"),
        ("langchain", "chat_models", "openai", "ChatOpenAI"),
        ("langchain_openai", "chat_models", "base", "ChatOpenAI"),
        ("langchain", "schema", "messages", "RemoveMessage"),
        ("langchain_core", "runnables", "base", "RunnableSequence"),
        ("builtins", "dict"),
        ("subprocess", "Popen"),
        ("tests", "langchain", "test_payloads", "Anything"),
    ],
    ids=".".join,
)
def test_a_planted_payload_constructs_nothing_outside_the_list(path: tuple[str, ...]) -> None:
    nested = constructor(
        "langchain", "schema", "output", "Generation", text="x", generation_info={"k": constructor(*path)}
    )
    for value in (constructor(*path), nested):
        with pytest.raises(ValueError, match="not allowed"):
            CODEC.decode(planted([value]))


def test_a_planted_secret_reads_nothing_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIERED_CACHE_TEST_SECRET", "hunter2")
    secret = {"lc": 1, "type": "secret", "id": ["TIERED_CACHE_TEST_SECRET"]}
    generation = constructor("langchain", "schema", "output", "Generation", text="x", generation_info={"k": secret})
    (found,) = CODEC.decode(planted([generation]))
    assert found.generation_info == {"k": None}


def test_reading_and_writing_warn_of_nothing_and_leave_the_filters_alone() -> None:
    script = (
        "import warnings; before = list(warnings.filters)\n"
        "from tiered_cache.langchain._serde import GenerationsCodec\n"
        "from langchain_core.outputs import Generation\n"
        "codec = GenerationsCodec(); codec.decode(codec.encode([Generation(text='x')]))\n"
        "assert warnings.filters == before, warnings.filters[: len(warnings.filters) - len(before)]\n"
    )
    # In a process of its own: langchain-core gives its notice once a process. What it does at import is not our doing.
    script = "import langchain_core.load, langchain_core.outputs, langchain_core.messages\n" + script
    subprocess.run([sys.executable, "-W", "error", "-c", script], check=True, timeout=60)


def test_text_in_any_script_is_stored_as_utf_8() -> None:
    assert "日本".encode() in CODEC.encode(ai("日本"))
