"""The reputation rule, as the contract applies it and every miner and auditor recomputes it.

Zhao et al. 2020 take the social norm of Zhang and van der Schaar (INFOCOM 2012) and replace its designed threshold by
the average reputation of the participants, here rounded down so that the four cases are exhaustive and exclusive.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from app.protocol.errors import ProtocolError


def threshold(gammas: Sequence[int]) -> int:
    """Return h, the participants' mean reputation rounded down; below it a customer is isolated.

    Raises
    ------
    ProtocolError
        If nobody took part.
    """
    if not gammas:
        raise ProtocolError("a round without participants has no reputation threshold")
    return sum(gammas) // len(gammas)


def next_reputation(
    gammas: Sequence[int], participants: Collection[int], honest: Collection[int], gamma_max: int
) -> tuple[int, ...]:
    """Apply one round to all customers' reputations.

    ===========================  =====================
    case, h = `threshold`        next gamma
    ===========================  =====================
    gamma < h, H or L            gamma + 1 (served isolation)
    gamma >= h, H                min(gamma_max, gamma + 1)
    gamma >= h + 1, L            gamma - 1
    gamma = h, L                 0
    did not take part            gamma
    ===========================  =====================

    Parameters
    ----------
    gammas : sequence of int
        By customer index, each from 0 to ``gamma_max``.
    participants, honest : collection of int
        Indices of the customers who took part, and of those among them who were evaluated H.
    gamma_max : int
        The highest reputation.

    Raises
    ------
    ProtocolError
        If nobody took part, or an index or a reputation is out of range.
    """
    present, marked_high = set(participants), set(honest)
    if not marked_high <= present <= set(range(len(gammas))):
        raise ProtocolError("honest customers must be participants, participants customers of the task")
    if any(not 0 <= gamma <= gamma_max for gamma in gammas):
        raise ProtocolError(f"a reputation is outside 0 to {gamma_max}")
    h = threshold([gammas[index] for index in sorted(present)])
    return tuple(
        _step(gamma, h, index in marked_high, gamma_max) if index in present else gamma
        for index, gamma in enumerate(gammas)
    )


def _step(gamma: int, h: int, honest: bool, gamma_max: int) -> int:
    if gamma < h:
        return gamma + 1
    if honest:
        return min(gamma_max, gamma + 1)
    return gamma - 1 if gamma > h else 0
