"""Every fault once, under load, short. `python -m tests.faults` has them for longer, in figures."""

from __future__ import annotations

from collections.abc import Generator

import pytest

from tests.faults.place import Servers, open_place
from tests.faults.run import complaints, run
from tests.faults.table import FAULTS, Fault


@pytest.fixture(scope="module")
def servers() -> Generator[Servers]:
    with Servers() as servers:
        yield servers


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
async def test_no_caller_is_failed_or_told_what_is_wrong_and_it_recovers_by_itself(
    servers: Servers, fault: Fault
) -> None:
    async with open_place(servers, fault.kind) as place:
        assert not complaints(await run(fault, place))
