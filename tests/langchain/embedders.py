"""Models of embeddings that count what they are asked, and one that is real."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import blake2b
from typing import Any

from langchain_core.embeddings import Embeddings

from tiered_cache.testing import Gate


def thirds(text: str) -> list[float]:
    """Numbers that need all of their 8 bytes, others for each text."""
    return [1 / (3 + byte) for byte in blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()]


class CountingEmbeddings(Embeddings):
    """`vector` makes a document's vector; a query's is the same, negated. Asynchronous calls stop at the gate."""

    def __init__(
        self, model: str | None = "m-1", vector: Callable[[str], Any] = thirds, gate: Gate | None = None
    ) -> None:
        self.model = model
        self.vector = vector
        self.gate = gate
        self.batches: list[list[str]] = []
        self.queries: list[str] = []
        self.asynchronous = 0

    @property
    def documents(self) -> list[str]:
        return [text for batch in self.batches for text in batch]

    def embed_documents(self, texts: list[str]) -> Any:
        self.batches.append(texts)
        return [self.vector(text) for text in texts]

    def embed_query(self, text: str) -> Any:
        self.queries.append(text)
        return [-number for number in self.vector(text)]

    async def aembed_documents(self, texts: list[str]) -> Any:
        self.asynchronous += 1
        if self.gate is not None:
            await self.gate.wait()
        return self.embed_documents(texts)

    async def aembed_query(self, text: str) -> Any:
        self.asynchronous += 1
        if self.gate is not None:
            await self.gate.wait()
        return self.embed_query(text)
