"""Which answers are whole: by the reasons that providers give for their end."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, cast

from langchain_core.outputs import ChatGeneration, Generation

# Compared by their letters alone: `FinishReason.MAX_TOKENS`, `max_tokens` and `maxTokens` are one.
_NO_LETTERS: Final = re.compile(r"[^a-z]+")

# OpenAI, Anthropic (and Bedrock: stopReason), Ollama, Titan; `status` is that of OpenAI's responses.
_WHERE: Final = frozenset(("finishreason", "stopreason", "donereason", "completionreason", "status"))

_INCOMPLETE: Final = frozenset(
    _NO_LETTERS.sub("", reason)
    for reason in (
        # Truncated. OpenAI and who follows it; Anthropic, Bedrock, Google, Cohere; Mistral; responses; watsonx.
        *("length", "max_tokens", "model_context_window_exceeded", "model_length", "max_output_tokens", "incomplete"),
        *("error_limit", "token_limit", "time_limit", "not_finished", "max_output", "max_length"),
        # Filtered or refused. OpenAI; Bedrock; Anthropic; Google; Cohere; GigaChat; Zhipu.
        *("content_filter", "content_filtered", "guardrail_intervened", "refusal", "refused"),
        *("safety", "recitation", "language", "blocklist", "prohibited_content", "spii", "model_armor"),
        *("image_safety", "image_prohibited_content", "image_recitation", "image_other", "no_image", "jailbreak"),
        *("error_toxic", "blacklist", "sensitive"),
        # Failed, or not an answer yet. Mistral, Cohere, Fireworks; responses; vLLM; Google; Bedrock; DeepSeek; Zhipu;
        # Ollama, which loads or unloads a model and says no more.
        *("error", "failed", "cancelled", "canceled", "user_cancel", "timeout", "abort", "aborted"),
        *("in_progress", "queued", "other", "malformed_function_call", "unexpected_tool_call", "too_many_tool_calls"),
        *("malformed_response", "missing_thought_signature", "malformed_model_output", "malformed_tool_use"),
        *("insufficient_system_resource", "network_error", "load", "unload"),
    )
)

# Where a stream gives its reason in several chunks, langchain-core joins them: `lengthlength`, `STOPMAX_TOKENS`.
_JOINED: Final = re.compile(rf"(?:stop|finishreasonunspecified)*(?:{'|'.join(sorted(_INCOMPLETE))})+")


def is_complete(generations: Sequence[Generation]) -> bool:
    """Whether none of the answers says that it was truncated, filtered, refused or has failed.

    What is asked are the reasons that providers give in `generation_info` and `response_metadata` (finish_reason,
    stop_reason, done_reason, status and the like), in any case and form, and whether a prompt was blocked. An answer
    that gives no reason, or one that nobody knows, counts as complete.
    """
    return not any(_said_incomplete(said) for each in generations for said in _metadata(each))


def _metadata(generation: Generation) -> Iterator[Mapping[str, Any]]:
    if generation.generation_info:
        yield generation.generation_info
    if isinstance(generation, ChatGeneration):
        yield generation.message.response_metadata


def _said_incomplete(metadata: Mapping[str, Any]) -> bool:
    for key, value in metadata.items():
        name = _letters(key)
        if name in _WHERE and _JOINED.fullmatch(_reason(value)):
            return True
        if name == "promptfeedback" and _blocked(value):
            return True
    return False


def _reason(value: Any) -> str:
    if isinstance(value, Mapping):  # {"reason": "length", ...}
        value = cast("Mapping[str, Any]", value).get("reason")
    return _letters(str(value).rpartition(".")[2])  # of an enum, the member


def _blocked(feedback: Any) -> bool:
    """Whether Google's feedback on a prompt names a reason for not answering it."""
    if not isinstance(feedback, Mapping):
        return False
    reason = cast("Mapping[str, Any]", feedback).get("block_reason")
    return bool(reason) and _letters(str(reason).rpartition(".")[2]) != "blockreasonunspecified"


def _letters(text: str) -> str:
    return _NO_LETTERS.sub("", text.lower())
