"""The pins are plain `name==version` lines, and the lowest ones are the lower bounds of pyproject.toml."""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

HERE = Path(__file__).parent
NOT_SUPPORTED_RANGES = {"test", "lint", "bench"}  # what the tests need is no promise to users


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def pins(file: Path) -> dict[str, str]:
    lines = [line for line in file.read_text().splitlines() if line and not line.startswith("#")]
    wrong = [line for line in lines if not re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.!+_-]+", line)]
    if wrong:
        sys.exit(f"{file.name}: not `name==version`: {wrong}")
    return {normal(name): version for name, version in (line.split("==") for line in lines)}


def lower_bounds() -> dict[str, str]:
    project = tomllib.loads((HERE.parent / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    wanted = [
        *project["dependencies"],
        *(line for extra in extras.keys() - NOT_SUPPORTED_RANGES for line in extras[extra]),
    ]
    bounds: dict[str, str] = {}
    for requirement in wanted:
        if requirement.startswith("tiered-cache["):
            continue
        match = re.fullmatch(r"([A-Za-z0-9._-]+)(?:\[[^]]*\])?>=([0-9.]+)", requirement)
        if match is None:
            sys.exit(f"pyproject.toml: a lower bound and nothing else, please: {requirement}")
        bounds[normal(match[1])] = match[2]
    return bounds


def main() -> None:
    current, lowest = pins(HERE / "constraints.txt"), pins(HERE / "constraints-lowest.txt")
    bounds = lower_bounds()
    not_pinned = bounds.keys() - current.keys()
    other = {name: (bound, lowest.get(name)) for name, bound in bounds.items() if lowest.get(name) != bound}
    if not_pinned or other:
        sys.exit(f"not in constraints.txt: {sorted(not_pinned)}; lower bound and lowest pin differ: {other}")
    print(f"{len(current)} pins; lowest: {', '.join(f'{name} {bound}' for name, bound in sorted(bounds.items()))}")


main()
