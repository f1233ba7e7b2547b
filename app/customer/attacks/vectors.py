"""What hostile customers send, as functions of honest updates: the formulas of the literature, nothing else.

Updates are float64 vectors of one length d; ``honest`` is an array of shape (n, d), one row an update.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Vector = npt.NDArray[np.float64]


def gaussian(own: Vector, scale: float, generator: np.random.Generator) -> Vector:
    """Return noise without content, ``scale`` times as long as the honest update ``own`` on average."""
    spread = scale * float(np.sqrt(np.mean(own * own)))
    return generator.normal(0.0, spread, own.shape)


def alie(honest: Vector, scale: float) -> Vector:
    """Return ``mean - scale * deviation``, coordinate by coordinate: A Little Is Enough.

    Baruch, Baruch, Goldberg (NeurIPS 2019). The deviation is the sample's (n - 1), as in ByzFL; zero for one update.
    """
    return np.asarray(honest.mean(axis=0) - scale * _deviation(honest))


def ipm(honest: Vector, scale: float) -> Vector:
    """Return ``-scale * mean``: inner product manipulation, Xie, Koyejo, Gupta (UAI 2019)."""
    return np.asarray(-scale * honest.mean(axis=0))


def min_max(honest: Vector, scale: float) -> Vector:
    """Return ``mean - scale * gamma * deviation``: Min-Max, Shejwalkar, Houmansadr (NDSS 2021).

    ``gamma`` is the largest number for which the result is no farther from any honest update than two honest updates
    are from each other. The authors search it by bisection. It is a root of a quadratic equation: with m the mean, p
    the deviation and D the largest distance, ``|m - gamma p - x|^2 <= D^2`` holds for one update x up to ::

        gamma(x) = (b + sqrt(b^2 + |p|^2 (D^2 - |m - x|^2))) / |p|^2 ,   b = <m - x, p>

    and gamma is the least of these over all x.
    """
    mean, away = honest.mean(axis=0), _deviation(honest)
    size = float(away @ away)
    if size == 0.0:
        return np.asarray(mean)
    gram = honest @ honest.T
    norms = np.diagonal(gram)
    largest = float((norms[:, None] + norms[None, :] - 2 * gram).max())
    gap = mean - honest
    b = gap @ away
    gamma = float(((b + np.sqrt(b * b + size * (largest - (gap * gap).sum(axis=1)).clip(0))) / size).min())
    return np.asarray(mean - scale * gamma * away)


def jittered(vector: Vector, jitter: float, generator: np.random.Generator) -> Vector:
    """Return the vector plus noise that is ``jitter`` times as long on average."""
    return vector + gaussian(vector, jitter, generator) if jitter else vector


def _deviation(honest: Vector) -> Vector:
    return honest.std(axis=0, ddof=1) if len(honest) > 1 else np.zeros(honest.shape[1])
