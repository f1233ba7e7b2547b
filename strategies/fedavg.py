"""Federated averaging, weighted by reputation, in exact integers.

McMahan et al. 2017 weigh an update by its number of examples, which nobody can check. Here an update weighs
``gamma * min(examples, cap)``: reputation is earned on chain, and a claim beyond the task's cap gains nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from app.protocol.errors import ProtocolError
from app.protocol.fixed_point import divide_rounded
from strategies.blocks import over_blocks
from strategies.exact import Update, check_updates

_BLOCK = 2**15  # columns summed at a time, so that the running sum stays in the cache


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


def weighted_mean(updates: Sequence[Update], weights: Sequence[int]) -> npt.NDArray[np.int64]:
    """Return the weighted mean of the updates, each entry rounded once (`divide_rounded`).

    Parameters
    ----------
    updates : sequence of numpy.ndarray
        At least one; integer vectors of one shape ``(d,)``.
    weights : sequence of int
        What each update weighs (`weight`), from 0.

    Returns
    -------
    numpy.ndarray of int64
        Shape ``(d,)``. Zero if all weights are zero: nobody who may be trusted has taught anything.

    Raises
    ------
    ProtocolError
        If the vectors do not fit together, or the weights are so large that a sum might exceed 63 bits.
    """
    dimension, peak = check_updates(updates)
    total = checked_total(weights, peak)
    if total == 0:
        return np.zeros(dimension, dtype=np.int64)
    mean = np.empty(dimension, dtype=np.int64)
    weighed = [(scale, update) for scale, update in zip(weights, updates, strict=True) if scale]

    def fill(starts: range) -> None:
        for start in starts:
            part = np.zeros(min(_BLOCK, dimension - start), dtype=np.int64)
            for scale, update in weighed:
                part += np.multiply(update[start : start + _BLOCK], scale, dtype=np.int64)
            mean[start : start + _BLOCK] = divide_rounded(part, total)

    over_blocks(fill, dimension, _BLOCK)
    return mean


def checked_total(weights: Sequence[int], peak: int) -> int:
    """Return the sum of the weights; raise `ProtocolError` unless sums of entries up to ``peak`` times them fit."""
    total = sum(weights)
    if min(weights, default=0) < 0 or (2 * peak + 2) * total >= 2**63:  # bounds 2 |sum| + total in `divide_rounded`
        raise ProtocolError(f"weights that sum to {total} are too large for exact 64-bit sums, or one is negative")
    return total
