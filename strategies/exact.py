"""Exact inner products and distances of integer vectors, through float64 BLAS.

Miners vote on what follows from these numbers, so they must be the same on every machine. An entry is cut into signed
limbs of 16 bits: an int16 update has one, an int32 update two. A product of two limbs is at most ``2**30`` in
magnitude, so a float64 matrix product over at most ``2**22`` columns only ever meets integers up to ``2**52``, which
float64 holds exactly: whatever BLAS does, in whatever order and on however many threads, the block's product is the
true one. Blocks (`strategies.blocks`) are added in int64; where one limb is not enough, the limbs' products are put
together in Python's integers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from app.protocol.errors import ProtocolError
from strategies.blocks import over_blocks

Update = npt.NDArray[np.signedinteger[Any]]
"""An integer vector of shape ``(d,)``: the update of one customer, on the task's grid."""

Exact = npt.NDArray[Any]
"""A matrix of exact integers: int64 where they fit, Python's own (dtype object) where they may not."""

MAX_ENTRY = 2**47
"""Largest magnitude of an entry: three limbs, enough for the sum of ``2**16`` int32 updates."""
_MAX_DIMENSION = 2**31 - 1  # a squared distance of int16 vectors is at most d * (2**16 - 1)**2: it stays below 2**63
_LIMB_BITS = 16
_HALF = 2**15  # the largest magnitude of a limb
_EXACT_COLUMNS = 2**22  # 2**22 * 2**30 = 2**52 < 2**53
_BLOCK_BYTES = 2**23  # of the float64 blocks of a thread: bounds the extra memory


def check_updates(updates: Sequence[Update]) -> tuple[int, int]:
    """Return the common length d of integer vectors and a bound on the magnitude of their entries.

    Raises
    ------
    ProtocolError
        Unless they are vectors of one length with signed integer entries up to `MAX_ENTRY`.
    """
    shapes = {update.shape for update in updates}
    if len(shapes) != 1 or len(shape := shapes.pop()) != 1 or shape[0] > _MAX_DIMENSION:
        raise ProtocolError(f"updates must be vectors of one length up to {_MAX_DIMENSION}")
    peak = max(_peak(update) for update in updates)
    if peak > MAX_ENTRY:
        raise ProtocolError(f"an update's entry is beyond {MAX_ENTRY}")
    return int(shape[0]), peak


def squared_distances(updates: Sequence[Update]) -> Exact:
    """Return all pairwise squared L2 distances, exactly.

    Parameters
    ----------
    updates : sequence of numpy.ndarray
        n integer vectors of one shape ``(d,)``, ``d < 2**31``, entries up to `MAX_ENTRY`.

    Returns
    -------
    numpy.ndarray
        Shape ``(n, n)``; symmetric, zero on the diagonal. int64 for int16 entries, object beyond.
    """
    return distances_of(gram(updates))


def distances_of(products: Exact) -> Exact:
    """Return the squared distances that follow from inner products, both of shape ``(n, n)``."""
    norms = np.diagonal(products)
    return np.asarray(norms[:, None] + norms[None, :] - 2 * products)


def gram(updates: Sequence[Update]) -> Exact:
    """Return all inner products, shape ``(n, n)``; see `squared_distances`."""
    dimension, peak = check_updates(updates)
    return gram_of_blocks(lambda start, stop: (update[start:stop] for update in updates), len(updates), dimension, peak)


def gram_of_blocks(columns_of: Callable[[int, int], Iterable[Update]], count: int, dimension: int, peak: int) -> Exact:
    """Return all inner products of vectors that are never there as a whole: one block of columns at a time.

    Parameters
    ----------
    columns_of : callable
        ``columns_of(start, stop)``: the entries from start to stop of each vector, in order.
    count, dimension : int
        How many vectors, and their length.
    peak : int
        Bound on the magnitude of an entry, up to `MAX_ENTRY`.
    """
    if peak > MAX_ENTRY:
        raise ProtocolError(f"entries up to {peak} are beyond {MAX_ENTRY}")
    limbs = _limbs(peak)
    width = max(1, min(_EXACT_COLUMNS, _BLOCK_BYTES // (8 * count * limbs), dimension))

    def add_up(starts: range) -> npt.NDArray[np.int64]:
        blocks = np.empty((limbs, count, width))
        # The product of limbs a and b stands for 2**(16 (a + b)) times itself: those of one a + b share a matrix.
        part = np.zeros((2 * limbs - 1, count, count), dtype=np.int64)
        for start in starts:
            stop = min(start + width, dimension)
            columns = blocks[:, :, : stop - start]
            for row, entries in enumerate(columns_of(start, stop)):
                _split(entries, columns[:, row])
            for a in range(limbs):
                part[2 * a] += (columns[a] @ columns[a].T).astype(np.int64)
                for b in range(a):
                    mixed = (columns[a] @ columns[b].T).astype(np.int64)
                    part[a + b] += mixed + mixed.T
        return part

    products: Exact = sum(over_blocks(add_up, dimension, width), np.zeros((2 * limbs - 1, count, count), np.int64))
    if limbs == 1:
        return np.asarray(products[0])
    total = np.zeros((count, count), dtype=object)
    for place, part in enumerate(products):
        total += part.astype(object) << (_LIMB_BITS * place)
    return total


def _peak(update: Update) -> int:
    """Return a bound on the magnitude of the entries: that of the type where it is narrow, the true one beyond."""
    dtype: np.dtype[Any] = update.dtype
    if dtype.kind != "i":
        raise ProtocolError(f"an update has signed integer entries, not {dtype.name}")
    if dtype.itemsize <= 2:
        return int(_HALF)
    low, high = int(update.min(initial=0)), int(update.max(initial=0))
    return int(max(_HALF, high, -low))


def _limbs(peak: int) -> int:
    """Return in how many limbs, each at most 2**15 in magnitude, entries up to ``peak`` can be cut by `_split`."""
    count = 1
    while peak > _HALF:
        peak, count = (peak + _HALF) >> _LIMB_BITS, count + 1
    return count


def _split(entries: Update, limbs: npt.NDArray[np.float64]) -> None:
    """Write the limbs of ``entries``, the lowest first, into the rows of ``limbs``."""
    if len(limbs) == 1:
        limbs[0] = entries
        return
    rest = entries.astype(np.int64)
    for limb in limbs[:-1]:
        low = ((rest + _HALF) & (2 * _HALF - 1)) - _HALF
        limb[:] = low
        rest = (rest - low) >> _LIMB_BITS
    limbs[-1] = rest
