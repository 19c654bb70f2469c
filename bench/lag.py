"""Whether the generator of load kept its schedule. Where it did not, a sample describes it and not the contender."""

from __future__ import annotations

from collections.abc import Sequence

from .loops import Trace

#: Operations that a generator starts later than this (p99) are its own delay, in seconds.
LIMIT_SECONDS = 0.010
#: The share of its schedule that it has to achieve with operations that do nothing.
LEAST_SHARE = 0.98


def lag(trace: Trace) -> float:
    """By how much operations were started after they were due: the 99th percentile, in seconds."""
    late = sorted(start - due for due, start in zip(trace.due, trace.start, strict=True))
    return max(0.0, late[min(len(late) - 1, int(len(late) * 0.99))]) if late else 0.0


def why_refused(offered: float, trace: Trace, loop_held: float, idle: Sequence[Trace]) -> str:
    """The reason why a sample of an open loop does not count, or "".

    `idle` are runs of the same schedule, right before and after, with operations that do nothing. Late starts in
    `trace` itself are the contender's as far as it held the loop, and part of its latency.
    """
    for each in idle:
        achieved = len(each) / each.seconds if each.seconds else 0.0
        if achieved < offered * LEAST_SHARE:
            return f"the generator alone achieved {achieved:.0f}/s of {offered:.0f}/s: offer less, or free a core"
        if (late := lag(each)) > LIMIT_SECONDS:
            return f"the generator alone lagged {late * 1e3:.0f} ms at {offered:.0f}/s: offer less, or free a core"
    if (late := lag(trace)) > LIMIT_SECONDS and late > 2 * loop_held:
        return f"the generator lagged {late * 1e3:.0f} ms though the loop was free: free a core"
    return ""
