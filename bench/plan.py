"""Which samples a run takes, and in which order."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from .contenders import contenders
from .contenders.base import Tier
from .refusal import Refusal
from .scenarios import scenarios
from .scenarios.base import Case, Scenario


@dataclass(frozen=True, slots=True)
class Step:
    """One sample to be taken."""

    scenario: Scenario
    case: Case
    contender: str
    round: int


def plan(
    *,
    full: bool,
    rounds: int,
    tiers: Collection[Tier],
    only_scenarios: Sequence[str] = (),
    only_contenders: Sequence[str] = (),
) -> list[Step]:
    """Rounds follow each other; in each, the contenders of a case come next to each other, another first each time.

    `only_scenarios` are names, `only_contenders` parts of names.
    Raises Refusal for names of nothing.
    """
    chosen = _scenarios(only_scenarios)
    wanted = _contenders(only_contenders)
    cases = [(scenario, case) for scenario in chosen for case in scenario.cases(full)]
    steps: list[Step] = []
    for number in range(rounds):
        for scenario, case in cases:
            if case.once and number:
                continue
            names = [name for name in case.contenders if name in wanted and contenders()[name].tiers <= set(tiers)]
            turn = number % len(names) if names else 0
            steps += [Step(scenario, case, name, number) for name in (*names[turn:], *names[:turn])]
    if not steps:
        raise Refusal("nothing is left to measure: name other scenarios, contenders or tiers")
    return steps


def _scenarios(names: Sequence[str]) -> list[Scenario]:
    known = scenarios()
    for name in names:
        if name not in known:
            raise Refusal(f"there is no scenario {name!r}; there are {', '.join(known)}")
    return [known[name] for name in names] if names else list(known.values())


def _contenders(parts: Sequence[str]) -> set[str]:
    known = contenders()
    for part in parts:
        if not any(part in name for name in known):
            raise Refusal(f"no contender is named {part!r} or like it; there are {', '.join(known)}")
    return {name for name in known if not parts or any(part in name for part in parts)}
