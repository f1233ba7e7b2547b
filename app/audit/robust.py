"""The aggregation rules and the marks once more: plain and exact, with no code of the miners'.

Every quantity is an integer, every tie has a rule, so there is one right answer. Short and readable beats fast here:
what the miners compute with bounds and bit tricks is written down as its definition says.

Sources: Blanchard et al., NIPS 2017 (Multi-Krum); Allouah et al., AISTATS 2023 (nearest-neighbour mixing); Yin et al.,
ICML 2018 (trimmed mean, median); Karimireddy et al., ICLR 2022 (bucketing); McMahan et al., AISTATS 2017 (federated
averaging).
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

Vector = npt.NDArray[np.int64]

AGGREGATORS = ("multi_krum", "nnm_krum", "trimmed_mean", "median", "fedavg")
_BLOCK = 2**16  # columns at a time: of all updates, in memory


@dataclass(slots=True)
class Judged:
    """What a round's n valid updates come to.

    Attributes
    ----------
    scores : list of int
        Krum scores.
    cosines : list of int
        Between each update and the sum of the kept ones, in millionths.
    usual, reach : int
        What scores are compared with, and the squared length of that sum.
    low : set of int
        Positions that are marked L.
    shares : list of int
        How often each update enters the aggregate.
    """

    scores: list[int]
    cosines: list[int]
    usual: int
    reach: int
    low: set[int]
    shares: list[int]


@dataclass(slots=True)
class Standing:
    """What the rounds so far say of the customers, by index.

    Attributes
    ----------
    usual : int
        The largest usual score of any round.
    aligned, reach : Counter of int
        Sums over the rounds in which a customer was scored: its cosine times the round's reach, and the reach.
    """

    usual: int = 0
    aligned: Counter[int] = field(default_factory=Counter)
    reach: Counter[int] = field(default_factory=Counter)

    def add(self, judged: Judged, customers: Sequence[int]) -> None:
        """Note a round; ``customers`` are the indices of the valid updates' customers, by position."""
        self.usual = max(self.usual, judged.usual)
        for customer, cosine in zip(customers, judged.cosines, strict=True):
            self.aligned[customer] += cosine * judged.reach
            self.reach[customer] += judged.reach


