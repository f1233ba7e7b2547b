"""Evaluation: which of the valid updates of a round are marked L.

Multi-Krum always drops f updates, also when everyone is honest. What it drops is not aggregated under either rule;
the rules differ in what a dropped update costs its customer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from app.protocol.errors import ConfigError
from strategies.direction import Direction

EvaluationRule = Callable[[Sequence[int], Sequence[int], int, Direction], frozenset[int]]
"""``rule(scores, selected, f, direction)``: Krum scores of the n valid updates, positions that Multi-Krum selected, f,
and which way each update points. Returns the positions that are marked L."""

OUTLIER_RATIO = 3
"""How many times the median score of the selected makes a dropped update suspicious.

Let honest updates be a common step m plus a deviation with E||e||^2 = s^2: two of them are 2 s^2 apart. A sign-flipped
update of scale 3 is 16 m^2 + 10 s^2 away from an honest one, so its ratio is 5 + 8 (m/s)^2, at least 5. An honest
update whose deviation is c times as long as the others' has (c^2 + 1) / 2, which exceeds 3 only beyond c = 2.2.
Scores are sums over the nearest neighbours alone, which narrows both; 3 lies between them.
"""

ALIGNED = 8
"""A suspicious update keeps its H if the cosine between it and the sum of the selected is at least one in so many.

Distance alone cannot tell a hostile update from an honest one that is long because its customer has other data. Both
lie apart; but the honest one still points where the others are going, more or less, and what does harm points
elsewhere: a flipped update back, noise nowhere.

Measured on scikit-learn's digits in the clear (10 customers, f = 2, 25 rounds, 3 local epochs, one seed), honest
marked L without an attacker, by distance alone and with the direction too: Dirichlet(0.1) 20 % and 0 %; Dirichlet(0.5)
2.4 % and 0.4 %; IID 0.4 % and 0.4 %. Two attackers at Dirichlet(0.5) marked L: sign flip and noise 100 %, flipped
labels 84 %; ALIE, IPM at 0.5 and Min-Max 0 %: they hide in the spread of the honest, and are selected.
"""

FAR_RATIO = 50
"""How many times the median score is too far whatever the direction: an honest direction, multiplied.

The farthest honest update measured lay at 24 times the median, at Dirichlet(0.1)."""

RESOLUTION = 16
"""The least median distance a neighbour, in squared grid steps, that the rule reckons with. Below it, updates differ
by a handful of roundings, and a multiple of nearly nothing would say nothing about a customer."""


def paper(scores: Sequence[int], selected: Sequence[int], f: int, direction: Direction) -> frozenset[int]:
    """Mark L whatever Multi-Krum drops, as Zhao et al. 2020: every round f customers, hostile or not."""
    return frozenset(range(len(scores))) - frozenset(selected)


def outlier(scores: Sequence[int], selected: Sequence[int], f: int, direction: Direction) -> frozenset[int]:
    """Mark L what Multi-Krum drops, whose score is far above the usual, and that points elsewhere (the default).

    With ``M`` the sum of the selected and ``m = max(median, (n - f - 2) * RESOLUTION)``, where the median is the lower
    median of the selected scores, so that hostile updates among the selected cannot lift it as long as they are fewer
    than half of them, a dropped update u with score s is marked L iff, all in integers, ::

        s > FAR_RATIO * m   or   s > OUTLIER_RATIO * m  and  ALIGNED * <u, M> < |u| |M|
    """
    if not selected:
        return frozenset()
    median = sorted(scores[i] for i in selected)[(len(selected) - 1) // 2]
    usual = max(median, (len(scores) - f - 2) * RESOLUTION)

    def elsewhere(position: int) -> bool:
        inner, norm, size = direction(position)
        return inner <= 0 or ALIGNED**2 * inner**2 < norm * size

    return frozenset(
        i
        for i in paper(scores, selected, f, direction)
        if scores[i] > FAR_RATIO * usual or (scores[i] > OUTLIER_RATIO * usual and elsewhere(i))
    )


RULES: dict[str, EvaluationRule] = {"outlier": outlier, "paper": paper}


def evaluation_rule(name: str) -> EvaluationRule:
    """Return the rule of this name; raise `ConfigError` if there is none."""
    if name not in RULES:
        raise ConfigError("strategy.evaluation", f"unknown rule {name!r:.40}", sorted(RULES))
    return RULES[name]
