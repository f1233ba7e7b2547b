"""The analytic Gaussian mechanism: golden values, independent implementations, laws."""

from __future__ import annotations

import math

import dp_accounting
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

from app.privacy.calibration import gaussian_delta, gaussian_scale
from app.protocol.errors import PrivacyError


@pytest.mark.parametrize(
    ("epsilon", "scale"),
    [(0.5, 7.032), (1, 3.731), (2, 1.994), (4, 1.081), (8, 0.600), (10, 0.500), (16, 0.344)],
)
def test_golden_scales_at_delta_1e_5(epsilon: float, scale: float) -> None:
    assert gaussian_scale(epsilon, 1e-5) == pytest.approx(scale, abs=5e-4)


@pytest.mark.parametrize("delta", [1e-10, 1e-5, 1e-2, 0.3])
@pytest.mark.parametrize("epsilon", [0.01, 0.1, 1.0, 4.0, 8.0, 20.0, 60.0])
def test_equals_dp_accounting(epsilon: float, delta: float) -> None:
    assert gaussian_scale(epsilon, delta) == pytest.approx(dp_accounting.get_sigma_gaussian(epsilon, delta), rel=1e-6)


@given(st.floats(0.05, 8), st.floats(0.01, 20))
def test_delta_is_theorem_8_as_scipy_computes_it(scale: float, epsilon: float) -> None:
    left = norm.cdf(0.5 / scale - epsilon * scale)
    right = math.exp(epsilon) * norm.cdf(-0.5 / scale - epsilon * scale)
    assert gaussian_delta(scale, epsilon) == pytest.approx(left - right, rel=1e-6, abs=1e-14)


@given(st.floats(0.01, 500), st.floats(1e-12, 0.5))
def test_the_scale_is_enough_and_hardly_less_is_not(epsilon: float, delta: float) -> None:
    scale = gaussian_scale(epsilon, delta)
    assert gaussian_delta(scale, epsilon) <= delta
    assert gaussian_delta(scale * (1 - 1e-6), epsilon) > delta


@given(st.floats(0.01, 100), st.floats(1.001, 2), st.floats(1e-10, 0.4))
def test_less_privacy_takes_less_noise(epsilon: float, factor: float, delta: float) -> None:
    assert gaussian_scale(epsilon * factor, delta) < gaussian_scale(epsilon, delta)
    assert gaussian_scale(epsilon, delta * factor) < gaussian_scale(epsilon, delta)


def test_a_huge_epsilon_does_not_overflow() -> None:
    assert 0 < gaussian_scale(5000.0, 1e-5) < 0.02


@pytest.mark.parametrize(
    ("epsilon", "delta"),
    [(0, 1e-5), (-1, 1e-5), (math.inf, 1e-5), (math.nan, 1e-5), (1, 0), (1, 1), (1, math.nan)],
)
def test_impossible_guarantees_are_refused(epsilon: float, delta: float) -> None:
    with pytest.raises(PrivacyError, match="no Gaussian noise"):
        gaussian_scale(epsilon, delta)