def judge(
    updates: Sequence[Vector],
    digests: Sequence[bytes],
    f: int,
    aggregator: str,
    rule: str,
    customers: Sequence[int],
    before: Standing,
    groups: Sequence[Sequence[int]] = (),
) -> Judged | None:
    """Score, mark and choose; None where the updates are fewer than 2 f + 3, and the round is void.

    ``before`` is what earlier rounds say of ``customers``, the updates' customers by index. With ``groups``, the scores
    come from the distances to a centre that is found through these buckets.
    """
    if len(updates) < 2 * f + 3:
        return None
    shares = [1] * len(updates)
    if groups:
        scores = _scores_through(updates, groups, f, aggregator)
        kept = lowest(scores, digests, f)
        if aggregator in ("multi_krum", "nnm_krum"):
            shares = [int(i in kept) for i in range(len(updates))]
    else:
        distances = all_distances(updates)
        scores = krum_scores(distances, f)
        kept = lowest(scores, digests, f)
        if aggregator == "multi_krum":
            shares = [int(i in kept) for i in range(len(updates))]
        elif aggregator == "nnm_krum":
            shares = _mixed_shares(updates, distances, digests, f)
    total = np.asarray(np.sum([updates[i] for i in kept], axis=0), dtype=np.int64)
    cosines, reach = [_cosine(update, total) for update in updates], inner(total, total)
    usual = max(sorted(scores[i] for i in kept)[(len(kept) - 1) // 2], 16 * (len(scores) - f - 2))
    judged = Judged(scores, cosines, usual, reach, set(range(len(updates))) - kept, shares)
    if rule != "paper":
        judged.low = {i for i in judged.low if _is_outlier(judged, i, customers[i], before)}
    return judged


def dealt(names: Sequence[bytes], seed: bytes, count: int) -> list[list[int]]:
    """Return the positions in each of ``count`` buckets: shuffled by sha-256, then dealt like cards."""
    groups: list[list[int]] = [[] for _ in range(count)]
    shuffled = sorted((hashlib.sha256(seed + name).digest(), position) for position, name in enumerate(names))
    for turn, (_, position) in enumerate(shuffled):
        groups[turn % count].append(position)
    return groups


def combine(updates: Sequence[Vector], weights: Sequence[int], f: int, aggregator: str) -> Vector | None:
    """Return the aggregate of the updates that weigh something; None where they are too few for the rule."""
    heavy = [i for i, weight in enumerate(weights) if weight > 0]
    if len(heavy) < (2 * f + 1 if aggregator in ("trimmed_mean", "median") else 1):
        return None
    chosen, scale = [updates[i] for i in heavy], [weights[i] for i in heavy]
    columns = range(0, len(chosen[0]), _BLOCK)
    parts = [_combine([v[at : at + _BLOCK] for v in chosen], scale, f, aggregator) for at in columns]
    return np.concatenate(parts) if parts else np.zeros(0, dtype=np.int64)


def next_model(model: Vector, step: Vector) -> Vector:
    """Return the model moved by a step, saturated at 32 bits."""
    return np.asarray(np.clip(model + step, -(2**31), 2**31 - 1), dtype=np.int64)


def inner(one: Vector, other: Vector) -> int:
    """Return the inner product of two integer vectors, exactly, for entries below 2**41 in magnitude."""
    total = 0
    for start in range(0, len(one), _BLOCK):
        a, b = one[start : start + _BLOCK], other[start : start + _BLOCK]
        (a, low_a), (b, low_b) = (a >> 20, a & 0xFFFFF), (b >> 20, b & 0xFFFFF)  # products below 2**42, sums 2**59
        total += (int(a @ b) << 40) + (int(a @ low_b + low_a @ b) << 20) + int(low_a @ low_b)
    return total


def squared_distance(one: Vector, other: Vector) -> int:
    """Return the squared L2 distance of two integer vectors, exactly, for entries below 2**40 in magnitude."""
    difference = one - other
    return inner(difference, difference)


def all_distances(vectors: Sequence[Vector]) -> list[list[int]]:
    """Return all pairwise squared distances."""
    distances = [[0] * len(vectors) for _ in vectors]
    for i, one in enumerate(vectors):
        for j in range(i):
            distances[i][j] = distances[j][i] = squared_distance(one, vectors[j])
    return distances


def krum_scores(distances: Sequence[Sequence[int]], f: int) -> list[int]:
    """Return for each of n updates the sum of its n - f - 2 smallest squared distances to the others."""
    n = len(distances)
    return [sum(sorted(d for j, d in enumerate(row) if j != i)[: n - f - 2]) for i, row in enumerate(distances)]


def lowest(scores: Sequence[int], digests: Sequence[bytes], f: int) -> set[int]:
    """Return the positions of the n - f lowest scores; of equal ones the lower digest is in."""
    order = sorted(range(len(scores)), key=lambda i: (scores[i], digests[i]))
    return set(order[: len(order) - f])


def _is_outlier(judged: Judged, position: int, customer: int, before: Standing) -> bool:
    """Return whether what was dropped is marked L under the rule ``outlier``.

    So it is with a score above 50 times the largest usual score of the task so far; or above three times that, and
    with a cosine of at most 0; or above three times this round's usual score, and with a customer whose cosines, over
    the task and weighted by reach, have a mean below 1/16.
    """
    score, cosine, widest = judged.scores[position], judged.cosines[position], max(judged.usual, before.usual)
    if score > 50 * widest or (score > 3 * widest and cosine <= 0):
        return True
    aligned = before.aligned[customer] + cosine * judged.reach
    return score > 3 * judged.usual and 16 * aligned < 10**6 * (before.reach[customer] + judged.reach)


def _cosine(update: Vector, total: Vector) -> int:
    """Return the cosine between two vectors in millionths, rounded towards zero; 0 where one of them is zero."""
    product, lengths = inner(update, total), math.isqrt(inner(update, update) * inner(total, total))
    size = min(10**6, 10**6 * abs(product) // lengths) if lengths else 0
    return -size if product < 0 else size


def _scores_through(updates: Sequence[Vector], groups: Sequence[Sequence[int]], f: int, aggregator: str) -> list[int]:
    """Return (n - f - 2) times each update's squared distance from the centre plus their lower median."""
    common = math.lcm(*(len(group) for group in groups))
    # Python's own integers: a mean times the common denominator may leave 64 bits.
    means: list[Any] = [sum(updates[i].astype(object) for i in group) * (common // len(group)) for group in groups]
    distances, names = all_distances(means), [number.to_bytes(8, "big") for number in range(len(groups))]
    if aggregator == "nnm_krum":
        shares = _mixed_shares(means, distances, names, f)
    else:
        kept = lowest(krum_scores(distances, f), names, f)
        shares = [int(number in kept) for number in range(len(groups))]
    total: Any = sum(mean * share for mean, share in zip(means, shares, strict=True))
    centre = _rounded(total, common * sum(shares))
    away = [squared_distance(update, centre) for update in updates]
    median = sorted(away)[(len(away) - 1) // 2]
    return [(len(updates) - f - 2) * (distance + median) for distance in away]


def _mixed_shares(
    updates: Sequence[Vector], distances: Sequence[Sequence[int]], digests: Sequence[bytes], f: int
) -> list[int]:
    """Replace each update by the sum of its n - f nearest, itself first; count in how many chosen sums each is."""
    n = len(updates)
    members = []
    for i in range(n):
        others = sorted((j for j in range(n) if j != i), key=lambda j: (distances[i][j], digests[j]))
        members.append([i, *others[: n - f - 1]])
    mixtures = [np.sum([updates[j] for j in group], axis=0) for group in members]
    chosen = lowest(krum_scores(all_distances(mixtures), f), digests, f)
    return [sum(j in members[i] for i in chosen) for j in range(n)]


def _combine(updates: list[Vector], weights: list[int], f: int, aggregator: str) -> Vector:
    if aggregator == "median":
        ordered = np.sort(np.stack(updates), axis=0)
        middle = ordered[(len(updates) - 1) // 2] + ordered[len(updates) // 2]
        return _rounded(middle, np.int64(2))
    largest = max(int(np.abs(update).max(initial=0)) for update in updates)
    # Python's own integers where 64 bits might not hold a sum; they are exact, and slow.
    exact: Any = np.int64 if sum(weights) * max(1, largest) < 2**61 else object
    values = np.stack(updates).astype(exact)
    scale = np.broadcast_to(np.array(weights, dtype=exact)[:, None], values.shape)
    if aggregator == "trimmed_mean":
        order = np.lexsort((scale, values), axis=0)[f : len(updates) - f]  # by entry, equal ones by weight
        values, scale = np.take_along_axis(values, order, axis=0), np.take_along_axis(scale, order, axis=0)
    return _rounded((values * scale).sum(axis=0), scale.sum(axis=0))


def _rounded(numerator: npt.NDArray[Any], denominator: Any) -> Vector:
    """Divide integers and round to the nearest, halves up."""
    quotient = numerator // denominator
    remainder = numerator - quotient * denominator
    return np.asarray(quotient + (2 * remainder >= denominator), dtype=np.int64)
