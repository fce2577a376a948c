"""Whether counts are as even as chance would make them: Pearson's chi-square test.

The sum of (counted - expected)^2 / expected follows the chi-square distribution with one
degree of freedom less than there are counts, so a large sum has a small probability when
all shares are equal.
"""

from __future__ import annotations

import math
from collections.abc import Sequence


def chi_square(counts: Sequence[int]) -> float:
    """Pearson's sum for equal shares.  Raises ValueError without any count."""
    if not counts or not sum(counts):
        raise ValueError("a chi-square test needs counts")
    expected = sum(counts) / len(counts)
    return sum((count - expected) ** 2 / expected for count in counts)


def chance(counts: Sequence[int]) -> float:
    """Probability of counts at least as uneven as these when all shares are equal; 1 for a single endpoint."""
    freedom = len(counts) - 1
    return 1.0 if freedom < 1 else survival(chi_square(counts), freedom)


def survival(value: float, freedom: int) -> float:
    """P(X >= value) of the chi-square distribution (Abramowitz and Stegun, 26.4.4 and 26.4.5)."""
    half = value / 2
    if freedom % 2 == 0:
        term = total = math.exp(-half)
        for number in range(1, freedom // 2):
            term *= half / number
            total += term
        return total
    total = math.erfc(math.sqrt(half))
    term = math.sqrt(2 * value / math.pi) * math.exp(-half)
    for number in range(3, freedom + 1, 2):
        total += term
        term *= value / number
    return total
