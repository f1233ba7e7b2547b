"""What several releases cost a record together.

Basic composition adds up epsilons and deltas. Where that is too much, privacy-loss distributions (Google's
dp-accounting) tell how unlikely it is that all of them reveal their most at once: for a delta, a smaller epsilon.
Both hold for releases that are chosen after earlier ones were seen.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from decimal import Decimal
from functools import lru_cache
from typing import TYPE_CHECKING

from app.privacy.cost import RECORD, PrivacyCost
from app.privacy.sampled import sampled_delta

if TYPE_CHECKING:
    from dp_accounting.pld.privacy_loss_distribution import PrivacyLossDistribution

Guarantee = tuple[Decimal, Decimal]
"""(epsilon, delta), in the decimal numbers that people wrote."""

_COARSEST = 3e-4  # measured: a finer one gains a part in 100,000 and takes six times as long
_NEGLIGIBLE = 1e-18
_FINEST_SHARE = 1e-5
_LARGEST_EPSILON = 100.0  # beyond it nothing is gained: every number is meaningless as a guarantee


def added_up(costs: Iterable[PrivacyCost], of_a_record: bool = True) -> Guarantee:
    """Return the sums, exactly: three times 0.1 is 0.3 here.

    Parameters
    ----------
    costs : iterable of PrivacyCost
        With all their steps.
    of_a_record : bool, default True
        Whether to add up what they cost a record; else what they cost their own unit.
    """
    epsilon = delta = Decimal(0)
    for cost in costs:
        epsilon += Decimal(str(cost.for_a_record if of_a_record else cost.epsilon))
        delta += Decimal(str(cost.delta))
    return epsilon, delta


def composed(costs: Sequence[PrivacyCost], budget: Guarantee) -> Guarantee:
    """Return a guarantee for a record against all of ``costs`` together.

    The sums, if they are within the budget. Otherwise the epsilon that privacy-loss distributions give at the budget's
    delta, if that is smaller.
    """
    simple = added_up(costs)
    if (simple[0] <= budget[0] and simple[1] <= budget[1]) or not _can_gain(costs, budget[1]):
        return simple
    epsilon = _tightly(costs, float(budget[1]))
    # Rounded up; it has far fewer digits that mean anything.
    tight = Decimal(math.ceil(epsilon * 1e6)) / 10**6 if math.isfinite(epsilon) else Decimal("Infinity")
    return (tight, budget[1]) if tight < simple[0] or simple[1] > budget[1] else simple


def dp_sgd_cost(noise_multiplier: float, sampling_rate: float, steps: int, delta: float) -> PrivacyCost:
    """Return what ``steps`` steps of DP-SGD cost, at ``delta``.

    Parameters
    ----------
    noise_multiplier : float
        Standard deviation of the noise on the sum of gradients, over the norm each is clipped to (as in Opacus).
    sampling_rate : float
        Probability with which a record is in a step: Poisson sampling.
    steps : int
        How many.
    delta : float
        For which an epsilon is given, between 0 and 1.
    """
    steps_alone = PrivacyCost("dp_sgd", RECORD, 0.0, delta, None, noise_multiplier, sampling_rate, steps)
    epsilon = _tightly([steps_alone], delta)
    return PrivacyCost("dp_sgd", RECORD, epsilon, delta, None, noise_multiplier, sampling_rate, steps)


def _can_gain(costs: Sequence[PrivacyCost], delta: Decimal) -> bool:
    several = len(costs) > 1 or any(cost.steps > 1 for cost in costs)
    return several and 0 < delta < 1 and all(cost.for_a_record <= _LARGEST_EPSILON for cost in costs)


def _tightly(costs: Sequence[PrivacyCost], delta: float) -> float:
    """Return epsilon at ``delta`` by privacy-loss distributions, rounded against us at every step of them."""
    counts: Counter[PrivacyCost] = Counter()
    for cost in costs:
        counts[_step(cost)] += cost.steps
    return _of_counts(frozenset(counts.items()), delta)


@lru_cache(maxsize=256)
def _of_counts(counts: frozenset[tuple[PrivacyCost, int]], delta: float) -> float:
    """Return epsilon of steps and how often each is taken; all customers of a process ask for the same few."""
    largest = max((cost.for_a_record for cost, _ in counts if math.isfinite(cost.for_a_record)), default=0.0)
    interval = max(_COARSEST, _FINEST_SHARE * largest * sum(count for _, count in counts))
    total: PrivacyLossDistribution | None = None
    # In one order: float sums must not depend on how a set is laid out.
    for cost, count in sorted(counts, key=lambda item: repr(item[0])):
        distribution = _distribution(cost, interval).self_compose(count)
        total = distribution if total is None else total.compose(distribution)
    return 0.0 if total is None else float(total.get_epsilon_for_delta(delta))


def _step(cost: PrivacyCost) -> PrivacyCost:
    """Return the cost of one step: those of the same kind are composed together."""
    epsilon, delta = (0.0, 0.0) if cost.noise_multiplier else (cost.for_a_record / cost.steps, cost.delta / cost.steps)
    return PrivacyCost(cost.mechanism, RECORD, epsilon, delta, None, cost.noise_multiplier, cost.sampling_rate)


def _distribution(cost: PrivacyCost, interval: float) -> PrivacyLossDistribution:
    from dp_accounting.pld import privacy_loss_distribution as pld
    from dp_accounting.pld.common import DifferentialPrivacyParameters

    if cost.noise_multiplier is None:
        # Laplace noise in many dimensions, and randomised response: nothing that is (epsilon, 0)-private reveals more
        # than a coin with the very probabilities that epsilon allows (Kairouz, Oh, Viswanath 2015).
        parameters = DifferentialPrivacyParameters(cost.epsilon, cost.delta)
        return pld.from_privacy_parameters(parameters, value_discretization_interval=interval)
    if cost.mechanism == "dp_sgd":
        return _subsampled(cost.noise_multiplier, cost.sampling_rate, interval)
    return pld.from_gaussian_mechanism(cost.noise_multiplier, value_discretization_interval=interval)


def _subsampled(noise_multiplier: float, rate: float, interval: float) -> PrivacyLossDistribution:
    """Return the distribution of one Poisson-sampled Gaussian step, see `app.privacy.sampled`.

    The laws of the worst pair are each other's mirror image, so one curve serves both orders, and its negative half
    follows from the positive one.
    """
    import numpy as np
    from dp_accounting.pld import pld_pmf
    from dp_accounting.pld import privacy_loss_distribution as pld

    def delta(epsilon: float) -> float:
        return sampled_delta(noise_multiplier, rate, epsilon)

    deltas = [delta(0.0)]
    while deltas[-1] > _NEGLIGIBLE and len(deltas) * interval < _LARGEST_EPSILON:
        deltas.append(delta(len(deltas) * interval))
    reach = len(deltas) - 1
    losses = interval * np.arange(1, reach + 1)
    negative = -np.expm1(-losses) + np.exp(-losses) * deltas[1:]
    deltas = np.minimum.accumulate([*negative[::-1], *deltas]).tolist()
    distribution = pld_pmf.create_pmf_pessimistic_connect_dots_fixed_gap(interval, -reach, reach, deltas)
    return pld.PrivacyLossDistribution(distribution)
