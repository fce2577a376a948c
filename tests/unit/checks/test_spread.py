"""How many probes make sure, and what the chi-square test says; values from printed tables."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hoplab.checks.spread import LEAST_SHARE, RISK, chance, chi_square, probes_to_see, risk_of_missing, survival


@pytest.mark.parametrize(
    ("freedom", "at_five_percent", "at_one_permille"),
    [(1, 3.841, 10.828), (2, 5.991, 13.816), (3, 7.815, 16.266), (4, 9.488, 18.467), (9, 16.919, 27.877)],
)
def test_the_distribution_is_the_one_of_the_tables(freedom, at_five_percent, at_one_permille):
    assert survival(at_five_percent, freedom) == pytest.approx(0.05, rel=2e-3)
    assert survival(at_one_permille, freedom) == pytest.approx(0.001, rel=2e-3)


@pytest.mark.parametrize(("counts", "expected"), [((50, 50), 0.0), ((60, 40), 4.0), ((10, 20, 30), 10.0)])
def test_pearsons_sum(counts, expected):
    assert chi_square(counts) == pytest.approx(expected)


def test_no_counts_are_no_test():
    with pytest.raises(ValueError, match="counts"):
        chi_square([0, 0])


def test_one_endpoint_has_all_of_it():
    assert chance([17]) == 1.0
    assert probes_to_see(1) == 1


@given(st.integers(2, 50), st.sampled_from([1.0, LEAST_SHARE]))
def test_after_so_many_probes_the_risk_is_what_was_accepted(endpoints, share):
    probes = probes_to_see(endpoints, share)
    assert risk_of_missing(endpoints, probes, share) <= RISK * 1.000001
    assert risk_of_missing(endpoints, probes - 1, share) > RISK * 0.999999


@given(st.lists(st.integers(0, 500), min_size=2, max_size=20).filter(sum))
def test_a_chance_is_a_probability_and_order_does_not_matter(counts):
    found = chance(counts)
    assert 0.0 <= found <= 1.0
    assert chance(sorted(counts)) == pytest.approx(found)


@pytest.mark.parametrize("endpoints", [2, 3, 5, 10])
def test_fair_counts_pass_and_a_wrong_probability_does_not(endpoints):
    """Two thousand fair draws in a hundred runs; then one endpoint with half of its share."""
    dice = random.Random(endpoints)
    names = range(endpoints)
    fair = [chance(_draw(dice, [1.0] * endpoints, 2000)) for _ in range(100)]
    assert sum(p < 0.05 for p in fair) < 15
    wrong = [chance(_draw(dice, [0.5] + [1.0] * (endpoints - 1), 2000)) for _ in range(20)]
    assert all(p < 0.001 for p in wrong), names


def _draw(dice: random.Random, weights: list[float], total: int) -> list[int]:
    drawn = dice.choices(range(len(weights)), weights, k=total)
    return [drawn.count(each) for each in range(len(weights))]


def test_survival_of_nothing_is_one():
    assert survival(0.0, 2) == 1.0
    assert math.isclose(survival(0.0, 3), 1.0)
