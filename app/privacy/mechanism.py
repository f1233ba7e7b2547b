"""How the features of records are released: normalised, put on a grid, clipped in integers, and noised.

`app.privacy.record_level` has the mechanisms with a guarantee for a record, `app.privacy.paper` the paper's.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from app.privacy.config import COUPLING, PrivacyConfig
from app.privacy.cost import NEIGHBOURS, RECORD, PrivacyCost
from app.privacy.exposure import ONCE, Exposure
from app.privacy.lattice import LIMIT
from app.privacy.normalisation import FeatureSpace, Rows, normalise
from app.privacy.randomness import RandomSource
from app.privacy.sampler import Integers
from app.protocol.errors import PrivacyError

Features = npt.NDArray[np.float32]

_AT_ONCE = 1024  # records; it bounds the memory and changes no result
_MAX_FEATURES = 2**20


@dataclass(frozen=True, slots=True, eq=False)
class Released:
    """Features that may leave the phone.

    Attributes
    ----------
    values : ndarray of int32 or float32
        Shape (records, features): whole numbers of steps, or, in the clear, the features themselves.
    step : float
        The grid's step g, a power of two; 1 in the clear.
    """

    values: npt.NDArray[np.int32] | Features
    step: float

    @property
    def features(self) -> Features:
        """``values * step``: exact, as whole numbers below 2**24 times a power of two."""
        return (self.values * np.float64(self.step)).astype(np.float32)


class Mechanism(ABC):
    """A way to release features.

    Parameters
    ----------
    config : PrivacyConfig
        What is asked for.

    Attributes
    ----------
    name : str
        ``gaussian``, ``laplace``, ``paper`` or ``none``.
    unit : str
        What the guarantee protects: ``record`` or ``coordinate``.
    randomness : str
        Name of the source of the noise; ``none`` where nothing is drawn.
    stays : bool
        Whether what it releases stays with the customer, whose MEC server is trusted with it: it costs nothing then.
    """

    name: str
    unit: str = RECORD
    stays: bool = False

    def __init__(self, config: PrivacyConfig, randomness: str) -> None:
        self._config = config
        self.randomness = randomness

    @abstractmethod
    def release(self, features: Features, space: FeatureSpace) -> Released:
        """Return what may leave the phone.

        Parameters
        ----------
        features : ndarray of float32
            Shape (records, features), every entry finite.
        space : FeatureSpace
            Their shape and public constants.

        Raises
        ------
        PrivacyError
            If an entry is NaN or infinite, or the shape is another.
        """

    @abstractmethod
    def clean(self, features: Features, space: FeatureSpace) -> Features:
        """Return the features as `release` would, but without noise and grid: for a phone's own use, and for tests.

        A head that was trained on released features is asked about these.
        """

    @abstractmethod
    def cost(self, records: int, space: FeatureSpace) -> PrivacyCost:
        """Return what one release of ``records`` records costs."""

    @abstractmethod
    def deviation(self, space: FeatureSpace) -> float:
        """Return the standard deviation of the noise on each released feature (of a full batch); 0 for none."""

    @property
    def parameters(self) -> dict[str, Any]:
        """All that tells this mechanism from another, as JSON; a change of any of it makes a new release."""
        parameters = {
            "mechanism": self.name,
            "normalisation": self._config.normalisation,
            "unit": self.unit,
            "neighbours": NEIGHBOURS,
            "randomness": self.randomness,
        }
        batch = {"batch_size": self._config.batch_size} if self._config.normalisation in COUPLING else {}
        return parameters | batch

    def _batches(self, features: Features, space: FeatureSpace) -> Iterator[Rows]:
        """Yield the normalised records in the order they have, which says nothing of their content.

        In batches of N where the normalisation couples records, the last one as large as it is; otherwise in parts
        that only bound the memory.
        """
        _refuse_unfit(features)
        name = self._config.normalisation
        size = self._config.batch_size if name in COUPLING else _AT_ONCE
        for start in range(0, len(features), size):
            rows = np.ascontiguousarray(features[start : start + size], dtype=np.float64)
            yield normalise(name, rows, space)


class NoMechanism(Mechanism):
    """No protection: features leave the phone in the clear, and every record of it says so."""

    name = "none"

    def __init__(self, config: PrivacyConfig) -> None:
        super().__init__(config, "none")

    def release(self, features: Features, space: FeatureSpace) -> Released:
        """Return a copy of the normalised features; raise `PrivacyError` if an entry is NaN or infinite."""
        return Released(self.clean(features, space), 1.0)

    def clean(self, features: Features, space: FeatureSpace) -> Features:
        """Return the same."""
        return joined(self._batches(features, space), space)

    def cost(self, records: int, space: FeatureSpace) -> PrivacyCost:
        """Return an infinite epsilon."""
        return PrivacyCost(self.name, self.unit, math.inf, 0.0)

    def deviation(self, space: FeatureSpace) -> float:
        """Return 0."""
        return 0.0


class TrustedMec(NoMechanism):
    """Features go to an MEC server that may see them, and no further: the updates are what DP-SGD protects."""

    name = "dp_sgd"
    stays = True

    def cost(self, records: int, space: FeatureSpace) -> PrivacyCost:
        """Return nothing: nothing leaves the customer."""
        return PrivacyCost(self.name, self.unit, 0.0, 0.0)


def mechanism_of(config: PrivacyConfig, source: RandomSource, exposure: Exposure = ONCE) -> Mechanism:
    """Return the mechanism that a configuration asks for, drawing from ``source``, for a task's ``exposure``."""
    from app.privacy.paper import PaperMechanism
    from app.privacy.record_level import GaussianMechanism, LaplaceMechanism

    if config.mechanism == NoMechanism.name:
        return NoMechanism(config)
    if config.mechanism == TrustedMec.name:
        return TrustedMec(config)
    if config.mechanism == GaussianMechanism.name:
        return GaussianMechanism(config, source, exposure)
    kinds = (LaplaceMechanism, PaperMechanism)
    return next(kind for kind in kinds if kind.name == config.mechanism)(config, source)


