"""What is public is complete and described, and runs where nothing of this repository is."""

from __future__ import annotations

import inspect
import os
import subprocess
import sys
from pathlib import Path

import tiered_cache
from tiered_cache import testing

MODULE = """
from contextlib import asynccontextmanager

from tests_of_mine.doubles import Mine
from tiered_cache import MemoryFront
from tiered_cache.testing import FrontSuite, ManualClock, StoreSuite


class TestMyFront(FrontSuite):
    @asynccontextmanager
    async def front(self):
        self.clock = ManualClock()
        yield Mine(clock=self.clock)
"""
DOUBLES = '''
from tiered_cache import MemoryFront


class Mine(MemoryFront):
    """Loses the cells of every batch of two."""

    async def get(self, keys):
        cells = await super().get(keys)
        return [None, None] if len(cells) == 2 else cells
'''


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(Path(tiered_cache.__file__).parents[1])}


def test_every_public_name_comes_through_the_one_door() -> None:
    bound = {name for name, thing in vars(testing).items() if not name.startswith("_") and not inspect.ismodule(thing)}
    assert set(testing.__all__) == bound


def test_every_public_class_and_method_says_what_it_promises() -> None:
    classes = [thing for thing in vars(testing).values() if inspect.isclass(thing)]
    silent = [thing.__qualname__ for thing in classes if not thing.__doc__]
    protocol = {*vars(tiered_cache.Front), *vars(tiered_cache.Store)}  # described there
    for thing in classes:
        for name, method in inspect.getmembers(thing, inspect.isfunction):
            if not name.startswith(("_", "test_")) and name not in protocol and not method.__doc__:
                silent.append(method.__qualname__)
    assert silent == []


def test_it_needs_no_pytest(tmp_path: Path) -> None:
    program = "import sys; sys.modules['pytest'] = None; import tiered_cache.testing; print('ok')"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("ok\n", "")


def test_a_suite_runs_elsewhere_and_says_what_it_compared(tmp_path: Path) -> None:
    """With anyio's plugin and two lines of configuration; the imported suites themselves are not collected."""
    folder = tmp_path / "tests_of_mine"
    folder.mkdir()
    (folder / "__init__.py").touch()
    (folder / "doubles.py").write_text(DOUBLES)
    (folder / "test_mine.py").write_text(MODULE)
    (tmp_path / "conftest.py").write_text('import pytest\n\npytest.register_assert_rewrite("tiered_cache.testing")\n')
    (tmp_path / "pytest.ini").write_text("[pytest]\nanyio_mode = auto\nfilterwarnings = error\n")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:asyncio"]
    command += ["-k", "asyncio and (a_mark_is or any_batch or in_the_order or wall)"]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=110, check=False
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert "TestMyFront::test_a_mark_is_a_cell_that_everybody_sees[asyncio]" in done.stdout
    assert "assert [None, None] == [b'R" in done.stdout
    assert "TestMyFront::test_any_batch_ends_as_by_the_rule" not in done.stdout
    assert " passed" in done.stdout
    assert "StoreSuite" not in done.stdout
