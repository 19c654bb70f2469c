"""Parsed answers: the object of a user's class that OpenAI's models put beside the text of structured output.

It cannot be stored as what it is: nothing read from a tier may make objects of any class. What can be stored is the
dict that makes an equal one, which `with_structured_output` of langchain-openai takes as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Final

from langchain_core.outputs import ChatGeneration, Generation
from pydantic import BaseModel

from tiered_cache._stats import logger

_PARSED: Final = "parsed"


def with_dicts(generations: Sequence[Generation]) -> list[Generation]:
    """The same answers, copied where they hold a parsed object, with a dict in its place."""
    return [_with_dict(each) for each in generations]


def _with_dict(generation: Generation) -> Generation:
    parsed = _parsed(generation)
    found = None if parsed is None else _dict_of(parsed)
    if found is None or not isinstance(generation, ChatGeneration):
        return generation
    kwargs = {**generation.message.additional_kwargs, _PARSED: found}
    message = generation.message.model_copy(update={"additional_kwargs": kwargs})
    return generation.model_copy(update={"message": message})


def _dict_of(parsed: BaseModel) -> dict[str, Any] | None:
    """None where the class makes no equal object of it."""
    for by_alias in (True, False):
        try:
            found = parsed.model_dump(mode="json", by_alias=by_alias)
            if type(parsed)(**found) == parsed:
                return found
        except Exception:  # noqa: BLE001, S112  (validators of any class may raise anything; each means: not like this)
            continue
    return None


def warn_of_parsed(generations: Sequence[Generation]) -> None:
    """To be called where an answer could not be stored: says, once for each class, what would help."""
    for each in generations:
        parsed = _parsed(each)
        if parsed is not None:
            _warn(type(parsed).__qualname__)


def _parsed(generation: Generation) -> BaseModel | None:
    if not isinstance(generation, ChatGeneration):
        return None
    parsed = generation.message.additional_kwargs.get(_PARSED)
    return parsed if isinstance(parsed, BaseModel) else None


@lru_cache(64)
def _warn(name: str) -> None:
    logger.warning(
        "LangChainCache: structured output parsed to a %s is not stored, since it would not come out as one: with "
        "parsed_as_dict=True the dict that makes an equal one is, which with_structured_output takes as well",
        name,
    )
