"""The number of selected sub-users is binomial, exactly: its laws, and an independent computation of it."""

from __future__ import annotations

import random
from collections.abc import Iterator
from fractions import Fraction
from itertools import accumulate, pairwise
from math import comb

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from app.mining.sortition import OUTPUT_BITS, chance, priority, selected
from app.protocol.digest import sha256

RANGE = 2**OUTPUT_BITS
CHANCES = st.tuples(st.integers(1, 40), st.integers(1, 200)).map(lambda pair: chance(*pair))
OUTPUTS = st.integers(0, RANGE - 1)


def output(number: int) -> bytes:
    return number.to_bytes(64, "big")


def brute(m: int, p: Fraction) -> list[Fraction]:
    """P(j) by enumerating all subsets of m sub-users, where they are few; no formula of ours in it."""
    mass = [Fraction(0)] * (m + 1)
    for subset in range(2**m):
        j = subset.bit_count()
        mass[j] += p**j * (1 - p) ** (m - j)
    return mass


def first_with_more_than(j: int, weight: int, p: Fraction) -> int:
    """The least output with more than j selected: by bisection, which needs nothing but the function itself."""
    low, high = 0, RANGE
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if selected(output(middle), weight, p) > j else (middle + 1, high)
    return low


def measured(weight: int, p: Fraction) -> list[Fraction]:
    """P(j) over all 2**512 outputs."""
    ends = [0, *(first_with_more_than(j, weight, p) for j in range(weight)), RANGE]
    return [Fraction(right - left, RANGE) for left, right in pairwise(ends)]


def test_chance() -> None:
    assert chance(3, 12) == Fraction(1, 4)
    assert chance(3, 2) == chance(3, 3) == 1
    assert chance(3, 0) == 0


@pytest.mark.parametrize("m", range(9))
@pytest.mark.parametrize("p", [Fraction(1, 2), Fraction(1, 7), Fraction(6, 7), Fraction(1), Fraction(0)])
def test_every_count_has_its_binomial_share_of_all_outputs(m: int, p: Fraction) -> None:
    """Exact up to the grain of 2**-512: each end of an interval is the true one, rounded up to an output."""
    ends = list(accumulate(measured(m, p)))
    assert ends == [Fraction(-(-cdf * RANGE // 1), RANGE) for cdf in accumulate(brute(m, p))]


def test_the_interval_is_not_the_papers() -> None:
    """Zhao and the printed Algorand paper are off by one: the lowest outputs must select nobody."""
    p = Fraction(1, 2)
    assert selected(output(0), 2, p) == 0
    assert selected(output(RANGE // 4 - 1), 2, p) == 0
    assert selected(output(RANGE // 4), 2, p) == 1
    assert selected(output(3 * RANGE // 4 - 1), 2, p) == 1
    assert selected(output(3 * RANGE // 4), 2, p) == selected(output(RANGE - 1), 2, p) == 2


@given(OUTPUTS, st.integers(0, 300), CHANCES)
@settings(max_examples=200, deadline=None)
def test_against_scipy_where_floats_can_tell(number: int, weight: int, p: Fraction) -> None:
    found = selected(output(number), weight, p)
    u, mass = number / RANGE, float(p)
    assert 0 <= found <= weight
    assert binom.cdf(found - 1, weight, mass) - 1e-9 <= u <= binom.cdf(found, weight, mass) + 1e-9


@given(OUTPUTS, st.integers(0, 60), CHANCES)
@settings(max_examples=200, deadline=None)
def test_against_fractions(number: int, weight: int, p: Fraction) -> None:
    u, cdf, j = Fraction(number, RANGE), Fraction(0), -1
    while cdf <= u:
        j += 1
        cdf += comb(weight, j) * p**j * (1 - p) ** (weight - j)
    assert selected(output(number), weight, p) == j


@given(OUTPUTS, OUTPUTS, st.integers(0, 60), st.integers(0, 5), CHANCES, CHANCES)
@settings(max_examples=100, deadline=None)
def test_monotonic_in_output_weight_and_chance(
    one: int, two: int, weight: int, more: int, p: Fraction, q: Fraction
) -> None:
    low, high = sorted((one, two))
    assert selected(output(low), weight, p) <= selected(output(high), weight, p)
    assert selected(output(one), weight, p) <= selected(output(one), weight + more, p)
    assert selected(output(one), weight, min(p, q)) <= selected(output(one), weight, max(p, q))


def convolved(left: list[Fraction], right: list[Fraction]) -> list[Fraction]:
    out = [Fraction(0)] * (len(left) + len(right) - 1)
    for i, a in enumerate(left):
        for j, b in enumerate(right):
            out[i + j] += a * b
    return out


@pytest.mark.parametrize(("one", "two"), [(1, 1), (2, 3), (1, 5), (4, 4)])
def test_splitting_a_stake_changes_nothing(one: int, two: int) -> None:
    """Two accounts together have the distribution of one with both weights, not only its mean (to the grain)."""
    p = chance(3, 17)
    together, apart = measured(one + two, p), convolved(measured(one, p), measured(two, p))
    assert all(abs(a - b) <= Fraction(100, RANGE) for a, b in zip(together, apart, strict=True))
    mean = sum(j * share for j, share in enumerate(together))
    assert abs(mean - (one + two) * p) <= Fraction(100, RANGE)


def test_tau_is_how_many_are_selected_on_average() -> None:
    """2,000 draws of a committee with the weights 1 to 10 (total 55), tau = 7: mean 7, standard error 0.055."""
    p, draw = chance(7, 55), random.Random(0)
    totals = [sum(selected(draw.randbytes(64), weight, p) for weight in range(1, 11)) for _ in range(2000)]
    assert abs(sum(totals) / len(totals) - 7) < 0.25


def test_the_largest_stake_there_may_be() -> None:
    """Binomial with mean 20 in a median draw: numbers of a million bits, and no float near them."""
    assert selected(output(RANGE // 2), 65_534, chance(20, 65_535)) == 20


def seeds(n: int) -> Iterator[bytes]:
    return (sha256(bytes([i])) * 2 for i in range(n))


def test_a_priority_is_the_lowest_hash_of_the_sub_users() -> None:
    """By an independent reading of the rule: SHA-256 of prefix, output, index in 4 bytes."""
    for drawn in seeds(5):
        hashes = [sha256(b"hearth/sub-user/1" + drawn + bytes([0, 0, 0, i])) for i in range(20)]
        for count in (1, 2, 20):
            assert priority(drawn, count) == min(hashes[:count])
    lowest = [priority(next(seeds(1)), count) for count in range(1, 30)]
    assert lowest == sorted(lowest, reverse=True)
