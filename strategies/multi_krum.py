"""Multi-Krum in exact integers.

Blanchard, El Mhamdi, Guerraoui, Stainer: "Machine Learning with Adversaries: Byzantine Tolerant Gradient Descent",
NIPS 2017. The score of an update is the sum of the squared L2 distances to its n - f - 2 nearest others; the n - f
updates with the lowest scores are selected, as the paper of Zhao et al. (2020) does.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from app.protocol.errors import RoundError
from strategies.exact import Exact, Update, squared_distances


def krum_scores(updates: Sequence[Update], f: int) -> list[int]:
    """Return each update's Krum score: the sum of the n - f - 2 smallest squared L2 distances to the others.

    Parameters
    ----------
    updates : sequence of numpy.ndarray
        n integer vectors of one shape ``(d,)``.
    f : int
        How many hostile updates must be withstood; ``n >= 2 f + 3``.

    Returns
    -------
    list of int
        n exact scores, in squared grid steps.

    Raises
    ------
    RoundError
        If there are too few updates for f.
    ProtocolError
        If the vectors differ in shape, or are not of integers.
    """
    _check_bound(len(updates), f)
    return scores_of(squared_distances(updates), f)


def scores_of(distances: Exact, f: int) -> list[int]:
    """Return the Krum scores of n updates from their squared distances, shape ``(n, n)``; see `krum_scores`."""
    count = len(distances)
    _check_bound(count, f)
    neighbours = count - f - 2
    others = distances[~np.eye(count, dtype=bool)].reshape(count, count - 1)  # nobody is its own neighbour
    if others.dtype == object:
        return [sum(row) for row in np.sort(others, axis=1)[:, :neighbours].tolist()]
    nearest = np.partition(others, neighbours - 1, axis=1)[:, :neighbours]
    # A sum of distances may exceed 63 bits; the sums of their upper and lower halves do not.
    upper, lower = (nearest >> 32).sum(axis=1), (nearest & 0xFFFFFFFF).sum(axis=1)
    return [(int(high) << 32) + int(low) for high, low in zip(upper, lower, strict=True)]


def select(scores: Sequence[int], digests: Sequence[bytes], f: int) -> tuple[int, ...]:
    """Return the positions of the n - f lowest scores, ascending; ties go to the lower update digest.

    Parameters
    ----------
    scores : sequence of int
        n Krum scores.
    digests : sequence of bytes
        The updates' digests, in the same order: a tie-break that no order of arrival changes.
    f : int
        How many are dropped, from 0 to n - 1.
    """
    if not 0 <= f < len(scores):
        raise RoundError(f"f must be 0 to {len(scores) - 1} for {len(scores)} updates, not {f}")
    order = sorted(range(len(scores)), key=lambda i: (scores[i], digests[i], i))
    return tuple(sorted(order[: len(scores) - f]))


def shares(distances: Exact, digests: Sequence[bytes], f: int) -> tuple[int, ...]:
    """Return 1 for each update that Multi-Krum selects, 0 for the others; see `strategies.aggregation`."""
    kept = set(select(scores_of(distances, f), digests, f))
    return tuple(int(position in kept) for position in range(len(digests)))


def _check_bound(count: int, f: int) -> None:
    if f < 0 or count < 2 * f + 3:
        raise RoundError(f"Multi-Krum with f = {f} needs f >= 0 and at least {2 * f + 3} updates, got {count}")
