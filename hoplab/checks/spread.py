"""How sure counts make us: whether every endpoint answers, and whether they get equal shares.

Each probe picks an endpoint by chance.  An endpoint that was never picked may be out of
the rules, or may have had bad luck; the number of probes says how bad.  Equal shares
are judged by Pearson's chi-square test: the sum of (counted - expected)^2 / expected
follows the chi-square distribution with one degree of freedom less than endpoints, so a
large sum has a small probability when all shares are equal.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

RISK = 1e-6
"""Accepted probability that a sound cluster is called unsound, or that luck alone hides an endpoint."""
UNEVEN = 0.001
"""A chi-square probability below this tells of unequal shares."""
LEAST_SHARE = 0.25
"""Of its even share: what an endpoint must get at least to count as one that answers (policy Local is uneven)."""


def probes_to_see(endpoints: int, share: float = 1.0) -> int:
    """Probes after which each of n endpoints was picked at least once, but for a risk of RISK (pure).

    `share`: of the even share that each gets at least.
    """
    if endpoints <= 1:
        return 1
    missed = 1 - share / endpoints
    return math.ceil(math.log(RISK / endpoints) / math.log(missed))


def risk_of_missing(endpoints: int, probes: int, share: float = 1.0) -> float:
    """Probability that one of n endpoints that get at least this share was never picked (at most 1)."""
    return 1.0 if not endpoints else min(1.0, endpoints * (1 - share / endpoints) ** probes)


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
