"""Scores for rounds with too many updates to compare each with each.

Karimireddy, He, Jaggi: "Byzantine-Robust Learning on Heterogeneous Datasets via Bucketing", ICLR 2022. The n updates
are dealt by the round's seed into as many buckets as the task's cohort allows, and Multi-Krum (or nearest-neighbour
mixing) works on the buckets' means: n d for the sums and cohort^2 d for the distances instead of n^2 d. What it selects
has a mean, the *centre*. Each update is then scored by its distance from the centre, and the n - f lowest scores are
kept, as they would be without buckets: a customer is judged by its own update, never by the bucket that it fell into.

What that costs in robustness. f hostile customers may spoil f buckets, so the cohort must be at least 2 f + 3: of
10,000 customers and 256 buckets no more than 126 hostile ones are withstood (1.3 %), where a comparison of all pairs
would withstand 4,998. A larger cohort buys more, at the square of the time. Within that bound the centre is as good as
Multi-Krum on less noisy vectors: the variance of a mean of s updates is s times less, so very unequal data disturb it
less. Whoever is kept afterwards lies no farther from the centre than the farthest honest update, as at most f are
hostile.

All of it is exact: the buckets' sums are integers, sums of unequal buckets are brought to one denominator, and the
centre is rounded once.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Sequence

import numpy as np
import numpy.typing as npt

from app.protocol.errors import RoundError
from strategies.exact import Exact, Update, check_updates, distances_of, gram_of_blocks
from strategies.fedavg import weighted_mean

Buckets = tuple[tuple[int, ...], ...]
"""Positions of the updates in each bucket."""

Shares = Callable[[Exact, Sequence[bytes], int], tuple[int, ...]]
"""``shares(distances, digests, f)``: how often each of n vectors enters a mean."""

_BLOCK = 2**15  # columns that are looked at together: sums of 2**15 squared limbs stay below 2**53


def deal(names: Sequence[bytes], seed: bytes, count: int) -> Buckets:
    """Deal n updates into ``count`` buckets whose sizes differ by one at most.

    Parameters
    ----------
    names : sequence of bytes
        One for each update, all different: whoever is in a bucket follows from the names, whatever their order.
    seed : bytes
        Decides who meets whom.
    count : int
        How many buckets, from 1 to n.
    """
    order = sorted(range(len(names)), key=lambda i: hashlib.sha256(seed + names[i]).digest())
    return tuple(tuple(order[first::count]) for first in range(count))


def centre(updates: Sequence[Update], buckets: Buckets, f: int, shares: Shares) -> npt.NDArray[np.int64]:
    """Return the mean of the updates in the buckets that a rule selects, each entry rounded once.

    Parameters
    ----------
    updates : sequence of numpy.ndarray
        n integer vectors of one shape ``(d,)``.
    buckets : Buckets
        At least ``2 f + 3``, each with an update.
    f : int
        How many hostile updates, and so buckets, must be withstood.
    shares : Shares
        The rule that selects, see `strategies.aggregation`.

    Raises
    ------
    RoundError
        If there are too few buckets for f.
    """
    if len(buckets) < 2 * f + 3 or not all(buckets):
        raise RoundError(f"bucketing with f = {f} needs at least {2 * f + 3} buckets with updates, got {len(buckets)}")
    dimension, peak = check_updates(updates)
    sizes = [len(bucket) for bucket in buckets]

    def sums(start: int, stop: int) -> Iterable[Update]:
        for bucket in buckets:
            total = np.zeros(stop - start, dtype=np.int64)
            for position in bucket:
                total += updates[position][start:stop]
            yield total

    products = gram_of_blocks(sums, len(buckets), dimension, peak * max(sizes)).astype(object)
    common = math.lcm(*sizes)
    factors = [common // size for size in sizes]  # a bucket's sum times its factor is its mean times ``common``
    scale = np.array(factors, dtype=object)
    names = [position.to_bytes(8, "big") for position in range(len(buckets))]
    chosen = shares(distances_of(products * scale[:, None] * scale[None, :]), names, f)
    weights = [0] * len(updates)
    for bucket, factor, share in zip(buckets, factors, chosen, strict=True):
        for position in bucket:
            weights[position] = factor * share
    return weighted_mean(updates, weights)


def distance_scores(updates: Sequence[Update], middle: npt.NDArray[np.int64], f: int) -> list[int]:
    """Return a score for each update that stands for its Krum score, from its distance to the centre.

    Two honest updates that scatter independently about the centre are, on average, their two squared distances from it
    apart. So ``(n - f - 2) * (|u - c|**2 + m)``, with m the lower median of all those distances, is in the unit of the
    Krum score and near to it: the evaluation's ratio means the same with and without buckets.

    Parameters
    ----------
    updates : sequence of numpy.ndarray
        n integer vectors of shape ``(d,)``, entries up to ``2**31``.
    middle : numpy.ndarray of int64
        The centre.
    f : int
        How many hostile updates must be withstood.
    """
    distances = [_squared_distance(update, middle) for update in updates]
    usual = sorted(distances)[(len(distances) - 1) // 2]
    return [(len(updates) - f - 2) * (distance + usual) for distance in distances]


def _squared_distance(update: Update, middle: npt.NDArray[np.int64]) -> int:
    """Return an exact squared distance of entries up to 2**32 apart, through limbs of 16 bits as `strategies.exact`."""
    total = 0
    for start in range(0, len(middle), _BLOCK):
        difference = update[start : start + _BLOCK] - middle[start : start + _BLOCK]
        high, low = (difference >> 16).astype(np.float64), (difference & 0xFFFF).astype(np.float64)
        total += (int(high @ high) << 32) + (int(high @ low) << 17) + int(low @ low)
    return total
