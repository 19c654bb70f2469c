"""What every store promises."""

from __future__ import annotations

from ._store_changes import ChangeSuite
from ._store_journal import JournalSuite
from ._store_rows import RowSuite
from ._store_space import SpaceSuite


class StoreSuite(RowSuite, ChangeSuite, SpaceSuite, JournalSuite):
    """Tests for a store of one's own: what the protocol promises.

    Subclass it in a test module under a name that pytest collects, and say how a store is made. The tests are `async`
    and run by anyio's pytest plugin: set `anyio_mode = "auto"`, or `pytestmark = pytest.mark.anyio` in the module.

        class TestMyStore(StoreSuite):
            @asynccontextmanager
            async def store(self):
                self.clock = ManualClock()          # where time can be injected
                store = MyStore("...", clock=self.clock)
                yield store
                await store.aclose()

            @asynccontextmanager
            async def another(self, store):         # where several processes can have the same data
                other = MyStore("...", clock=self.clock)
                yield other
                await other.aclose()

    For failures that show both sides of a comparison, put this into conftest.py, above all imports of this package:

        pytest.register_assert_rewrite("tiered_cache.testing")
    """
