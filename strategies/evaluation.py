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

OUTLIER_RATIO = (4, 1)
RESOLUTION = 16


def paper(scores: Sequence[int], selected: Sequence[int], f: int) -> frozenset[int]:
    """Mark L whatever Multi-Krum drops, as Zhao et al. 2020: every round f customers, hostile or not."""
    return frozenset(range(len(scores))) - frozenset(selected)


def outlier(scores: Sequence[int], selected: Sequence[int], f: int) -> frozenset[int]:
    return frozenset()


RULES: dict[str, EvaluationRule] = {"outlier": outlier, "paper": paper}


def evaluation_rule(name: str) -> EvaluationRule:
    """Return the rule of this name; raise `ConfigError` if there is none."""
    if name not in RULES:
        raise ConfigError("strategy.evaluation", f"unknown rule {name!r:.40}", sorted(RULES))
    return RULES[name]
