"""Prompts as keys: what a hit adds to a message must not make another question of the next turn.

langchain-core writes a cost of 0 into the usage of every hit, and this package a marker into its metadata. Both go into
the history, and so into the next turn's prompt: a conversation would have to be replayed once for each of its turns
before all of it is found. So both are left out of the key, and nothing else:

- `usage_metadata.total_cost` says what an answer cost. No model is sent the usage of an older answer.
- the marker says where an answer came from. It is this package's own, and taken for that only where it is exactly that.

The ids of messages stay out by langchain-core's own doing, since 1.2.6. All other metadata stays in: some integrations
do send parts of it (the id of an older response, the signature of a thought), and only they know which.
"""

from __future__ import annotations

import json
from typing import Any, Final

#: The key, in `response_metadata`, of what says that a message is a hit.
MARKER: Final = "tiered_cache"
# No number and no text: langchain-core adds up the ones and joins the others where it merges chunks of a message.
MARK: Final = {"hit": True}

# How `dumps` begins a list of messages, and how it writes the two. Inside a text of anybody's the quotes are escaped.
_MESSAGES: Final = '[{"lc": 1, "type": "constructor", "id": ["langchain'
_COST: Final = '"total_cost": '
_MARK: Final = f'"{MARKER}": {json.dumps(MARK)}'

_read: Final = json.JSONDecoder().raw_decode
_write: Final = json.JSONEncoder().encode


def canonical(prompt: str) -> str:
    """The prompt as it was before any of its messages was a hit; most are, and are returned as they are.

    Only in what langchain-core's `dumps` wrote for a list of messages, character for character, is anything left out,
    so a text that talks about such a list is its own key.
    """
    if type(prompt) is not str or not prompt.startswith(_MESSAGES) or not (_COST in prompt or _MARK in prompt):
        return prompt
    try:
        return _without_hits(prompt)
    except (ValueError, TypeError, AttributeError, RecursionError):  # no such list, or one that nobody can read
        return prompt


def _without_hits(prompt: str) -> str:
    messages: list[str] = []
    start = 1
    while True:
        message, end = _read(prompt, start)
        messages.append(_never_hit(message, prompt[start:end]))
        if end == len(prompt) - 1 and prompt[end] == "]":
            return f"[{', '.join(messages)}]"
        if not prompt.startswith(", ", end):
            raise ValueError("not a list as `dumps` writes it")
        start = end + 2


def _never_hit(message: Any, text: str) -> str:
    if not (_COST in text or _MARK in text) or _write(message) != text:
        return text
    fields: dict[str, Any] | None = message.get("kwargs") if message.get("type") == "constructor" else None
    if fields is None:
        return text
    usage: dict[str, Any] = fields.get("usage_metadata") or {}
    usage.pop("total_cost", None)
    metadata: dict[str, Any] = fields.get("response_metadata") or {}
    if metadata.get(MARKER) == MARK:
        del metadata[MARKER]
    for name, left in (("usage_metadata", usage), ("response_metadata", metadata)):
        if not left:
            fields.pop(name, None)  # `dumps` does not mention what is empty
    return _write(message)
