"""Federated averaging, weighted by reputation, in exact integers.

McMahan et al. 2017 weigh an update by its number of examples, which nobody can check. Here an update weighs
``gamma * min(examples, cap)``: reputation is earned on chain, and a claim beyond the task's cap gains nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from app.protocol.errors import ProtocolError
from app.protocol.fixed_point import UPDATE_DTYPE, divide_rounded
from strategies.multi_krum import Update, check_updates

_BLOCK = 2**15  # columns summed at a time, so that the running sum stays in the cache
_PEAK = -int(np.iinfo(UPDATE_DTYPE).min)


def weight(gamma: int, examples: int, cap: int) -> int:
    """Return what an update weighs: ``gamma * min(examples, cap)``.

    Raises
    ------
    ProtocolError
        If one of them is negative.
    """
    if min(gamma, examples, cap) < 0:
        raise ProtocolError(f"reputation {gamma}, examples {examples} and their cap {cap} must not be negative")
    return gamma * min(examples, cap)


def reputation_weighted_mean(
    updates: Sequence[Update], gammas: Sequence[int], examples: Sequence[int], cap: int
) -> npt.NDArray[np.int64]:
    """Return the weighted mean of the updates, each entry rounded once (`divide_rounded`).

    Parameters
    ----------
    updates : sequence of numpy.ndarray
        At least one; integer vectors of one shape ``(d,)``, entries within int16.
    gammas, examples : sequence of int
        Reputation and claimed examples of each update's customer.
    cap : int
        The largest number of examples that counts.

    Returns
    -------
    numpy.ndarray of int64
        Shape ``(d,)``. Zero if all weights are zero: nobody who may be trusted has taught anything.

    Raises
    ------
    ProtocolError
        If the vectors do not fit together, or the weights are so large that a sum might exceed 63 bits.
    """
    dimension = check_updates(updates)
    weights = [weight(gamma, claim, cap) for gamma, claim in zip(gammas, examples, strict=True)]
    total = sum(weights)
    if total == 0:
        return np.zeros(dimension, dtype=np.int64)
    if (2 * _PEAK + 2) * total >= 2**63:  # bounds 2 |sum| + total, and 2 total, in `divide_rounded`
        raise ProtocolError(f"weights that sum to {total} are too large for exact 64-bit sums")
    mean = np.empty(dimension, dtype=np.int64)
    for start in range(0, dimension, _BLOCK):
        part = np.zeros(min(_BLOCK, dimension - start), dtype=np.int64)
        for scale, update in zip(weights, updates, strict=True):
            part += np.multiply(update[start : start + _BLOCK], scale, dtype=np.int64)
        mean[start : start + _BLOCK] = divide_rounded(part, total)
    return mean
