"""Coordinate-wise median, in exact integers.

Yin, Chen, Kannan, Bartlett: "Byzantine-Robust Distributed Learning: Towards Optimal Statistical Rates", ICML 2018.

Reputation decides who takes part and does not weigh: with at most f hostile among n >= 2 f + 1 updates, the middle
entry lies between two honest ones. In a weighted median f customers of high reputation could be the majority.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from app.protocol.errors import RoundError
from app.protocol.fixed_point import divide_rounded
from strategies.blocks import over_blocks
from strategies.exact import Update, check_updates

_BLOCK_BYTES = 2**20  # of one block of columns in the updates' own type


def median(updates: Sequence[Update], f: int) -> npt.NDArray[np.int64]:
    """Return the median of each coordinate; of an even number, the mean of the middle two, rounded half up.

    Parameters
    ----------
    updates : sequence of numpy.ndarray
        n integer vectors of one shape ``(d,)``.
    f : int
        How many hostile updates must be withstood; ``n >= 2 f + 1``.

    Returns
    -------
    numpy.ndarray of int64
        Shape ``(d,)``.

    Raises
    ------
    RoundError
        If there are too few updates for f.
    ProtocolError
        If the vectors do not fit together.
    """
    count = len(updates)
    if f < 0 or count < 2 * f + 1:
        raise RoundError(f"a median with f = {f} needs f >= 0 and at least {2 * f + 1} updates, got {count}")
    dimension, _ = check_updates(updates)
    lower, upper = (count - 1) // 2, count // 2
    result = np.empty(dimension, dtype=np.int64)
    width = max(1, _BLOCK_BYTES // (updates[0].dtype.itemsize * count))

    def fill(starts: range) -> None:
        for start in starts:
            columns = np.stack([update[start : start + width] for update in updates], axis=1)
            columns.partition((lower, upper), axis=1)
            middle = columns[:, lower].astype(np.int64) + columns[:, upper]
            result[start : start + width] = divide_rounded(middle, 2)

    over_blocks(fill, dimension, width)
    return result
