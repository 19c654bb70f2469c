"""The suites run over every front and every store of this repository. `place` is that of tests/store."""

from __future__ import annotations

from tests.store.conftest import place

__all__ = ["place"]
