"""The interval that a counted share deserves: Wilson's score interval (Wilson 1927, J. Am. Stat. Assoc. 22, 209)."""

from __future__ import annotations

from math import sqrt

Z95 = 1.959963984540054


def wilson(right: int, n: int, *, z: float = Z95) -> tuple[float, float]:
    """Lower and upper bound of the share behind `right` of `n`; at 95 % by default.

    Unlike the textbook interval it stays inside [0, 1] and keeps its width at 0 and n successes.

    Raises:
        ValueError: n < 1, or `right` outside 0..n.
    """
    if n < 1 or not 0 <= right <= n:
        raise ValueError(f"{right} of {n} is not a share")
    share = right / n
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z * sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    # At 0 and n the bound is exact; the difference above would leave a rounding error.
    return (0.0 if right == 0 else centre - half), (1.0 if right == n else centre + half)
