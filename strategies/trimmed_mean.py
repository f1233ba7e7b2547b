"""Coordinate-wise trimmed mean, weighted by reputation, in exact integers.

Yin, Chen, Kannan, Bartlett: "Byzantine-Robust Distributed Learning: Towards Optimal Statistical Rates", ICML 2018. In
each coordinate the f lowest and the f highest entries are dropped, and the others averaged.

What is dropped is *counted*, never weighed: with at most f hostile among n >= 2 f + 1 updates, whatever remains lies
between two honest entries, whoever has what reputation. So the weights of those that remain can move the mean within
the honest range and not out of it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from app.protocol.errors import RoundError
from app.protocol.fixed_point import divide_rounded
from strategies.blocks import over_blocks
from strategies.exact import Update, check_updates
from strategies.fedavg import checked_total

_BLOCK_BYTES = 2**20  # of one int64 block of columns; some five are alive at a time in each thread
_RANK_BITS = 16
_MOST = 2**_RANK_BITS


def trimmed_mean(updates: Sequence[Update], weights: Sequence[int], f: int) -> npt.NDArray[np.int64]:
    """Return the weighted mean of what is left in each coordinate, rounded once (`divide_rounded`).

    Of equal entries at the cut, the ones with the lowest weight are the lower: no order of arrival matters.

    Parameters
    ----------
    updates : sequence of numpy.ndarray
        n integer vectors of one shape ``(d,)``, entries up to ``2**47``.
    weights : sequence of int
        What each update weighs, above 0.
    f : int
        How many are dropped at either end; ``n >= 2 f + 1``.

    Returns
    -------
    numpy.ndarray of int64
        Shape ``(d,)``.

    Raises
    ------
    RoundError
        If there are too few updates for f, or more than ``2**16``.
    ProtocolError
        If the vectors do not fit together, or the weights are too large.
    """
    count = len(updates)
    if f < 0 or not 2 * f + 1 <= count <= _MOST:
        raise RoundError(f"a trimmed mean with f = {f} needs f >= 0 and {2 * f + 1} to {_MOST} updates, got {count}")
    dimension, peak = check_updates(updates)
    checked_total(weights, peak)
    by_weight = sorted(range(count), key=lambda i: weights[i])
    ranked = np.array([weights[i] for i in by_weight], dtype=np.int64)
    mean = np.empty(dimension, dtype=np.int64)
    width = max(1, _BLOCK_BYTES // (8 * count))

    def fill(starts: range) -> None:
        for start in starts:
            # Entry and rank of its weight in one integer: one sort orders both.
            keys = np.stack([updates[i][start : start + width] for i in by_weight], axis=1).astype(np.int64)
            keys = (keys << _RANK_BITS) + np.arange(count)
            keys.sort(axis=1)
            kept = keys[:, f : count - f]
            scale = ranked[kept & (_MOST - 1)]
            total = ((kept >> _RANK_BITS) * scale).sum(axis=1)
            mean[start : start + width] = divide_rounded(total, scale.sum(axis=1))

    over_blocks(fill, dimension, width)
    return mean
