"""Features as whole numbers on a grid, inside a ball that is exact in integers.

Quantise first, clip in integers, then add integer noise: no rounding can then enlarge the sensitivity, which is 2 K for
the ball of radius K, and an attacker who looks at low-order bits (Mironov 2012) finds whole numbers.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from app.privacy.sampler import Integers
from app.protocol.errors import PrivacyError

Rows = npt.NDArray[np.float64]

_MOST_NOISE = 2.0**14  # a larger scale, in steps, would need too large a table
_LARGEST_RADIUS = 2.0**22
LIMIT = 2**24 - 1
"""Released integers are saturated to it: float32 holds every whole number up to there. A sample of the noise reaches
it with probability below exp(-190), and saturating a result is post-processing."""
_ATTEMPTS = 6
_INSIDE = 1.0 - 2.0**-40  # float64's rounding, over at most 2**20 features, cannot reach past the ball


def grid_step(clip: float, noise: float) -> float:
    """Return the grid's step g, a power of two.

    So fine that the clip is at least 512 steps and the scale of the noise 256, but neither so fine that the noise has
    more than 2**14 steps (for an epsilon below about 0.1) nor the clip more than 2**22 (above about 30,000).

    Parameters
    ----------
    clip : float
        Radius of the ball, > 0.
    noise : float
        Scale of the noise (Laplace's b or the standard deviation), > 0.
    """
    fine = math.floor(math.log2(min(clip / 512, noise / 256)))
    coarse = math.ceil(math.log2(max(noise / _MOST_NOISE, clip / _LARGEST_RADIUS)))
    return 2.0 ** max(fine, coarse)


def clip_rows(rows: Rows, clip: float, order: int) -> Rows:
    """Return the rows (n, d), each scaled down to ``clip`` in its L1 or L2 norm (``order`` 1 or 2) where longer."""
    norms = np.abs(rows).sum(axis=1) if order == 1 else np.sqrt(np.sum(rows * rows, axis=1))
    return np.asarray(rows * (clip / np.maximum(norms, clip))[:, None])


def to_ball(rows: Rows, radius: int, order: int) -> Integers:
    """Return integer rows close to ``rows``, each with an L1 or L2 norm of at most ``radius``, exactly.

    Rounds to the nearest point of the lattice. Where that lies outside, the entries that were rounded up the most are
    rounded down instead, as many as it takes; with all of them rounded down the point lies inside, since none of its
    entries is then larger than before.

    Parameters
    ----------
    rows : ndarray of float64
        Shape (n, d), in steps of the grid, finite.
    radius : int
        K >= 0.
    order : int
        1 or 2.

    Raises
    ------
    PrivacyError
        If a row is outside at the end, which would be a mistake in here: nothing may leave then.
    """
    inside = clip_rows(rows, radius, order) * _INSIDE if radius else np.zeros_like(rows)
    lattice = np.rint(inside)
    excess = _size(lattice, order) - radius**order
    over = np.flatnonzero(excess > 0)
    if len(over):
        magnitude = np.abs(lattice[over])
        rounded_up = magnitude - np.abs(inside[over])
        most = np.argsort(-rounded_up, axis=1, kind="stable")
        gain = np.where(rounded_up > 0, 1.0 if order == 1 else 2.0 * magnitude - 1.0, 0.0)
        gain = np.take_along_axis(gain, most, axis=1)
        gained_before = np.cumsum(gain, axis=1) - gain
        needed = (gain > 0) & (gained_before < excess[over][:, None])
        down = np.zeros_like(magnitude)
        np.put_along_axis(down, most, needed.astype(np.float64), axis=1)
        lattice[over] -= np.sign(lattice[over]) * down
    integers = lattice.astype(np.int64)
    if (_size(integers, order) > radius**order).any():
        raise PrivacyError("a record left the ball that its guarantee rests on; nothing is released")
    return integers


def to_ball_quickly(rows: Rows, radius: int) -> Integers:
    """Return integer rows close to ``rows``, each with an L2 norm of at most ``radius``, exactly; for long rows.

    Rounds to the nearest point of the lattice; a row that rounding moves outside is scaled down a little more first.
    `to_ball` loses less of such a row, and sorts its entries for it: with thousands of them that takes long.

    Parameters
    ----------
    rows : ndarray of float64
        Shape (n, d), in steps of the grid, finite.
    radius : int
        K >= 0; more than sqrt(d) / 2, or all rows that are outside become 0.

    Raises
    ------
    PrivacyError
        If a row is outside at the end, which would be a mistake in here: nothing may leave then.
    """
    norms = np.sqrt(np.einsum("nd,nd->n", rows, rows))
    lattice = np.empty_like(rows)
    target, over = np.full(len(rows), float(radius)), np.arange(len(rows))
    for attempt in range(_ATTEMPTS):
        if attempt == _ATTEMPTS - 1:  # rounding moves a row by sqrt(d) / 2 at most
            target[over] = max(0.0, radius - 0.5 * math.sqrt(rows.shape[1])) * _INSIDE
        scale = np.minimum(1.0, target[over] / np.maximum(norms[over], 1e-300))
        lattice[over] = np.rint(rows[over] * scale[:, None])
        excess = np.einsum("nd,nd->n", lattice[over], lattice[over]) - float(radius) ** 2
        # What rounding adds to the square of the length differs from one try to the next by about half the radius.
        less = 1.1 * np.maximum(excess, 0.0) + 2.0 * radius + 1.0
        target[over] = np.sqrt(np.maximum(target[over] ** 2 - less, 0.0))
        over = over[excess > 0]
        if not len(over):
            return lattice.astype(np.int64)
    raise PrivacyError("a record left the ball that its guarantee rests on; nothing is released")


def _size(rows: Rows | Integers, order: int) -> Rows | Integers:
    """Return the sum of absolute values, or of squares, of each row: exact, for it stays far below 2**53."""
    return np.asarray(np.abs(rows).sum(axis=1) if order == 1 else np.sum(rows * rows, axis=1))
