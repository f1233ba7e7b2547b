"""One sampled Gaussian step: the closed form against integration, and pairs of records that are not the worst."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad

from app.privacy.calibration import gaussian_delta
from app.privacy.sampled import sampled_delta

MULTIPLIERS, RATES = st.floats(0.3, 20.0), st.floats(0.001, 1.0)


@settings(max_examples=60, deadline=None)
@given(MULTIPLIERS, RATES, st.floats(0.0, 6.0))
def test_the_closed_form_is_the_integral_over_the_worst_pair(z: float, rate: float, epsilon: float) -> None:
    def density(x: float, mean: float) -> float:
        return math.exp(-0.5 * ((x - mean) / z) ** 2) / (z * math.sqrt(2 * math.pi))

    def excess(x: float) -> float:
        one = (1 - rate) * density(x, 0) + rate * density(x, 1)
        other = (1 - rate) * density(x, 0) + rate * density(x, -1)
        return max(0.0, one - math.exp(epsilon) * other)

    cuts = np.linspace(-10 * z - 1, 10 * z + 1, 41)
    direct = sum(quad(excess, a, b)[0] for a, b in itertools.pairwise(cuts))
    assert sampled_delta(z, rate, epsilon) == pytest.approx(direct, rel=1e-3, abs=1e-9)


@settings(max_examples=60, deadline=None)
@given(
    st.floats(0.4, 3.0),
    st.floats(0.01, 1.0),
    st.floats(0.0, 4.0),
    st.tuples(st.floats(0, 1), st.floats(0, 2 * math.pi)),
    st.tuples(st.floats(0, 1), st.floats(0, 2 * math.pi)),
)
def test_no_other_pair_loses_more(
    z: float, rate: float, epsilon: float, one: tuple[float, float], other: tuple[float, float]
) -> None:
    """Records' gradients of any length up to the clip, at any angle: two dimensions are all that two vectors span."""
    side = np.linspace(-8 * z - 1, 8 * z + 1, 321)
    x, y = np.meshgrid(side, side)
    cell = (side[1] - side[0]) ** 2

    def density(length: float, angle: float) -> np.ndarray:
        away = (x - length * math.cos(angle)) ** 2 + (y - length * math.sin(angle)) ** 2
        return np.exp(-0.5 * away / z**2) / (2 * math.pi * z**2)

    without = density(0, 0)
    first, second = ((1 - rate) * without + rate * density(*record) for record in (one, other))
    lost = float(np.maximum(first - math.exp(epsilon) * second, 0).sum() * cell)
    assert lost <= sampled_delta(z, rate, epsilon) + 1e-4  # the grid's own error


@given(MULTIPLIERS, st.floats(0.0, 30.0))
def test_a_record_that_is_always_drawn_is_a_gaussian_of_twice_the_clip(z: float, epsilon: float) -> None:
    assert sampled_delta(z, 1.0, epsilon) == pytest.approx(gaussian_delta(z / 2, epsilon), rel=1e-6, abs=1e-12)


@given(MULTIPLIERS, RATES, RATES, st.floats(0.0, 10.0))
def test_fewer_draws_lose_less(z: float, rate: float, other: float, epsilon: float) -> None:
    low, high = sorted((rate, other))
    assert sampled_delta(z, low, epsilon) <= sampled_delta(z, high, epsilon) * (1 + 1e-9) + 1e-12


@pytest.mark.parametrize("epsilon", [0.0, 50.0, 99.0])
def test_nothing_overflows(epsilon: float) -> None:
    for z in (0.1, 1.0, 4000.0):
        for rate in (1e-6, 0.5, 1.0):
            assert 0.0 <= sampled_delta(z, rate, epsilon) <= 1.0
