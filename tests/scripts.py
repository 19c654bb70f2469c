"""Programs of a few lines, in a process of their own."""

from __future__ import annotations

import subprocess
import sys


def assert_ends_without_a_word(script: str, *arguments: str) -> None:
    """Promptly. Warnings are errors, and those at exit are shown."""
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", script, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
