"""Multi-Krum in exact integers.

Blanchard, El Mhamdi, Guerraoui, Stainer: "Machine Learning with Adversaries: Byzantine Tolerant Gradient Descent",
NIPS 2017. The score of an update is the sum of the squared L2 distances to its n - f - 2 nearest others; the n - f
updates with the lowest scores are selected, as the paper of Zhao et al. (2020) does.

Miners vote on the outcome, so it must be the same on every machine. Updates are int16 grid integers, and so a
product of two entries is at most ``2**30`` in magnitude. A float64 matrix product over at most ``2**22`` columns
therefore only meets integers up to ``2**52``, which float64 holds exactly: whatever BLAS does, in whatever order and
on however many threads, the block's Gram matrix is the true one. Blocks are added in int64.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from app.protocol.errors import ProtocolError, RoundError
from app.protocol.fixed_point import UPDATE_DTYPE

Update = npt.NDArray[np.signedinteger[Any]]

_MAX_DIMENSION = 2**31 - 1  # a squared distance is at most d * (2**16 - 1)**2, which must stay below 2**63
_EXACT_COLUMNS = 2**22  # 2**22 * 2**30 = 2**52 < 2**53
_BLOCK_BYTES = 2**24  # of one float64 block: bounds the extra memory


def krum_scores(updates: Sequence[Update], f: int) -> list[int]:
    """Return each update's Krum score: the sum of the n - f - 2 smallest squared L2 distances to the others.

    Parameters
    ----------
    updates : sequence of numpy.ndarray
        n integer vectors of one shape ``(d,)``, entries within int16.
    f : int
        How many hostile updates must be withstood; ``n >= 2 f + 3``.

    Returns
    -------
    list of int
        n exact scores, in squared grid steps.

    Raises
    ------
    RoundError
        If there are too few updates for f.
    ProtocolError
        If the vectors differ in shape, or an entry is outside the range of int16.
    """
    count = len(updates)
    if f < 0 or count < 2 * f + 3:
        raise RoundError(f"Multi-Krum with f = {f} needs f >= 0 and at least {2 * f + 3} updates, got {count}")
    distances = squared_distances(updates)
    np.fill_diagonal(distances, np.iinfo(np.int64).max)  # nobody is its own neighbour
    neighbours = count - f - 2
    nearest = np.partition(distances, neighbours - 1, axis=1)[:, :neighbours]
    # A sum of distances may exceed 63 bits; the sums of their upper and lower halves do not.
    upper, lower = (nearest >> 32).sum(axis=1), (nearest & 0xFFFFFFFF).sum(axis=1)
    return [(int(high) << 32) + int(low) for high, low in zip(upper, lower, strict=True)]


def select(scores: Sequence[int], digests: Sequence[bytes], f: int) -> tuple[int, ...]:
    """Return the positions of the n - f lowest scores, ascending; ties go to the lower update digest.

    Parameters
    ----------
    scores : sequence of int
        n Krum scores.
    digests : sequence of bytes
        The updates' digests, in the same order: a tie-break that no order of arrival changes.
    f : int
        How many are dropped, from 0 to n - 1.
    """
    if not 0 <= f < len(scores):
        raise RoundError(f"f must be 0 to {len(scores) - 1} for {len(scores)} updates, not {f}")
    order = sorted(range(len(scores)), key=lambda i: (scores[i], digests[i], i))
    return tuple(sorted(order[: len(scores) - f]))


def squared_distances(updates: Sequence[Update]) -> npt.NDArray[np.int64]:
    """Return all pairwise squared L2 distances, exactly.

    Parameters
    ----------
    updates : sequence of numpy.ndarray
        n integer vectors of one shape ``(d,)``, entries within int16, ``d < 2**31``.

    Returns
    -------
    numpy.ndarray of int64
        Shape ``(n, n)``; symmetric, zero on the diagonal.
    """
    gram = _gram(updates)
    norms = np.diagonal(gram)
    return np.asarray(norms[:, None] + norms[None, :] - 2 * gram, dtype=np.int64)


def check_updates(updates: Sequence[Update]) -> int:
    """Return the common length d of integer vectors; raise `ProtocolError` unless shapes agree and int16 holds them."""
    shapes = {update.shape for update in updates}
    if len(shapes) != 1 or len(shape := shapes.pop()) != 1 or shape[0] > _MAX_DIMENSION:
        raise ProtocolError(f"updates must be vectors of one length up to {_MAX_DIMENSION}")
    info = np.iinfo(UPDATE_DTYPE)
    for update in updates:
        if not np.issubdtype(update.dtype, np.signedinteger):
            raise ProtocolError(f"an update has signed integer entries, not {update.dtype.name}")
        if update.dtype != UPDATE_DTYPE and update.size and not info.min <= update.min() <= update.max() <= info.max:
            raise ProtocolError(f"an update's entry is outside the range {info.min} to {info.max}")
    return int(shape[0])


def _gram(updates: Sequence[Update]) -> npt.NDArray[np.int64]:
    """Return all inner products, shape ``(n, n)``, block of columns by block of columns."""
    dimension, count = check_updates(updates), len(updates)
    width = max(1, min(_EXACT_COLUMNS, _BLOCK_BYTES // (8 * count), dimension))
    block = np.empty((count, width))
    gram = np.zeros((count, count), dtype=np.int64)
    for start in range(0, dimension, width):
        stop = min(start + width, dimension)
        columns = block[:, : stop - start]
        for row, update in zip(columns, updates, strict=True):
            row[:] = update[start:stop]
        gram += (columns @ columns.T).astype(np.int64)
    return gram
