"""How sure counts make us: whether every endpoint answers, and whether they get equal shares.

Each probe picks an endpoint by chance.  An endpoint that was never picked may be out of
the rules, or may have had bad luck; the number of probes says how bad.  Equal shares
are judged by Pearson's chi-square test: the sum of (counted - expected)^2 / expected
follows the chi-square distribution with one degree of freedom less than endpoints, so a
large sum has a small probability when all shares are equal.
"""

from __future__ import annotations

import math

from hoplab.hops.chance import chance, chi_square, survival

__all__ = ["LEAST_SHARE", "RISK", "UNEVEN", "chance", "chi_square", "probes_to_see", "risk_of_missing", "survival"]

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
