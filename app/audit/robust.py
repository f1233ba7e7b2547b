"""Multi-Krum, marks and the weighted mean once more: plain and exact, with no code of the miners'.

Sources: Blanchard et al. 2017 (Krum); the rules themselves are the protocol's, as the policy names them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Vector = npt.NDArray[np.int64]

_BLOCK = 2**20  # entries: a sum of so many products of 33-bit halves stays far below 2**63


def squared_distance(one: Vector, other: Vector) -> int:
    """Return the squared L2 distance of two integer vectors, exactly, whatever their 32-bit entries are."""
    total = 0
    for start in range(0, len(one), _BLOCK):
        difference = one[start : start + _BLOCK] - other[start : start + _BLOCK]
        high, low = difference >> 16, difference & 0xFFFF
        total += (int(high @ high) << 32) + (int(high @ low) << 17) + int(low @ low)
    return total


def krum_scores(updates: Sequence[Vector], f: int) -> list[int]:
    """Return for each of n updates the sum of its n - f - 2 smallest squared distances to the others."""
    n = len(updates)
    distances = [[0] * n for _ in range(n)]
    for i in range(n):
        for j in range(i):
            distances[i][j] = distances[j][i] = squared_distance(updates[i], updates[j])
    return [sum(sorted(d for j, d in enumerate(distances[i]) if j != i)[: n - f - 2]) for i in range(n)]


def selected(scores: Sequence[int], digests: Sequence[bytes], f: int) -> set[int]:
    """Return the positions of the n - f updates with the lowest scores; of equal ones the lower digest is in."""
    order = sorted(range(len(scores)), key=lambda i: (scores[i], digests[i]))
    return set(order[: len(order) - f])


def marked_low(rule: str, scores: Sequence[int], kept: set[int], f: int) -> set[int]:
    """Return the positions that get L under a rule: ``paper``, all that was dropped; ``outlier``, what is far off too.

    Far off is a score above three times the lower median of the kept ones, or above three times 16 squared grid
    steps a neighbour where that is more.
    """
    dropped = set(range(len(scores))) - kept
    if rule == "paper":
        return dropped
    median = sorted(scores[i] for i in kept)[(len(kept) - 1) // 2]
    least = 16 * (len(scores) - f - 2)
    return {i for i in dropped if scores[i] > 3 * max(median, least)}


def weighted_mean(updates: Sequence[Vector], weights: Sequence[int]) -> Vector:
    """Return the weighted mean, each entry rounded to the nearest integer, halves up; zero where all weights are."""
    total = sum(weights)
    if total == 0:
        return np.zeros(len(updates[0]), dtype=np.int64)
    largest = max(int(np.abs(update).max(initial=0)) for update in updates)
    # Python's own integers where 64 bits might not hold a sum; they are exact, and slow.
    exact: type = np.int64 if total * largest < 2**62 else object
    numerator: npt.NDArray[Any] = np.zeros(len(updates[0]), dtype=exact)
    for weight, update in zip(weights, updates, strict=True):
        numerator += weight * update.astype(exact)
    quotient = numerator // total
    remainder = numerator - quotient * total
    return np.asarray(quotient + (2 * remainder >= total), dtype=np.int64)


def next_model(model: Vector, mean: Vector) -> Vector:
    """Return the model moved by the mean, saturated at 32 bits."""
    return np.asarray(np.clip(model + mean, -(2**31), 2**31 - 1), dtype=np.int64)
