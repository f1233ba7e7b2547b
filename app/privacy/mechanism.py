"""How the features of records are released.

Every mechanism treats each record on its own: what is released of one record does not depend on any other.
"""

from __future__ import annotations

import math
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from app.privacy.calibration import gaussian_scale
from app.privacy.config import PrivacyConfig
from app.privacy.cost import NEIGHBOURS, PrivacyCost
from app.privacy.randomness import RandomSource
from app.protocol.errors import PrivacyError

Features = npt.NDArray[np.float32]

_MAX_FEATURES = 2**20
_FLOAT_SLACK = 2.0**-30
"""By how much float64 can miss a clipped norm, relative: a sum of d <= 2**20 squares errs by less than d 2**-53, the
root, the division and the products by 2**-53 each. The sensitivity is enlarged by it, and sigma with it."""

_TAIL = 16.0  # standard deviations that the grid has room for; the source never gives more than 8.6


class Mechanism(Protocol):
    """A way to release features."""

    @property
    def name(self) -> str:
        """``gaussian`` or ``none``."""

    @property
    def unit(self) -> str:
        """What is protected."""

    @property
    def randomness(self) -> str:
        """Name of the source of the noise; ``none`` where nothing is drawn."""

    @property
    def cost(self) -> PrivacyCost:
        """What one release costs."""

    @property
    def parameters(self) -> dict[str, Any]:
        """All that tells this mechanism from another, as JSON; a change of any of it makes a new release."""

    def release(self, features: Features) -> Features:
        """Return what may leave the phone, for features of shape (records, features)."""


class GaussianMechanism:
    """Record-level differential privacy: clip each record's L2 norm, add Gaussian noise, round to a grid.

        y = round((x min(1, S / ||x||) + sigma z) / g) g,    sigma = 2 S s(epsilon, delta),    z ~ N(0, I)

    Replacing one record by any other moves its clipped features by at most 2 S in L2 norm and nothing else, so one
    release of the whole set is (epsilon, delta)-differentially private for a record (the analytic Gaussian mechanism,
    see `app.privacy.calibration`). Rounding to g, a power of two, comes after the noise and is post-processing. What
    the source of the noise does not promise, this does not either (see `app.privacy.randomness`).

    Parameters
    ----------
    clip : float
        S, the largest L2 norm of a record's features.
    epsilon, delta : float
        The guarantee of one release.
    source : RandomSource
        Where the noise comes from.

    Raises
    ------
    PrivacyError
        If a parameter is impossible.
    """

    name = "gaussian"
    unit = "record"

    def __init__(self, clip: float, epsilon: float, delta: float, source: RandomSource) -> None:
        if not (math.isfinite(clip) and clip > 0):
            raise PrivacyError(f"features are clipped to a positive finite norm, not {clip}")
        self._clip, self._source = float(clip), source
        self._cost = PrivacyCost(self.name, self.unit, float(epsilon), float(delta))
        self.sigma = 2.0 * clip * (1.0 + _FLOAT_SLACK) * gaussian_scale(epsilon, delta)
        # The finest grid on which every value that can occur fits the 24 bits of a float32.
        self.step = 2.0 ** (math.ceil(math.log2(self._clip + _TAIL * self.sigma)) - 24)

    @property
    def randomness(self) -> str:
        """Name of the source of the noise."""
        return self._source.name

    @property
    def cost(self) -> PrivacyCost:
        """What one release costs."""
        return self._cost

    @property
    def parameters(self) -> dict[str, Any]:
        """All that tells this mechanism from another."""
        return {
            "mechanism": self.name,
            "unit": self.unit,
            "neighbours": NEIGHBOURS,
            "epsilon": self._cost.epsilon,
            "delta": self._cost.delta,
            "clip": self._clip,
            "sigma": self.sigma,
            "step": self.step,
            "randomness": self.randomness,
            "labels": "clear",
        }

    def release(self, features: Features) -> Features:
        """Clip, add noise, round.

        Parameters
        ----------
        features : numpy.ndarray of float32
            Shape (records, features), every entry finite.

        Returns
        -------
        numpy.ndarray of float32
            Same shape, new memory, every entry a multiple of `step`.

        Raises
        ------
        PrivacyError
            If an entry is NaN or infinite, or the shape is another.
        """
        clipped = clip_records(features, self._clip)
        noised = clipped + self.sigma * self._source.normal(clipped.shape)
        return (np.rint(noised / self.step) * self.step).astype(np.float32)


class NoMechanism:
    """No protection: features leave the phone in the clear, and every record of it says so."""

    name = "none"
    unit = "record"
    randomness = "none"
    cost = PrivacyCost("none", "record", math.inf, 0.0)

    @property
    def parameters(self) -> dict[str, Any]:
        """All that tells this mechanism from another."""
        return {"mechanism": self.name, "labels": "clear"}

    def release(self, features: Features) -> Features:
        """Return a copy of the features; raise `PrivacyError` if an entry is NaN or infinite."""
        _refuse_unfit(features)
        return np.array(features, dtype=np.float32, order="C")


def clip_records(features: Features, clip: float) -> npt.NDArray[np.float64]:
    """Scale each record down to L2 norm ``clip`` where it is longer.

    Parameters
    ----------
    features : numpy.ndarray of float32
        Shape (records, features), every entry finite.
    clip : float
        S, positive.

    Returns
    -------
    numpy.ndarray of float64
        Same shape; each row has norm at most S, up to float64's rounding.

    Raises
    ------
    PrivacyError
        If an entry is NaN or infinite, or the shape is another.
    """
    _refuse_unfit(features)
    rows = np.ascontiguousarray(features, dtype=np.float64)
    norms = np.sqrt(np.sum(rows * rows, axis=1, keepdims=True))
    return np.asarray(rows * (clip / np.maximum(norms, clip)))


def mechanism_of(config: PrivacyConfig, source: RandomSource) -> Mechanism:
    """Return the mechanism that a configuration asks for, drawing from ``source``."""
    if config.mechanism == NoMechanism.name:
        return NoMechanism()
    return GaussianMechanism(config.clip, config.epsilon, config.delta, source)


def relative_noise(config: PrivacyConfig) -> float:
    """Return the standard deviation of the noise on each feature, relative to records of norm 1; 0 for no noise.

    A head that knows it can allow for it: it is public, as everything about the mechanism but its noise.
    """
    if config.mechanism == NoMechanism.name:
        return 0.0
    return 2.0 * max(1.0, config.clip) * gaussian_scale(config.epsilon, config.delta)


def _refuse_unfit(features: Features) -> None:
    if features.ndim != 2 or features.shape[1] > _MAX_FEATURES:
        raise PrivacyError(f"features must be (records, at most {_MAX_FEATURES}), not of shape {features.shape}")
    unfit = int(np.count_nonzero(~np.isfinite(features).all(axis=1)))
    if unfit:
        raise PrivacyError(f"{unfit} of {len(features)} records have a feature that is NaN or infinite")
