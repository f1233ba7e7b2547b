"""The attacks' formulas against ByzFL, and against the laws of the papers that they come from."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from app.customer.attacks.vectors import Vector, alie, gaussian, ipm, jittered, min_max
from tests.byzfl_oracle import byzfl

HONEST = st.integers(2, 9).flatmap(
    lambda n: st.integers(1, 12).flatmap(lambda d: arrays(np.float64, (n, d), elements=st.floats(-100, 100, width=32)))
)
SCALES = st.floats(0.125, 8.0)


@given(HONEST, SCALES)
def test_alie_is_byzfls(honest: Vector, scale: float) -> None:
    expected = byzfl("attacks.attacks").ALittleIsEnough(tau=-scale)(honest)
    np.testing.assert_allclose(alie(honest, scale), expected, rtol=1e-12, atol=1e-12)


@given(HONEST, SCALES)
def test_ipm_is_byzfls(honest: Vector, scale: float) -> None:
    expected = byzfl("attacks.attacks").InnerProductManipulation(tau=scale)(honest)
    np.testing.assert_allclose(ipm(honest, scale), expected, rtol=1e-12, atol=1e-12)


def _largest(honest: Vector) -> float:
    return max(float(np.linalg.norm(one - other)) for one in honest for other in honest)


@given(HONEST)
def test_min_max_is_what_the_authors_bisection_finds(honest: Vector) -> None:
    mean, away, limit = honest.mean(axis=0), honest.std(axis=0, ddof=1), _largest(honest)
    low, high = 0.0, 1.0

    def within(gamma: float) -> bool:
        return max(float(np.linalg.norm(mean - gamma * away - row)) for row in honest) <= limit * (1 + 1e-12)

    if not away.any():
        assert np.array_equal(min_max(honest, 1.0), mean)
        return
    while within(high):
        high *= 2
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if within(middle) else (low, middle)
    np.testing.assert_allclose(min_max(honest, 1.0), mean - low * away, rtol=1e-5, atol=1e-4)


def test_min_max_reaches_the_largest_honest_distance_and_no_farther() -> None:
    honest = np.random.default_rng(0).normal(size=(8, 1000))
    sent = min_max(honest, 1.0)
    assert max(float(np.linalg.norm(sent - row)) for row in honest) == pytest.approx(_largest(honest))


def test_one_known_update_has_no_deviation() -> None:
    honest = np.random.default_rng(0).normal(size=(1, 20))
    assert np.array_equal(alie(honest, 1.5), honest[0])
    assert np.array_equal(min_max(honest, 1.5), honest[0])


def test_noise_is_as_long_as_it_says_and_the_generators_alone() -> None:
    own = np.random.default_rng(1).normal(0, 0.01, 50_000)
    noise = gaussian(own, 3.0, np.random.default_rng(2))
    assert np.linalg.norm(noise) == pytest.approx(3 * np.linalg.norm(own), rel=0.02)
    assert np.array_equal(noise, gaussian(own, 3.0, np.random.default_rng(2)))
    moved = jittered(own, 0.1, np.random.default_rng(3))
    assert np.linalg.norm(moved - own) == pytest.approx(0.1 * np.linalg.norm(own), rel=0.02)
    assert jittered(own, 0.0, np.random.default_rng(3)) is own
