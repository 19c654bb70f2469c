"""What the adapters say before they are used: wrong arguments, missing libraries, their names."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from langchain_core.caches import BaseCache
from langchain_core.outputs import Generation
from langchain_core.stores import BaseStore

import tiered_cache.langchain
from tiered_cache import ConfigurationError, TieredCache
from tiered_cache.langchain import LangChainCache, TieredByteStore

ADAPTERS: list[Callable[..., Any]] = [LangChainCache, TieredByteStore]


@pytest.fixture
def embedded(sqlite_url: str) -> TieredCache:
    return TieredCache("memory://", sqlite_url)


def test_the_room_has_one_door() -> None:
    assert sorted(tiered_cache.langchain.__all__) == [
        "CachedEmbeddings",
        "LangChainCache",
        "Remembered",
        "TieredByteStore",
        "cached_chat_model",
        "is_complete",
    ]
    assert issubclass(LangChainCache, BaseCache)
    assert issubclass(TieredByteStore, BaseStore)


@pytest.mark.parametrize("adapter", ADAPTERS)
class TestBoth:
    @pytest.mark.parametrize("wrong", [None, "redis://localhost", {}, object()])
    def test_what_is_no_cache_is_refused_at_once(self, adapter: Callable[..., Any], wrong: Any) -> None:
        with pytest.raises(ConfigurationError, match="TieredCache"):
            adapter(wrong)

    @pytest.mark.parametrize("ttl", [0, -1, float("nan"), "60", True])
    def test_a_wrong_ttl_is_refused_at_once(self, adapter: Callable[..., Any], embedded: TieredCache, ttl: Any) -> None:
        with pytest.raises(ConfigurationError, match="ttl"):
            adapter(embedded, ttl=ttl)

    @pytest.mark.parametrize("namespace", [(1,), (None,), (b"x",), (("nested",),)])
    def test_a_wrong_namespace_is_refused_at_once(
        self, adapter: Callable[..., Any], embedded: TieredCache, namespace: Any
    ) -> None:
        with pytest.raises(ConfigurationError, match="str"):
            adapter(embedded, namespace=namespace)

    def test_the_rest_is_given_by_name(self, adapter: Callable[..., Any], embedded: TieredCache) -> None:
        with pytest.raises(TypeError):
            adapter(embedded, 60)

    def test_its_name_tells_where_it_stands_and_no_secret(self, adapter: Callable[..., Any]) -> None:
        cache = TieredCache("redis://:hunter2@localhost/0", "postgresql+asyncpg://me:hunter2@localhost/app")
        text = repr(adapter(cache.namespace("tenant-1"), namespace="mine"))
        assert "tenant-1" in text
        assert "mine" in text
        assert "hunter2" not in text
        assert adapter.__name__ in text

    def test_one_text_is_one_segment(self, adapter: Callable[..., Any], embedded: TieredCache) -> None:
        assert repr(adapter(embedded, namespace="abc")) == repr(adapter(embedded, namespace=("abc",)))

    def test_making_one_touches_no_tier(self, adapter: Callable[..., Any], tmp_path: Path) -> None:
        adapter(TieredCache("redis://127.0.0.1:1", f"sqlite:///{tmp_path / 'missing' / 'store.db'}"))
        assert not (tmp_path / "missing").exists()


@pytest.mark.parametrize("wrong", [None, 1])
def test_what_is_no_text_is_no_question(embedded: TieredCache, wrong: Any) -> None:
    answers = LangChainCache(embedded)
    with pytest.raises(ConfigurationError):
        answers.lookup("q", wrong)
    with pytest.raises(ConfigurationError):
        answers.update(wrong, "m", [Generation(text="x")])


def test_without_langchain_core_the_error_names_the_extra() -> None:
    script = (
        "import sys\n"
        "sys.modules['langchain_core'] = None\n"
        "import tiered_cache\n"
        "try:\n"
        "    import tiered_cache.langchain\n"
        "except ImportError as error:\n"
        "    assert isinstance(error, tiered_cache.MissingExtraError), error\n"
        "    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert "pip install 'tiered-cache[langchain]'" in done.stdout


def test_the_package_itself_does_not_import_langchain() -> None:
    script = "import sys, tiered_cache; assert not any('langchain' in name for name in sys.modules), 'imported'"
    subprocess.run([sys.executable, "-c", script], timeout=60, check=True)
