"""How much Gaussian noise a guarantee takes: the analytic Gaussian mechanism.

Balle and Wang, "Improving the Gaussian Mechanism for Differential Privacy", ICML 2018, theorem 8. Noise of standard
deviation sigma on a query of L2 sensitivity Delta is (epsilon, delta)-differentially private if and only if, with
s = sigma / Delta,

    Phi(u) - exp(epsilon) Phi(-v) <= delta,    u = 1/(2 s) - epsilon s,    v = 1/(2 s) + epsilon s.
"""

from __future__ import annotations

import math

from app.protocol.errors import PrivacyError

_ROOT_2 = math.sqrt(2.0)
_ROOT_2_PI = math.sqrt(2.0 * math.pi)


def gaussian_delta(scale: float, epsilon: float) -> float:
    """Return the smallest delta for which noise of ``scale`` times the sensitivity is (epsilon, delta)-private.

    Because (v**2 - u**2) / 2 = epsilon, the second term is phi(u) M(v) with Mills' ratio M(v) = Phi(-v) / phi(v):
    no exponential overflows, however large epsilon is.
    """
    u = 0.5 / scale - epsilon * scale
    v = 0.5 / scale + epsilon * scale
    return max(0.0, 0.5 * math.erfc(-u / _ROOT_2) - math.exp(-0.5 * u * u) / _ROOT_2_PI * _mills(v))


def gaussian_scale(epsilon: float, delta: float) -> float:
    """Return s(epsilon, delta): the smallest standard deviation of the noise for sensitivity 1.

    Found by bisection, since `gaussian_delta` falls with the scale; the result is on the private side of it.

    Raises
    ------
    PrivacyError
        If epsilon is not positive and finite, or delta not between 0 and 1.
    """
    if not (math.isfinite(epsilon) and epsilon > 0 and 0 < delta < 1):
        raise PrivacyError(f"no Gaussian noise gives epsilon {epsilon}, delta {delta} (0 < epsilon, 0 < delta < 1)")
    low, high = 1.0, 1.0
    while gaussian_delta(low, epsilon) <= delta:
        low /= 2.0
    while gaussian_delta(high, epsilon) > delta:
        high *= 2.0
    while low < (middle := 0.5 * (low + high)) < high:
        if gaussian_delta(middle, epsilon) > delta:
            low = middle
        else:
            high = middle
    return high


def gaussian_epsilon(scale: float, delta: float) -> float:
    """Return the smallest epsilon for which noise of ``scale`` times the sensitivity is (epsilon, delta)-private.

    Found by bisection, on the private side; 0 where the noise hides everything but ``delta``.
    """
    if gaussian_delta(scale, 0.0) <= delta:
        return 0.0
    low, high = 0.0, 1.0
    while gaussian_delta(scale, high) > delta:
        low, high = high, 2.0 * high
    while low < (middle := 0.5 * (low + high)) < high:
        low, high = (middle, high) if gaussian_delta(scale, middle) > delta else (low, middle)
    return high


def _mills(x: float) -> float:
    """Return Mills' ratio Phi(-x) / phi(x) for x > 0, by Laplace's continued fraction where erfc loses its digits."""
    if x < 5.0:
        return 0.5 * math.erfc(x / _ROOT_2) * _ROOT_2_PI * math.exp(0.5 * x * x)
    fraction = x
    for k in range(80, 0, -1):
        fraction = x + k / fraction
    return 1.0 / fraction
