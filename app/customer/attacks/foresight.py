"""Who of a crew strikes when, if it knows the reputation rule and wants to be weighed in most rounds.

A rejected update costs one point of reputation above the threshold h and everything at it. Where all customers stand
at the maximum, h is the maximum: nobody is above it. So one of several, the decoy, strikes whenever it counts. It is
soon far down, and pulls h below the maximum; each of the others strikes when it will not be below h afterwards.
"""

from __future__ import annotations

from collections.abc import Collection

from strategies.reputation import next_reputation, threshold


def strikers(round_number: int, customers: int, crew: range, gamma_initial: int, gamma_max: int) -> frozenset[int]:
    """Return who of the crew strikes in a round, predicted by the rule from the task's first round on.

    The prediction takes every strike for detected, and every honest customer for evaluated H.
    """
    gammas: tuple[int, ...] = (gamma_initial,) * customers
    for _ in range(1, round_number):
        gammas = _after(gammas, _strikers(gammas, crew, gamma_max), gamma_max)
    return _strikers(gammas, crew, gamma_max)


def _strikers(gammas: tuple[int, ...], crew: range, gamma_max: int) -> frozenset[int]:
    h = threshold(gammas)
    chosen = {crew[0]} if crew and gammas[crew[0]] >= h else set()
    for index in crew[1:]:
        later = _after(gammas, chosen | {index}, gamma_max)
        if gammas[index] > h and later[index] >= threshold(later):
            chosen.add(index)
    return frozenset(chosen)


def _after(gammas: tuple[int, ...], low: Collection[int], gamma_max: int) -> tuple[int, ...]:
    present = range(len(gammas))
    return next_reputation(gammas, present, set(present) - set(low), gamma_max)
