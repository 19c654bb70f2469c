"""The adapter as LangGraph's machinery and a package installer see it."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from langgraph.cache.base import BaseCache
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

import tiered_cache.langgraph
from tests.langgraph.graphs import TwoNodes
from tiered_cache import TieredCache
from tiered_cache.langgraph import LangGraphCache

pytestmark = pytest.mark.parametrize("world", ["embedded"], indirect=True)


def test_exports(world: Any) -> None:
    assert tiered_cache.langgraph.__all__ == ["LangGraphCache"]


def test_it_is_a_cache_that_is_never_false(results: LangGraphCache[Any]) -> None:
    assert isinstance(results, BaseCache)
    assert not hasattr(results, "__len__")
    assert not hasattr(results, "__bool__")
    assert results


def test_pickle_is_off_unless_asked_for(cache: TieredCache, results: LangGraphCache[Any]) -> None:
    assert isinstance(results.serde, JsonPlusSerializer)
    assert results.serde.pickle_fallback is False
    own = JsonPlusSerializer()
    assert LangGraphCache[Any](cache, serde=own).serde is own


class Xor:
    """A cipher for tests: it hides text from a reader, not from an attacker."""

    def encrypt(self, plaintext: bytes) -> tuple[str, bytes]:
        return "xor", bytes(byte ^ 0x5A for byte in plaintext)

    def decrypt(self, ciphername: str, ciphertext: bytes) -> bytes:
        assert ciphername == "xor"
        return bytes(byte ^ 0x5A for byte in ciphertext)


async def test_an_encrypted_serializer_leaves_nothing_readable_in_the_tiers(
    cache: TieredCache, sqlite_url: str
) -> None:
    results: LangGraphCache[Any] = LangGraphCache(cache, serde=EncryptedSerializer(Xor(), JsonPlusSerializer()))
    two = TwoNodes(results, output=lambda question: ("a secret answer", question))
    found = [(await two.graph.ainvoke({"question": "q"}))["answer"] for _ in range(2)]
    assert found == [("a secret answer", "q")] * 2
    assert two.total == 2
    await cache.aclose()
    path = sqlite_url.removeprefix("sqlite:///")
    with open(path, "rb") as file:  # noqa: ASYNC230, PTH123
        assert b"secret" not in file.read()
    assert await LangGraphCache[Any](cache).aget([(("n",), "k")]) == {}


def test_without_langgraph_the_error_names_the_extra(world: Any) -> None:
    code = "import sys; sys.modules['langgraph'] = None; import tiered_cache, tiered_cache.langgraph"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "ImportError" in done.stderr.splitlines()[-1] or "MissingExtraError" in done.stderr.splitlines()[-1]
    assert "pip install 'tiered-cache[langgraph]'" in done.stderr.splitlines()[-1]


def test_repr_names_the_place_only(results: LangGraphCache[Any]) -> None:
    assert repr(results) == "<LangGraphCache ('langgraph',)>"
