import sys

from tiered_cache.cli import main

sys.exit(main())
