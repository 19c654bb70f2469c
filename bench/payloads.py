"""What is asked and what is answered: prompts, chat generations, results of graph nodes, and plain bytes.

Everything is made from a number, so that a process that only reads knows what another wrote.
"""

from __future__ import annotations

import json
import random
from collections import deque
from functools import cache, lru_cache
from typing import Any, cast

from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatGeneration

#: A chat generation of this size, serialized, and a prompt of this size are the standard case.
STANDARD_BYTES = 2300
PROMPT_BYTES = 1700

# What langchain-core adds to the text, which it writes twice.
_METADATA_BYTES = 1025
_VARIANTS = 64

LLM_STRING = (
    json.dumps(
        {
            "lc": 1,
            "type": "constructor",
            "id": ["langchain", "chat_models", "openai", "ChatOpenAI"],
            "kwargs": {
                "model_name": "gpt-5-mini",
                "temperature": 0.0,
                "max_retries": 2,
                "openai_api_key": {"lc": 1, "type": "secret", "id": ["OPENAI_API_KEY"]},
            },
            "name": "ChatOpenAI",
        },
        sort_keys=True,
    )
    + "---[('stop', None), ('tool_choice', 'auto')]"
)


@lru_cache(maxsize=64)
def text(size: int, seed: int = 0) -> str:
    """Words, some often and most seldom. They compress better than real answers do: see `prose`."""
    rng = random.Random(seed)
    words = ["".join(rng.choices("etaoinshrdlucmfwyp", k=rng.randint(2, 9))) for _ in range(400)]
    drawn: list[str] = []
    length = 0
    while length < size:
        word = words[min(399, int(rng.paretovariate(0.9)) - 1)]
        drawn.append(word)
        length += len(word) + 1
    return " ".join(drawn)[:size]


def prompt(number: int) -> str:
    """What LangChain makes of a system and a human message."""
    return (
        f'[{{"lc": 1, "type": "constructor", "kwargs": {{"content": "question {number}: {text(PROMPT_BYTES - 60)}"}}}}]'
    )


def key(number: int) -> str:
    """The same, short: for contenders that are given ready-made keys."""
    return f"k{number}"


def _message(number: int, size: int) -> AIMessage:
    content = f"{number % _VARIANTS:04d} " + text(max(20, (size - _METADATA_BYTES) // 2), 1)
    if size <= _METADATA_BYTES:
        return AIMessage(content=content)
    return AIMessage(
        content=content,
        id=f"lc_run--0199a2b4-7c1e-7d90-8f6a-{number % _VARIANTS:012d}-0",
        usage_metadata=cast(
            "Any",
            {
                "input_tokens": 412,
                "output_tokens": 231,
                "total_tokens": 643,
                "input_token_details": {"audio": 0, "cache_read": 384},
                "output_token_details": {"audio": 0, "reasoning": 64},
            },
        ),
        response_metadata={
            "token_usage": {"completion_tokens": 231, "prompt_tokens": 412, "total_tokens": 643},
            "model_provider": "openai",
            "model_name": "gpt-5-mini-2026-08-07",
            "system_fingerprint": "fp_44709d6fcb",
            "id": "chatcmpl-BpT0Q2mGgVY1v0v3nS7y7l8m2kW1o",
            "service_tier": "default",
            "finish_reason": "stop",
            "logprobs": None,
        },
        additional_kwargs={"refusal": None},
    )


@lru_cache(maxsize=256)
def _answer(variant: int, size: int) -> tuple[ChatGeneration, ...]:
    generation_info = {"finish_reason": "stop", "logprobs": None} if size > _METADATA_BYTES else None
    return (ChatGeneration(message=_message(variant, size), generation_info=generation_info),)


def answer(number: int, size: int) -> list[ChatGeneration]:
    """A chat generation of about `size` bytes as langchain-core serializes it (the smallest have no metadata)."""
    return list(_answer(number % _VARIANTS, size))


@lru_cache(maxsize=256)
def _result(variant: int, size: int) -> tuple[tuple[str, Any], ...]:
    return (("messages", [_message(variant, size)]), ("branch:to:next", None))


def result(number: int, size: int) -> deque[tuple[str, Any]]:
    """What a LangGraph node leaves to be cached: its writes to channels."""
    return deque(_result(number % _VARIANTS, size))


@lru_cache(maxsize=256)
def _plain(variant: int, size: int) -> bytes:
    return f"{variant:04d} {text(max(0, size - 5), 2)}".encode()


def plain(number: int, size: int) -> bytes:
    return _plain(number % _VARIANTS, size)


# A prime: the places at which neighbours are cut lie far apart.
_STRIDE = 104_729


@cache
def _documentation() -> bytes:
    from pydoc_data.topics import topics

    return "\n".join(topics.values()).encode()


def prose(number: int, size: int) -> bytes:
    """Cut from Python's documentation, elsewhere for each number: for what depends on how well answers compress.

    Made-up words give themselves away: a frame of `text` takes two thirds of one of real text of the same size.
    """
    whole = _documentation()
    start = number * _STRIDE % len(whole)
    cut = whole[start : start + size]
    return cut if len(cut) == size else (cut + whole * (size // len(whole) + 1))[:size]
