"""The aggregation rules by name, and how a round's valid updates become scores, shares and one aggregate.

A rule has two steps. ``shares`` looks at the exact distances of all n valid updates and says how often each enters,
from 0. ``combine`` makes one vector of those that enter *and weigh something*: an update weighs its share times
``gamma * min(examples, cap)``, and nothing where its customer is isolated. For the coordinate-wise rules every share is
1; they drop what lies at the ends in ``combine``.

===============  ==========================================  ===============================================
name             who enters                                  how they are combined
===============  ==========================================  ===============================================
``multi_krum``   the n - f lowest Krum scores                mean weighted by reputation
``nnm_krum``     as many times as it is in selected          mean weighted by reputation times share
                 mixtures of n - f nearest neighbours
``trimmed_mean`` all                                         f dropped at either end of each coordinate, then
                                                             the mean weighted by reputation
``median``       all                                         median of each coordinate, unweighted
``fedavg``       all                                         mean weighted by reputation; withstands nobody
===============  ==========================================  ===============================================

Whatever the rule, marks (H or L) follow from Krum scores, so that they can be compared; `Opinion.kept` is what
Multi-Krum would select. All rules therefore need ``n >= 2 f + 3``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from app.protocol.errors import ConfigError
from strategies import multi_krum, nearest_neighbour_mixing
from strategies.bucketing import Buckets, Shares, centre, distance_scores
from strategies.exact import Exact, Update, squared_distances
from strategies.fedavg import weighted_mean
from strategies.median import median
from strategies.trimmed_mean import trimmed_mean


@dataclass(frozen=True, slots=True)
class Aggregator:
    """One rule.

    Attributes
    ----------
    shares : callable or None
        ``shares(distances, digests, f)``: how often each of n updates enters; None where all enter once.
    combine : callable
        ``combine(updates, weights, f)``: the aggregate of updates that all weigh something, int64 of shape ``(d,)``.
    least : callable
        ``least(f)``: how many updates `combine` needs; with fewer the model stays as it is.
    """

    shares: Shares | None
    combine: Callable[[Sequence[Update], Sequence[int], int], npt.NDArray[np.int64]]
    least: Callable[[int], int]


@dataclass(frozen=True, slots=True)
class Opinion:
    """What the distances say about n valid updates.

    Attributes
    ----------
    scores : tuple of int
        Krum scores in squared grid steps.
    kept : tuple of int
        Positions of the n - f lowest scores, ascending: Multi-Krum's selection, under every rule.
    shares : tuple of int
        How often each update enters the aggregate.
    """

    scores: tuple[int, ...]
    kept: tuple[int, ...]
    shares: tuple[int, ...]


def _mean(updates: Sequence[Update], weights: Sequence[int], f: int) -> npt.NDArray[np.int64]:
    return weighted_mean(updates, weights)


def _median(updates: Sequence[Update], weights: Sequence[int], f: int) -> npt.NDArray[np.int64]:
    return median(updates, f)


def _one(f: int) -> int:
    return 1


def _honest_majority(f: int) -> int:
    return 2 * f + 1


AGGREGATORS: dict[str, Aggregator] = {
    "multi_krum": Aggregator(multi_krum.shares, _mean, _one),
    "nnm_krum": Aggregator(nearest_neighbour_mixing.shares, _mean, _one),
    "trimmed_mean": Aggregator(None, trimmed_mean, _honest_majority),
    "median": Aggregator(None, _median, _honest_majority),
    "fedavg": Aggregator(None, _mean, _one),
}


def aggregator(name: str) -> Aggregator:
    """Return the rule of this name; raise `ConfigError` if there is none."""
    if name not in AGGREGATORS:
        raise ConfigError("strategy.aggregator", f"unknown rule {name!r:.40}", sorted(AGGREGATORS))
    return AGGREGATORS[name]


def least_valid(f: int) -> int:
    """Return how many valid updates a round needs: with fewer it is void, whatever the rule."""
    return 2 * f + 3


def judge(
    updates: Sequence[Update],
    digests: Sequence[bytes],
    f: int,
    rule: Aggregator,
    buckets: Buckets = (),
    distances: Exact | None = None,
) -> Opinion:
    """Score n valid updates and say which enter the aggregate.

    Parameters
    ----------
    updates : sequence of numpy.ndarray
        n >= 2 f + 3 integer vectors of one shape ``(d,)``.
    digests : sequence of bytes
        The updates' digests, which break ties.
    f : int
        How many hostile updates must be withstood.
    rule : Aggregator
        The task's rule.
    buckets : Buckets
        Where n is too large for pairwise distances: scores come from the distances to a centre that is found through
        these buckets (`strategies.bucketing`), and a rule of its own shares finds the centre and then keeps the n - f
        lowest scores.
    distances : numpy.ndarray, optional
        The updates' exact squared distances, shape ``(n, n)``, where the caller has them already.

    Raises
    ------
    RoundError
        If there are too few updates, or buckets, for f.
    """
    if buckets:
        scores = distance_scores(updates, centre(updates, buckets, f, rule.shares or multi_krum.shares), f)
        kept = multi_krum.select(scores, digests, f)
        chosen = set(range(len(updates)) if rule.shares is None else kept)
        return Opinion(tuple(scores), kept, tuple(int(position in chosen) for position in range(len(updates))))
    distances = squared_distances(updates) if distances is None else distances
    scores = multi_krum.scores_of(distances, f)
    kept = multi_krum.select(scores, digests, f)
    shares = (1,) * len(digests) if rule.shares is None else rule.shares(distances, digests, f)
    return Opinion(tuple(scores), kept, shares)


def combine(
    updates: Sequence[Update], weights: Sequence[int], f: int, rule: Aggregator
) -> npt.NDArray[np.int64] | None:
    """Return the aggregate of the updates that weigh something; None if they are too few for the rule.

    Parameters
    ----------
    updates : sequence of numpy.ndarray
        Integer vectors of one shape ``(d,)``.
    weights : sequence of int
        What each weighs, from 0.
    f, rule
        See `judge`.
    """
    heavy = [position for position, value in enumerate(weights) if value > 0]
    if len(heavy) < rule.least(f):
        return None
    return rule.combine([updates[i] for i in heavy], [weights[i] for i in heavy], f)
