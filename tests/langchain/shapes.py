"""Messages and metadata as the integrations of providers give them, written down from their answers."""

from __future__ import annotations

from typing import Any

from langchain_core.messages import AIMessage

OPENAI: dict[str, Any] = {
    "token_usage": {
        "completion_tokens": 8,
        "prompt_tokens": 18,
        "total_tokens": 26,
        "completion_tokens_details": {"reasoning_tokens": 0},
        "prompt_tokens_details": {"cached_tokens": 0},
    },
    "model_provider": "openai",
    "model_name": "gpt-4o-mini-2024-07-18",
    "system_fingerprint": "fp_1",
    "id": "chatcmpl-1",
    "service_tier": "default",
    "finish_reason": "stop",
    "logprobs": None,
}
OPENAI_RESPONSES: dict[str, Any] = {
    "id": "resp_1",
    "created_at": 1763000000.0,
    "metadata": {},
    "model": "gpt-5-mini-2025-08-07",
    "object": "response",
    "service_tier": "default",
    "status": "completed",
    "incomplete_details": None,
    "error": None,
    "model_provider": "openai",
    "model_name": "gpt-5-mini-2025-08-07",
}
ANTHROPIC: dict[str, Any] = {
    "id": "msg_01",
    "container": None,
    "model": "claude-sonnet-4-5-20250929",
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "usage": {"input_tokens": 17, "output_tokens": 12, "service_tier": "standard"},
    "model_name": "claude-sonnet-4-5-20250929",
    "model_provider": "anthropic",
}
GOOGLE: dict[str, Any] = {
    "prompt_feedback": {"block_reason": 0, "safety_ratings": []},
    "finish_reason": "STOP",
    "model_name": "gemini-2.5-flash",
    "safety_ratings": [],
    "model_provider": "google_genai",
}
BEDROCK: dict[str, Any] = {
    "ResponseMetadata": {"RequestId": "r-1", "HTTPStatusCode": 200, "HTTPHeaders": {}, "RetryAttempts": 0},
    "stopReason": "end_turn",
    "metrics": {"latencyMs": [719]},
    "model_provider": "bedrock_converse",
    "model_name": "anthropic.claude-3-haiku-20240307-v1:0",
}
MISTRAL: dict[str, Any] = {
    "token_usage": {"prompt_tokens": 10, "total_tokens": 20, "completion_tokens": 10},
    "model_name": "mistral-large-latest",
    "model": "mistral-large-latest",
    "finish_reason": "stop",
    "model_provider": "mistralai",
}
COHERE: dict[str, Any] = {
    "id": "c-1",
    "finish_reason": "COMPLETE",
    "content": "two",
    "token_count": {"input_tokens": 5},
}
OLLAMA: dict[str, Any] = {
    "model": "llama3.2",
    "created_at": "2025-06-25T18:08:00.000000Z",
    "done": True,
    "done_reason": "stop",
    "total_duration": 1,
    "eval_count": 10,
    "model_name": "llama3.2",
    "model_provider": "ollama",
}
GROQ: dict[str, Any] = {
    "token_usage": {"completion_tokens": 3, "prompt_tokens": 8, "total_tokens": 11, "queue_time": 0.1},
    "model_name": "llama-3.3-70b-versatile",
    "system_fingerprint": "fp_2",
    "service_tier": "on_demand",
    "finish_reason": "tool_calls",
    "logprobs": None,
    "model_provider": "groq",
}
COMPLETE: dict[str, dict[str, Any]] = {
    "openai": OPENAI,
    "openai, responses": OPENAI_RESPONSES,
    "anthropic": ANTHROPIC,
    "google": GOOGLE,
    "bedrock": BEDROCK,
    "mistral": MISTRAL,
    "cohere": COHERE,
    "ollama": OLLAMA,
    "groq": GROQ,
    "nothing said": {},
    "a reason nobody knows": {"finish_reason": "satisfied"},
    "no reason": {"finish_reason": None, "stop_reason": None, "status": None},
    "a stop token": {"finish_reason": "stop", "stop_reason": 128009},
    "a word that is a reason elsewhere": {"model_name": "length", "system_fingerprint": "error"},
    "AI21": {"finishReason": {"reason": "endoftext"}},
    "prompt feedback without a reason": {"prompt_feedback": {"block_reason": "BLOCK_REASON_UNSPECIFIED"}},
}
INCOMPLETE: dict[str, dict[str, Any]] = {
    "openai truncated": {**OPENAI, "finish_reason": "length"},
    "openai filtered": {**OPENAI, "finish_reason": "content_filter"},
    "openai, responses, truncated": {
        **OPENAI_RESPONSES,
        "status": "incomplete",
        "incomplete_details": {"reason": "max_output_tokens"},
    },
    "openai, responses, failed": {**OPENAI_RESPONSES, "status": "failed", "error": {"code": "server_error"}},
    "openai, responses, cancelled": {**OPENAI_RESPONSES, "status": "cancelled"},
    "openai, responses, queued": {**OPENAI_RESPONSES, "status": "queued"},
    "anthropic truncated": {**ANTHROPIC, "stop_reason": "max_tokens"},
    "anthropic out of context": {**ANTHROPIC, "stop_reason": "model_context_window_exceeded"},
    "anthropic refused": {**ANTHROPIC, "stop_reason": "refusal"},
    "google truncated": {**GOOGLE, "finish_reason": "MAX_TOKENS"},
    "google filtered": {**GOOGLE, "finish_reason": "SAFETY"},
    "google, an enum's own text": {**GOOGLE, "finish_reason": "FinishReason.PROHIBITED_CONTENT"},
    "google failed": {**GOOGLE, "finish_reason": "MALFORMED_FUNCTION_CALL"},
    "google blocked the prompt": {"prompt_feedback": {"block_reason": "SAFETY"}},
    "google blocked the prompt, by number": {"prompt_feedback": {"block_reason": 1, "safety_ratings": []}},
    "bedrock truncated": {**BEDROCK, "stopReason": "max_tokens"},
    "bedrock guarded": {**BEDROCK, "stopReason": "guardrail_intervened"},
    "bedrock filtered": {**BEDROCK, "stopReason": "content_filtered"},
    "titan truncated": {"completionReason": "LENGTH"},
    "mistral truncated": {**MISTRAL, "finish_reason": "model_length"},
    "mistral failed": {**MISTRAL, "finish_reason": "error"},
    "cohere truncated": {**COHERE, "finish_reason": "MAX_TOKENS"},
    "cohere filtered": {**COHERE, "finish_reason": "ERROR_TOXIC"},
    "ollama truncated": {**OLLAMA, "done_reason": "length"},
    "ollama loaded a model": {**OLLAMA, "done_reason": "load"},
    "groq truncated": {**GROQ, "finish_reason": "length"},
    "vllm aborted": {**OPENAI, "finish_reason": "abort"},
    "deepseek overloaded": {**OPENAI, "finish_reason": "insufficient_system_resource"},
    "in a dict": {"finishReason": {"reason": "length", "length": 16}},
}


def said(text: str, metadata: dict[str, Any], **kwargs: Any) -> AIMessage:
    usage = {"input_tokens": 11, "output_tokens": 7, "total_tokens": 18}
    return AIMessage(text, response_metadata=dict(metadata), usage_metadata=kwargs.pop("usage", usage), **kwargs)
