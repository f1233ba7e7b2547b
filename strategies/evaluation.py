"""Evaluation: which of the valid updates of a round are marked L.

Multi-Krum always drops f updates, also when everyone is honest. What it drops is not aggregated under either rule;
the rules differ in what a dropped update costs its customer.

Who is dropped again and again drifts away from the others, honest or not: the model comes to fit the data of those
who are kept, their updates shrink and lose their common direction, while a customer whose data the model never fits
goes on asking for the same large change. After some dozens of rounds its update is hundreds of times as far away as
theirs, at right angles to them. One round alone cannot tell it from an attacker's. The task's earlier rounds can: they
show how far apart honest updates were when nobody's data was fitted yet, and whether this customer pointed where the
others went while they still went somewhere. So a mark looks at the records of all rounds, which the chain binds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from app.protocol.errors import ConfigError
from strategies.direction import MILLION, Bearings


@dataclass(frozen=True, slots=True)
class Past:
    """What the records of a task's earlier rounds say.

    Attributes
    ----------
    usual : int
        The largest `usual_score` of any of them; 0 where there is none.
    aligned, reach : tuple of int
        By position of the update: over the rounds in which its customer was scored, the sums of cosine (millionths)
        times reach, and of reach (`strategies.direction.Bearings`).
    """

    usual: int
    aligned: tuple[int, ...]
    reach: tuple[int, ...]


EvaluationRule = Callable[[Sequence[int], Sequence[int], int, Bearings, Past], frozenset[int]]
"""``rule(scores, kept, f, bearings, past)``: Krum scores of the n valid updates, positions that Multi-Krum kept, f,
which way each update points, and what earlier rounds say. Returns the positions that are marked L."""

OUTLIER_RATIO = 3
"""How many times the usual score makes a dropped update suspicious.

Let honest updates be a common step m plus a deviation with E||e||^2 = s^2: two of them are 2 s^2 apart. A sign-flipped
update of scale 3 is 16 m^2 + 10 s^2 away from an honest one, so its ratio is 5 + 8 (m/s)^2, at least 5. An honest
update whose deviation is c times as long as the others' has (c^2 + 1) / 2, which exceeds 3 only beyond c = 2.2.
Scores are sums over the nearest neighbours alone, which narrows both; 3 lies between them.
"""

ALIGNED = 16
"""A suspicious update keeps its H if its customer's cosines, over the task, come to at least one in so many.

The mean weighs each round by its reach: rounds in which the others had no common way say nothing about anybody. The
plain means that were measured (digits and 2,000 records of MNIST in the clear, 10 customers, f = 2, Dirichlet(0.5), 30
rounds): honest customers 0.05 to 0.8; sign flips -0.5 to -0.1; noise 0.00; flipped labels -0.13 on MNIST and 0.03 on
digits, where their first step agrees with everybody's. Weighted by reach, the honest stay above 1/16 over 100 rounds.
docs/robustness.md has who was marked, on seeds on which nothing was chosen.
"""

FAR_RATIO = 50
"""How many times the widest round's usual score is too far whatever the direction: an honest direction, multiplied."""

RESOLUTION = 16
"""The least usual distance a neighbour, in squared grid steps. Below it, updates differ by a handful of roundings, and
a multiple of nearly nothing would say nothing about a customer."""


def usual_score(scores: Sequence[int], kept: Sequence[int], f: int) -> int:
    """Return what a round's scores are compared with: ``max(median, (n - f - 2) * RESOLUTION)``.

    The median is the lower median of the kept scores: hostile updates among them cannot lift it as long as they are
    fewer than half. 0 where nothing was kept.
    """
    if not kept:
        return 0
    median = sorted(scores[i] for i in kept)[(len(kept) - 1) // 2]
    return max(median, (len(scores) - f - 2) * RESOLUTION)


def paper(scores: Sequence[int], kept: Sequence[int], f: int, bearings: Bearings, past: Past) -> frozenset[int]:
    """Mark L whatever Multi-Krum drops, as Zhao et al. 2020: every round f customers, hostile or not."""
    return frozenset(range(len(scores))) - frozenset(kept)


def outlier(scores: Sequence[int], kept: Sequence[int], f: int, bearings: Bearings, past: Past) -> frozenset[int]:
    """Mark L what Multi-Krum drops, whose score is far above the usual, and that points elsewhere (the default).

    With ``m`` the round's `usual_score`, ``w`` the largest of the task so far, and for a dropped update with score s
    its cosine c in this round and C, the mean of its customer's cosines over the task weighted by reach, all in
    integers, it is marked L iff ::

        s > FAR_RATIO * w             further than any honest update goes
        or s > OUTLIER_RATIO * w      as far off as honest ones never were, and pointing back
           and c <= 0
        or s > OUTLIER_RATIO * m      far from the others now, and elsewhere over the task
           and ALIGNED * C < 1
    """
    usual = usual_score(scores, kept, f)
    widest = max(usual, past.usual)

    def astray(position: int) -> bool:
        aligned = past.aligned[position] + bearings.cosines[position] * bearings.reach
        return ALIGNED * aligned < MILLION * (past.reach[position] + bearings.reach)

    def low(position: int) -> bool:
        score = scores[position]
        if score > FAR_RATIO * widest or (score > OUTLIER_RATIO * widest and bearings.cosines[position] <= 0):
            return True
        return score > OUTLIER_RATIO * usual and astray(position)

    return frozenset(filter(low, paper(scores, kept, f, bearings, past))) if kept else frozenset()


RULES: dict[str, EvaluationRule] = {"outlier": outlier, "paper": paper}


def evaluation_rule(name: str) -> EvaluationRule:
    """Return the rule of this name; raise `ConfigError` if there is none."""
    if name not in RULES:
        raise ConfigError("strategy.evaluation", f"unknown rule {name!r:.40}", sorted(RULES))
    return RULES[name]