def relative_noise(config: PrivacyConfig, features: int) -> float:
    """Return the standard deviation of the noise on each feature, relative to records of norm 1; 0 for no noise.

    A head that knows it can allow for it: it is public, as everything about the mechanism but its noise. For the
    paper's mode it is 0: its normalised features have no common norm, and the paper's head knows nothing of noise.

    Parameters
    ----------
    config : PrivacyConfig
        The mechanism.
    features : int
        Of a record, d. A record of L2 norm 1 without a preferred direction has an L1 norm of about sqrt(2 d / pi),
        which decides how much of it the L1 clip leaves.
    """
    if not config.record_level:
        return 0.0
    from app.privacy.randomness import SystemRandom

    length = 1.0 if config.mechanism == "gaussian" else max(1.0, math.sqrt(2.0 * features / math.pi))
    deviation = mechanism_of(config, SystemRandom()).deviation(FeatureSpace((features,)))
    return deviation / min(1.0, config.clip / length)


def joined(parts: Iterator[Rows], space: FeatureSpace) -> Features:
    """Return batches of features as one array of float32."""
    return np.concatenate([np.empty((0, space.size)), *parts]).astype(np.float32)


def released(parts: Iterator[Integers], space: FeatureSpace, step: float) -> Released:
    """Return batches of noised integers as what leaves the phone."""
    empty = np.empty((0, space.size), np.int32)
    return Released(np.concatenate([empty, *(np.clip(p, -LIMIT, LIMIT).astype(np.int32) for p in parts)]), step)


def _refuse_unfit(features: Features) -> None:
    if features.ndim != 2 or features.shape[1] > _MAX_FEATURES:
        raise PrivacyError(f"features must be (records, at most {_MAX_FEATURES}), not of shape {features.shape}")
    unfit = int(np.count_nonzero(~np.isfinite(features).all(axis=1)))
    if unfit:
        raise PrivacyError(f"{unfit} of {len(features)} records have a feature that is NaN or infinite")
