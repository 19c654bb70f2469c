"""Models whose settings do not tell them from others, or from themselves: said once, where somebody can read it."""

from __future__ import annotations

import json
import re
from functools import lru_cache
from typing import Any, Final

from tiered_cache._stats import logger

# What a call brings along; it says nothing about the model.
_OF_THE_CALL: Final = frozenset(
    (
        *("stop", "stream", "strict", "tools", "tool_choice", "parallel_tool_calls", "functions", "function_call"),
        *("response_format", "structured_output_format", "ls_structured_output_format"),
    )
)

# A pair inside a value looks like a setting as well: then nothing is said, rather than something wrong.
_NAMES: Final = re.compile(r"[\[ ]\('(\w+)', ")
_TYPE: Final = re.compile(r"\('_type', ('[^']{0,80}|\"[^\"]{0,80})")
_ADDRESS: Final = re.compile(r"<([^<>]{1,200}) at 0x[0-9a-fA-F]{6,}")

# A warning said is remembered, and so is its text: both are bounded, however many models a process makes.
_WARNINGS: Final = 256


def warn_of(llm_string: str) -> None:
    """Warns, once a process, where these settings are none to tell models apart by. To be called when they are new."""
    model = _unnamed(llm_string)
    if model is not None:
        _warn(
            f"the settings of {model} do not say which model it is, so all such models share their answers: define its "
            "_identifying_params, or give each a LangChainCache with a namespace= of its own"
        )
    for found in sorted({match[1] for match in _ADDRESS.finditer(llm_string)}):
        _warn(
            f"the settings of a model hold <{found[:80]}>, by its address in memory: answers are stored that no other "
            "process finds. Give its class a __repr__ that says what it is, or keep it out of the model's settings"
        )


@lru_cache(_WARNINGS)
def _warn(message: str) -> None:
    logger.warning("LangChainCache: %s", message)


def _unnamed(llm_string: str) -> str | None:
    """What to call a model that its settings say nothing about."""
    if llm_string.startswith("{"):
        return _unnamed_serialized(llm_string)
    if llm_string.startswith("[(") and {"_type"} >= set(_NAMES.findall(llm_string)) - _OF_THE_CALL:
        kind = _TYPE.search(llm_string)
        return f"a model of the type {kind[1][1:]!r}" if kind else "a model without a type"
    return None


def _unnamed_serialized(llm_string: str) -> str | None:
    try:
        model: Any = json.JSONDecoder().raw_decode(llm_string)[0]
        named = bool(model.get("kwargs")) or "lc" not in model
        return None if named else f"a model of the class {model['id'][-1]!r}"
    except (ValueError, LookupError, TypeError, RecursionError):  # nothing that langchain-core wrote
        return None
