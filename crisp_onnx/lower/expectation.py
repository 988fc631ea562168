"""Expected work of hardware that skips zeros wherever they stand: folds of a random vector, the slowest lane."""

from __future__ import annotations

from functools import lru_cache
from math import exp, lgamma, log

import numpy as np
import numpy.typing as npt


def binomial(n: int, p: float) -> list[float]:
    """P(X = k) for k = 0..n."""
    if p <= 0:
        return [1.0] + [0.0] * n
    if p >= 1:
        return [0.0] * n + [1.0]
    return [
        exp(lgamma(n + 1) - lgamma(k + 1) - lgamma(n - k + 1) + k * log(p) + (n - k) * log(1 - p)) for k in range(n + 1)
    ]


@lru_cache(maxsize=4096)
def expected_folds(n: int, density: float, lanes: int, *, skips_empty: bool = False) -> float:
    """Expected cycles for one vector of `n` values of which `lanes` nonzeros are taken a cycle.

    An empty vector costs a cycle unless the hardware skips it.
    """
    least = 0 if skips_empty else 1
    return sum(probability * max(least, -(-k // lanes)) for k, probability in enumerate(binomial(n, density)))


@lru_cache(maxsize=4096)
def expected_slowest(n: int, density: float, lanes: int) -> float:
    """Expected maximum of `lanes` independent counts of nonzeros among `n`: lanes that wait for each other."""
    below, total = 0.0, 0.0
    for probability in binomial(n, density)[:-1]:
        below += probability
        total += 1 - below**lanes
    return total


def counted_cycles(mask: npt.NDArray[np.bool_], rows: int, lanes: int) -> int:
    """Array cycles per output column for a real mask (M, K): each pass of `rows` rows waits for its fullest row.

    `lanes` nonzeros of a row are taken a cycle; an empty pass still costs one.
    """
    counts = mask.sum(axis=1)
    passes = range(0, len(counts), rows)
    return sum(max(1, -(-int(counts[start : start + rows].max()) // lanes)) for start in passes)
