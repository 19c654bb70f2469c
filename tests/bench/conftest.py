from __future__ import annotations

from tests.bench.browser import BROWSER

# Looking at the report needs a browser; everything else about it is tested without one.
collect_ignore = [] if BROWSER else ["test_report_in_a_browser.py"]
