"""With no extra installed the package imports and works, and what an extra brings is missed by its name."""

from __future__ import annotations

import importlib
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

import tiered_cache
from tiered_cache import TieredCache

ADAPTERS = {"langchain": "tiered_cache.langchain", "langgraph": "tiered_cache.langgraph", "otel": "tiered_cache.otel"}
NOT_HERE = ("langchain_core", "langgraph", "opentelemetry", "rich", "asyncpg", "fakeredis", "pytest")


def missing(extra: str, said: str) -> None:
    if f"tiered-cache[{extra}]" not in said or "Traceback" in said:
        sys.exit(f"without the extra {extra} this was said: {said}")


present = [name for name in NOT_HERE if find_spec(name) is not None]
if present or "site-packages" not in str(tiered_cache.__file__):
    sys.exit(f"not a bare environment: {present}, {tiered_cache.__file__}")

with TemporaryDirectory() as folder:
    cache = TieredCache("memory://", f"sqlite:///{Path(folder) / 'cache.db'}")
    cache.sync.set("question", {"answer": 42})
    if cache.sync.get("question") != {"answer": 42}:
        sys.exit("embedded, it does not answer")
    cache.close()

for extra, module in ADAPTERS.items():
    try:
        importlib.import_module(module)
    except ImportError as error:
        missing(extra, str(error))
    else:
        sys.exit(f"{module} imports without its library")

try:
    TieredCache("memory://", "postgresql+asyncpg://127.0.0.1:1/app").sync.get("question")
except ImportError as error:
    missing("postgres", str(error))
else:
    sys.exit("asyncpg is not missed")

command = Path(sys.executable).with_name("tiered-cache")
said = subprocess.run([command, "demo"], capture_output=True, text=True, timeout=60, check=False)
if said.returncode == 0:
    sys.exit("the demo runs without rich")
missing("cli", said.stdout + said.stderr)
print("imports, works embedded, and names the extra that is missing")
