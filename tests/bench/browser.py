"""A headless browser, where this machine has one."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Final

_NAMES: Final = ("chromium", "chromium-browser", "google-chrome", "chrome")
BROWSER: Final = next((found for name in _NAMES if (found := shutil.which(name))), None)


def opened(page: Path, profile: Path, *options: str) -> tuple[str, str]:
    """The document as it stands after its script has run, and what the browser's console said."""
    assert BROWSER is not None
    command = [
        BROWSER,
        "--headless",
        "--disable-gpu",
        "--no-first-run",
        f"--user-data-dir={profile}",
        "--enable-logging=stderr",
        "--virtual-time-budget=3000",
        *options,
        *(["--no-sandbox"] if os.geteuid() == 0 else []),
        "--dump-dom",
        page.as_uri(),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=90, check=True)
    return done.stdout, "\n".join(line for line in done.stderr.splitlines() if "CONSOLE" in line)
