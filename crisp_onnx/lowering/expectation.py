"""Expected work of hardware that skips zeros wherever they stand: folds of a random vector."""

from __future__ import annotations

from functools import lru_cache
from math import exp, lgamma, log


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
