"""Keys as real callers ask for them: a few very often, many hardly ever, and tomorrow others."""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import accumulate


def zipf(s: float, keys: int, *, churn: float = 0.0, seed: int = 1) -> Iterator[int]:
    """Draws key numbers without end. The key of rank r is drawn as often as 1 / r**s; with a chance of `churn` at each
    draw, one of the ranks gets a key that was never drawn before."""
    rng = random.Random(seed)
    weights = list(accumulate(1 / rank**s for rank in range(1, keys + 1)))
    of_rank = list(range(keys))
    new = keys
    ranks = range(keys)
    while True:
        for rank in rng.choices(ranks, cum_weights=weights, k=4096):
            if churn and rng.random() < churn:
                of_rank[rng.randrange(keys)] = new
                new += 1
            yield of_rank[rank]
