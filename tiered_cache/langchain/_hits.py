"""What a hit is given on its way out: an id of its own, a marker, and a place in the counters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import urandom
from typing import Any, Final, cast

from langchain_core.messages import BaseMessage
from langchain_core.outputs import ChatGeneration, Generation
from langchain_core.utils.utils import LC_ID_PREFIX

from tiered_cache._errors import ConfigurationError
from tiered_cache._namespace import Namespace
from tiered_cache._stats import Price

from ._prompts import MARK, MARKER

# Where integrations put the name of the model that answered.
_NAMES: Final = ("model_name", "model", "model_id", "modelId", "model_version")
_NAME_CHARACTERS: Final = 200

_UNKNOWN: Final = "unknown"


class Hits:
    """Makes hits of the answers that were found for one adapter, in place, and counts them."""

    def __init__(
        self, answers: Namespace, *, fresh_ids: bool, mark_hits: bool, prices: Mapping[str, Price] | None
    ) -> None:
        self._recorder: Final = answers.view.shared.recorder
        self._path: Final = answers.path
        self._fresh_ids: Final = fresh_ids
        self._mark_hits: Final = mark_hits
        self._prices: Final = _checked(prices or {})

    def served(self, found: list[Generation]) -> list[Generation]:
        """The same list, whose messages are nobody else's."""
        for nth, generation in enumerate(found):
            if isinstance(generation, ChatGeneration):
                message = generation.message
                if self._fresh_ids and message.id is not None:
                    # As langchain-core names the answer of a run; a run that asked the model would have had another.
                    vars(message)["id"] = f"{LC_ID_PREFIX}-{_uuid4()}-{nth}"  # it is set: pydantic need not note it
                if self._mark_hits:
                    message.response_metadata[MARKER] = MARK.copy()
        self._count(found)
        return found

    def _count(self, found: Sequence[Generation]) -> None:
        first = found[0]  # all are of one call; where each states the usage, it is that of the call
        message = first.message if isinstance(first, ChatGeneration) else None
        model = _model(first.generation_info or {} if message is None else message.response_metadata)
        tokens = (0, 0) if message is None else _tokens(message)
        price = self._prices.get(model)
        self._recorder.saved(self._path, model, *tokens, None if price is None else price.of(*tokens))


def _uuid4() -> str:
    """As `str(uuid.uuid4())`, in less than half of the time."""
    digits = urandom(16).hex()
    variant = "89ab"[int(digits[16], 16) % 4]
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{variant}{digits[17:20]}-{digits[20:]}"


def _model(metadata: Mapping[str, Any]) -> str:
    for name in _NAMES:
        model = metadata.get(name)
        if model and isinstance(model, str):
            return model[:_NAME_CHARACTERS]
    return _UNKNOWN


def _tokens(message: BaseMessage) -> tuple[int, int]:
    """Of the prompt and of the answer."""
    usage: Any = getattr(message, "usage_metadata", None)  # of answers alone
    if not isinstance(usage, dict):
        return 0, 0
    counts = cast("dict[str, Any]", usage)
    asked, said = counts.get("input_tokens"), counts.get("output_tokens")
    return asked if isinstance(asked, int) else 0, said if isinstance(said, int) else 0


def _checked(prices: Mapping[str, Price]) -> dict[str, Price]:
    for model, price in prices.items():
        if not isinstance(model, str) or not isinstance(price, Price):  # pyright: ignore[reportUnnecessaryIsInstance]  (callers without types)
            raise ConfigurationError(f"prices are a Price for the name of a model, not {price!r} for {model!r}")
    return dict(prices)
