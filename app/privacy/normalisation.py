"""What is done to features before they are clipped, so that a bound fits them all.

With X[k, c, p] the feature of record k in channel c at position p (N records, C channels of P = Lf Wf positions):

==========  ============================================  ====================================================
name        X^ = (X - mean) / deviation, over             bound on a value; who depends on whom
==========  ============================================  ====================================================
``none``    nothing is done                               none
``record``  the record's own positions, each channel      sqrt(P - 1); a record depends on itself alone
``public``  constants from the manufacturer's public      none; a record depends on itself alone
            records, each channel
``batch``   the N records of its batch, each position     sqrt(N - 1); all N records on each other
``map``     all positions and records, each channel       sqrt(N P - 1); all N records on each other
==========  ============================================  ====================================================

``batch`` is the paper's baseline (batch normalisation of each position), ``map`` its proposal. The bounds hold because
n numbers of mean 0 and mean square 1 satisfy x_m**2 = (sum of the others)**2 <= (n - 1)(n - x_m**2), that is
abs(x_m) <= sqrt(n - 1), with equality if all others are equal.

The deviation is sqrt(variance + FLOOR), never below sqrt(FLOOR): values that do not vary come out as 0, and dividing by
more than the deviation only tightens the bound. The last batch has the N it has; with N = 1 ``batch`` gives zeros.

Features without positions (a flat vector of d) are one channel of d positions; the constants of ``public`` are then
one for each feature. No statistic is kept: what is computed from records is forgotten with the batch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from app.protocol.errors import PrivacyError

Rows = npt.NDArray[np.float64]

FLOOR = 1e-5
"""Added to every variance; batch normalisation's usual constant."""


@dataclass(frozen=True, slots=True, eq=False)
class FeatureSpace:
    """What is publicly known of the features that leave the phone.

    Attributes
    ----------
    shape : tuple of int
        Of one record's features: (channels, height, width), or (features,) where they have no positions.
    mean, deviation : ndarray of float64 or None
        The constants of ``public``, shape ``shape[:1]``; None where the task has none.
    """

    shape: tuple[int, ...]
    mean: Rows | None = None
    deviation: Rows | None = None

    @property
    def size(self) -> int:
        """Features of one record, d = C P."""
        return math.prod(self.shape)

    @property
    def channels(self) -> int:
        """C."""
        return self.shape[0] if len(self.shape) > 1 else 1

    @property
    def positions(self) -> int:
        """P = Lf Wf."""
        return self.size // self.channels


def normalise(name: str, rows: Rows, space: FeatureSpace) -> Rows:
    """Return the normalised features of one batch.

    Parameters
    ----------
    name : str
        ``none``, ``record``, ``public``, ``batch`` or ``map``.
    rows : ndarray of float64
        Shape (N, d), channel by channel, finite.
    space : FeatureSpace
        Their shape; for ``public`` the constants too.

    Raises
    ------
    PrivacyError
        If ``public`` has no constants, or the rows are not of the space.
    """
    if rows.ndim != 2 or rows.shape[1] != space.size:
        raise PrivacyError(f"features of shape {rows.shape} are not records of {space.size} features")
    if name == "none":
        return rows
    if name == "public":
        if space.mean is None or space.deviation is None:
            raise PrivacyError("privacy.normalisation=public needs the manufacturer's constants in the frozen part")
        by_channel = rows.reshape(len(rows), space.shape[0], -1)
        return ((by_channel - space.mean[:, None]) / space.deviation[:, None]).reshape(rows.shape)
    axes: tuple[int, ...] = {"record": (2,), "batch": (0,), "map": (0, 2)}[name]
    maps = rows.reshape(len(rows), space.channels, space.positions)
    centred = maps - maps.mean(axis=axes, keepdims=True)
    variance = np.mean(centred * centred, axis=axes, keepdims=True)
    return np.asarray(centred / np.sqrt(variance + FLOOR)).reshape(rows.shape)


def constants(rows: Rows, space: FeatureSpace) -> tuple[Rows, Rows]:
    """Return mean and deviation of public records (N, d), each of shape ``space.shape[:1]``."""
    by_channel = rows.reshape(len(rows), space.shape[0], -1)
    return by_channel.mean(axis=(0, 2)), np.sqrt(by_channel.var(axis=(0, 2)) + FLOOR)
