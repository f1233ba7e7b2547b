"""Evaluation: which of the valid updates of a round are marked L.

Multi-Krum always drops f updates, also when everyone is honest. What it drops is not aggregated under either rule;
the rules differ in what a dropped update costs its customer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from app.protocol.errors import ConfigError

EvaluationRule = Callable[[Sequence[int], Sequence[int], int], frozenset[int]]
"""``rule(scores, selected, f)``: Krum scores of the n valid updates, positions that Multi-Krum selected, f. Returns
the positions that are marked L."""

OUTLIER_RATIO = 3
"""How many times the median score of the selected makes a dropped update an outlier.

Let honest updates be a common step m plus a deviation with E||e||^2 = s^2: two of them are 2 s^2 apart. A sign-flipped
update of scale 3 is 16 m^2 + 10 s^2 away from an honest one, so its ratio is 5 + 8 (m/s)^2, at least 5. An honest
update whose deviation is c times as long as the others' has (c^2 + 1) / 2, which exceeds 3 only beyond c = 2.2.
Scores are sums over the nearest neighbours alone, which narrows both; 3 lies between them.

Measured on scikit-learn's digits (an MLP, 10 customers, f = 2, 25 rounds, 20 seeds), honest marked L without an
attacker, and one sign-flipped attacker of scale 3 marked L: IID 0.1 % and 100 %; Dirichlet(1.0) 0.1 % and 100 %;
Dirichlet(0.5) 0.8 % and 99.8 %. At Dirichlet(0.5) a ratio of 2 marks 5 % of the honest, a ratio of 4 misses 3 % of the
attacks. At Dirichlet(0.1), one or two classes a customer, the rule marks 13 % of the honest: no ratio tells hostile
from different there.
"""

RESOLUTION = 16
"""The least median distance a neighbour, in squared grid steps, that the rule reckons with. Below it, updates differ
by a handful of roundings, and a multiple of nearly nothing would say nothing about a customer."""


def paper(scores: Sequence[int], selected: Sequence[int], f: int) -> frozenset[int]:
    """Mark L whatever Multi-Krum drops, as Zhao et al. 2020: every round f customers, hostile or not."""
    return frozenset(range(len(scores))) - frozenset(selected)


def outlier(scores: Sequence[int], selected: Sequence[int], f: int) -> frozenset[int]:
    """Mark L what Multi-Krum drops and whose score is far above the usual (the default).

    L iff ``score > OUTLIER_RATIO * max(median, (n - f - 2) * RESOLUTION)``, all integers; the median is the lower
    median of the selected scores, so that hostile updates among the selected cannot lift it as long as they are fewer
    than half of them.
    """
    if not selected:
        return frozenset()
    median = sorted(scores[i] for i in selected)[(len(selected) - 1) // 2]
    limit = OUTLIER_RATIO * max(median, (len(scores) - f - 2) * RESOLUTION)
    return frozenset(i for i in paper(scores, selected, f) if scores[i] > limit)


RULES: dict[str, EvaluationRule] = {"outlier": outlier, "paper": paper}


def evaluation_rule(name: str) -> EvaluationRule:
    """Return the rule of this name; raise `ConfigError` if there is none."""
    if name not in RULES:
        raise ConfigError("strategy.evaluation", f"unknown rule {name!r:.40}", sorted(RULES))
    return RULES[name]
