"""What Gaussian noise gives away, worked out here independently of the code that the parties run."""

from __future__ import annotations

import math

import numpy as np

CELL = 2e-3  # of the privacy loss
_REACH = 40.0  # losses beyond it are as good as no privacy
_POINTS = 200_001


def gaussian_delta(scale: float, epsilon: float) -> float:
    """Return the delta of Gaussian noise of ``scale`` times the sensitivity (Balle and Wang, ICML 2018, theorem 8)."""
    u, v = 0.5 / scale - epsilon * scale, 0.5 / scale + epsilon * scale
    if v < 25.0:
        log_tail = math.log(0.5 * math.erfc(v / math.sqrt(2.0)))
    else:  # erfc runs out of range: its asymptotic series is exact to a part in a billion here
        series = 1.0 - v**-2 + 3.0 * v**-4 - 15.0 * v**-6
        log_tail = -0.5 * v * v - math.log(v * math.sqrt(2.0 * math.pi)) + math.log(series)
    return 0.5 * math.erfc(-u / math.sqrt(2.0)) - math.exp(epsilon + log_tail)


def sampled_epsilon(multiplier: float, rate: float, steps: int, delta: float) -> float:
    """Return what ``steps`` steps of DP-SGD lose of a record: epsilon at ``delta``, to about `CELL`.

    A record whose gradient is +1 against one whose gradient is -1, in a step with probability ``rate``: one step is to
    tell (1 - r) N(0, z**2) + r N(1, z**2) from the same with -1. No other pair of records loses more (a half-space of
    given probability without the record has the most with the one and the least with the other, by Neyman and
    Pearson). Their privacy loss is put in cells and convolved.
    """
    x = np.linspace(-12.0 * multiplier - 1.0, 12.0 * multiplier + 1.0, _POINTS)
    of_none, of_one, of_other = (np.exp(-0.5 * ((x - mean) / multiplier) ** 2) for mean in (0.0, 1.0, -1.0))
    law = (1.0 - rate) * of_none + rate * of_one
    loss = np.log(law / ((1.0 - rate) * of_none + rate * of_other))
    span = 2 ** math.ceil(math.log2(2.0 * _REACH / CELL))
    cells = np.clip(np.rint(loss / CELL).astype(np.int64), -span // 2 + 1, span // 2 - 1)
    masses = np.bincount(cells % span, weights=law / law.sum(), minlength=span)
    total = np.fft.irfft(np.fft.rfft(masses) ** steps, span)
    losses = np.arange(span)
    losses = np.where(losses < span // 2, losses, losses - span) * CELL

    def left(epsilon: float) -> float:
        beyond = losses > epsilon
        return float(np.sum(total[beyond] * -np.expm1(epsilon - losses[beyond])))

    low, high = 0.0, _REACH
    while high - low > CELL:
        middle = 0.5 * (low + high)
        low, high = (middle, high) if left(middle) > delta else (low, middle)
    return low
