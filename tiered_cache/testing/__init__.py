"""For those who write a front or a store of their own, or test a service of theirs under faults of its cache.

`FrontSuite` and `StoreSuite` hold a tier against its contract. `FaultyFront` and `FaultyStore` stand round a tier and
let calls fail, hang, come late, come damaged or get lost; `SlowProxy` does it to the connection of a real server.
`ManualClock` is time that passes when a test says so.

Nothing here needs an optional library; the suites are run by pytest with anyio's plugin, but do not import it.
"""

from ._clock import ManualClock
from ._faults import Call, Fault, When
from ._faulty_front import FaultyFront, Packet
from ._faulty_store import FaultyStore
from ._front_suite import FrontSuite
from ._gates import Gate
from ._proxy import SlowProxy
from ._store_suite import StoreSuite

__all__ = [
    "Call",
    "Fault",
    "FaultyFront",
    "FaultyStore",
    "FrontSuite",
    "Gate",
    "ManualClock",
    "Packet",
    "SlowProxy",
    "StoreSuite",
    "When",
]
