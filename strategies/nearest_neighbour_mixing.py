"""Nearest-neighbour mixing (NNM) before Multi-Krum, in exact integers.

Allouah, Farhadkhani, Guerraoui, Gupta, Pinot, Stephan: "Fixing by Mixing: A Recipe for Optimal Byzantine ML under
Heterogeneity", AISTATS 2023. Each update is replaced by the mean of its n - f nearest, itself included; Multi-Krum then
selects n - f of these mixtures. Mixing draws honest updates together, so that a rule that looks for what lies apart
withstands very unequal data better.

Nothing is rounded. All mixtures have the same number of members, so their sums are compared instead of their means, and
the distances of sums follow from those of updates: with the 0/1 vectors a and b of two mixtures' members and the matrix
D of squared distances, ``|S_a - S_b|**2 = -(a - b)' D (a - b) / 2``. And a mean of mixtures is a weighted mean of
updates: an update's share is the number of selected mixtures that hold it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from strategies.exact import Exact
from strategies.multi_krum import scores_of, select

_LIMB_BITS = 20  # a product of limb and 0/1 matrices is at most n**2 * 2**20, below 2**53 for every n up to 2**16


def shares(distances: Exact, digests: Sequence[bytes], f: int) -> tuple[int, ...]:
    """Return in how many of the selected mixtures each update is, from 0 to n - f.

    Parameters
    ----------
    distances : numpy.ndarray
        Squared distances of n updates, shape ``(n, n)``, exact.
    digests : sequence of bytes
        The updates' digests: of equally near neighbours, and of mixtures with equal scores, the lower digest is first.
    f : int
        How many hostile updates must be withstood; ``n >= 2 f + 3``.

    Raises
    ------
    RoundError
        If there are too few updates for f.
    """
    members = mixtures(distances, digests, f)
    selected = select(scores_of(_mixed_distances(distances, members), f), digests, f)
    return tuple(int(share) for share in members[list(selected)].sum(axis=0))


def mixtures(distances: Exact, digests: Sequence[bytes], f: int) -> npt.NDArray[np.bool_]:
    """Return who is mixed into whom: entry ``(i, j)`` tells whether update j is one of the n - f nearest to i."""
    count = len(digests)
    by_digest = np.array(sorted(range(count), key=lambda i: (digests[i], i)), dtype=np.intp)
    near = distances.copy()
    np.fill_diagonal(near, -1)  # oneself first, also where a copy is as near
    order = by_digest[np.argsort(near[:, by_digest], axis=1, kind="stable")]
    members = np.zeros((count, count), dtype=bool)
    np.put_along_axis(members, order[:, : count - f], True, axis=1)
    return members


def _mixed_distances(distances: Exact, members: npt.NDArray[np.bool_]) -> Exact:
    """Return the squared distances of the mixtures' sums, exactly, as Python's integers."""
    rows = members.astype(np.float64)
    total = np.zeros(distances.shape, dtype=object)
    rest, place = distances, 0
    while rest.any():
        limb = (rest & (2**_LIMB_BITS - 1)).astype(np.float64)
        total += (rows @ limb @ rows.T).astype(np.int64).astype(object) << place
        rest, place = rest >> _LIMB_BITS, place + _LIMB_BITS
    own = np.diagonal(total) // 2  # a' D a counts each pair twice
    return np.asarray(total - own[:, None] - own[None, :])
