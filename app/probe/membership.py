"""Membership inference: tell whether this very record was among those of which the features were released.

The adversary knows the extractor, the size of the noise and the candidate's label, and owns records of the same kind.
It sums, over the n released vectors r of that label, the ratio of two densities,

    score(x) = log (1 / n) sum_r  N(r; phi(x), s^2 I) / q(r),
    q(r) = mean over a of N(r; phi(a), (s^2 + h^2) I),

the likelihood ratio of "one of the r came from x" to "all came from the population", with the population estimated from
its own records a of the label by kernels whose width h follows Scott's rule. Everything that happens to the releases
later, training and averaging included, is post-processing: an attack on the model cannot know more than this one sees.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp
from scipy.stats import norm

Array = NDArray[np.float64]

SHARPEST = 1e-3  # deviation that stands for "no noise": equal vectors still meet float32's rounding


def scores(
    candidates: Array,
    candidate_labels: NDArray[np.int64],
    released: Array,
    released_labels: NDArray[np.int64],
    own: Array,
    own_labels: NDArray[np.int64],
    noise: float,
) -> Array:
    """Return the score of each candidate: the higher, the more likely a member.

    Parameters
    ----------
    candidates : ndarray of float64, shape (n, d)
        Clean features of the records in question.
    released : ndarray of float64, shape (m, d)
        What the phone let out.
    own : ndarray of float64, shape (k, d)
        Clean features of the adversary's own records.
    candidate_labels, released_labels, own_labels : ndarray of int64
        Their classes.
    noise : float
        Standard deviation of the noise on each released feature; 0 for none.
    """
    deviation = max(noise, SHARPEST)
    found = np.full(len(candidates), -np.inf)
    for label in np.unique(candidate_labels):
        here, seen, known = candidate_labels == label, released_labels == label, own_labels == label
        if not (seen.any() and known.any()):
            continue
        smooth = math.hypot(deviation, _kernel_width(own[known]))
        population = logsumexp(_log_density(released[seen], own[known], smooth), axis=1) - math.log(known.sum())
        ratios = _log_density(candidates[here], released[seen], deviation) - population
        found[here] = logsumexp(ratios, axis=1) - math.log(seen.sum())
    return found


def true_positive_rate(members: Array, others: Array, false_positive_rate: float) -> float:
    """Return the share of members above the threshold that at most ``false_positive_rate`` of the others pass."""
    passing = math.floor(false_positive_rate * len(others))
    threshold = np.sort(others)[::-1][passing]
    return float(np.mean(members > threshold))


def most_possible(false_positive_rate: float, sensitivity_over_noise: float) -> float:
    """Return the true positive rate that no attack on one Gaussian release of a record can exceed.

    Of N(0, 1) against N(sensitivity / noise, 1), by Neyman and Pearson (Dong, Roth and Su, "Gaussian Differential
    Privacy", JRSS-B 84, 2022).
    """
    if math.isinf(sensitivity_over_noise):
        return 1.0
    return float(norm.cdf(norm.ppf(false_positive_rate) + sensitivity_over_noise))


def _kernel_width(own: Array) -> float:
    """Return Scott's k^(-1 / (d + 4)) times the deviation of k records of d features."""
    count, size = own.shape
    shrunk: float = count ** (-1 / (size + 4))
    return float(np.sqrt(own.var(axis=0).mean())) * shrunk


def _log_density(x: Array, centres: Array, deviation: float) -> Array:
    """Return the logarithms of N(x_i; c_j, deviation^2 I), shape (len(x), len(centres)), but for (2 pi)^(-d / 2)."""
    squares = (x * x).sum(axis=1)[:, None] + (centres * centres).sum(axis=1) - 2 * x @ centres.T
    log_density: Array = -np.maximum(squares, 0) / (2 * deviation**2) - x.shape[1] * math.log(deviation)
    return log_density
