"""Mechanisms with a guarantee for a record: clip each record on its own, add noise for all that it can then change.

Replacing one record by any other moves its clipped integers by at most 2 K in the norm of the clip, and nothing else:
no other record of the release depends on it.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterator
from typing import Any

from app.privacy.calibration import gaussian_epsilon
from app.privacy.config import PrivacyConfig
from app.privacy.cost import PrivacyCost
from app.privacy.exposure import ONCE, Exposure, features_multiplier
from app.privacy.lattice import clip_rows, grid_step, to_ball
from app.privacy.mechanism import Features, Mechanism, Released, joined, released
from app.privacy.normalisation import FeatureSpace
from app.privacy.randomness import RandomSource
from app.privacy.sampler import Integers, discrete_gaussian, discrete_laplace

_SLACK = 2.0**-30
"""Relative, against float64's rounding in the calibration; it has far fewer than 2**20 operations of 2**-53 each."""
_SMOOTHING = 2.0


class RecordLevelMechanism(Mechanism):
    """Quantise, clip in integers to radius K in the norm of ``order``, add noise.

    Parameters
    ----------
    config : PrivacyConfig
        Mechanism, clip, epsilon, delta.
    source : RandomSource
        Where the noise comes from.
    """

    order: int

    def __init__(self, config: PrivacyConfig, source: RandomSource, noise: float) -> None:
        super().__init__(config, source.name)
        self._source = source
        self.step = grid_step(config.clip, noise)
        self.radius = math.floor(config.clip / self.step)

    def release(self, features: Features, space: FeatureSpace) -> Released:
        """See `Mechanism`."""
        return released(self._noised(features, space), space, self.step)

    def _noised(self, features: Features, space: FeatureSpace) -> Iterator[Integers]:
        for rows in self._batches(features, space):
            integers = to_ball(rows / self.step, self.radius, self.order)
            yield integers + self._noise(integers.shape)

    def clean(self, features: Features, space: FeatureSpace) -> Features:
        """See `Mechanism`."""
        clipped = (clip_rows(rows, self._config.clip, self.order) for rows in self._batches(features, space))
        return joined(clipped, space)

    @property
    def parameters(self) -> dict[str, Any]:
        """See `Mechanism`."""
        return super().parameters | {
            "clip": self._config.clip,
            "epsilon": self._config.epsilon_features,
            "step": self.step,
            "radius": self.radius,
        }

    @abstractmethod
    def _noise(self, shape: tuple[int, ...]) -> Integers:
        """Draw the noise, in steps of the grid."""


class LaplaceMechanism(RecordLevelMechanism):
    """Pure record-level differential privacy: L1 clip, discrete Laplace noise.

        k = nearest lattice point to x / g with ||k||_1 <= K,    out = (k + z) g,
        P(z) ~ exp(-|z| / t),    t = 2 K / epsilon

    Two records' k differ by at most 2 K in L1 norm, so no probability changes by more than exp(2 K / t) = exp(epsilon).
    """

    name = "laplace"
    order = 1

    def __init__(self, config: PrivacyConfig, source: RandomSource) -> None:
        super().__init__(config, source, 2.0 * config.clip / config.epsilon_features)
        self.scale = 2.0 * self.radius / config.epsilon_features * (1.0 + _SLACK)

    def deviation(self, space: FeatureSpace) -> float:
        """See `Mechanism`: variance 2 q / (1 - q)**2 steps squared, with q = exp(-1 / t)."""
        return self.step / (math.sqrt(2.0) * math.sinh(0.5 / self.scale))

    def cost(self, records: int, space: FeatureSpace) -> PrivacyCost:
        """Return epsilon, pure."""
        return PrivacyCost(self.name, self.unit, self._config.epsilon_features, 0.0)

    @property
    def parameters(self) -> dict[str, Any]:
        """See `Mechanism`."""
        return super().parameters | {"scale": self.scale}

    def _noise(self, shape: tuple[int, ...]) -> Integers:
        return discrete_laplace(self.scale, shape, self._source)


class GaussianMechanism(RecordLevelMechanism):
    """Approximate record-level differential privacy: L2 clip, discrete Gaussian noise.

        k = nearest lattice point to x / g with ||k||_2 <= K,    out = (k + z) g,
        P(z) ~ exp(-z**2 / (2 sigma**2)),    sigma**2 = (2 K s(epsilon, delta))**2 + r**2,    r = 2 steps

    with s of the analytic Gaussian mechanism (`app.privacy.calibration`). That this noise on the lattice gives
    (epsilon, delta), in any number of dimensions:

    The continuous mechanism k + N(0, tau**2 I) with tau = 2 K s gives (epsilon, delta). Post-process its result x, each
    coordinate on its own, by drawing y from the integers with probability exp(-(y - x)**2 / (2 r**2)) / R(x), where
    R(x) is the sum of the numerators. By Poisson's summation formula R(x) = sqrt(2 pi) r (1 + e(x)) with

        |e(x)| <= 2 sum over n >= 1 of exp(-2 pi**2 r**2 n**2) < 1.1e-34    for r = 2.

    Up to factors of 1 + e, then, y has the density of N(k, tau**2 + r**2) at the integers: the law of k + z.
    Normalised, the two laws differ by a factor within exp(+-5e-34) a coordinate, exp(+-1e-27) over 2**20 coordinates,
    so what holds for the post-processed mechanism holds for k + z with epsilon + 2e-27 and delta (1 + 1e-27);
    `_SLACK` is more.
    """

    name = "gaussian"
    order = 2

    def __init__(self, config: PrivacyConfig, source: RandomSource, exposure: Exposure = ONCE) -> None:
        self._exposure = exposure
        self.multiplier = features_multiplier(config, exposure) * (1.0 + _SLACK)
        super().__init__(config, source, 2.0 * config.clip * self.multiplier)
        self.sigma = math.hypot(2.0 * self.radius * self.multiplier, _SMOOTHING)

    def deviation(self, space: FeatureSpace) -> float:
        """See `Mechanism`: the discrete law's is sigma, to more digits than float64 has."""
        return self.sigma * self.step

    def cost(self, records: int, space: FeatureSpace) -> PrivacyCost:
        """Return (epsilon, delta); with a joint extractor those of one release among many."""
        epsilon, delta = self._config.epsilon_features, self._config.delta
        if self._exposure.joint:
            epsilon = gaussian_epsilon(self.multiplier, delta)
        return PrivacyCost(self.name, self.unit, epsilon, delta, noise_multiplier=self.multiplier)

    @property
    def parameters(self) -> dict[str, Any]:
        """See `Mechanism`."""
        return super().parameters | {"delta": self._config.delta, "sigma": self.sigma}

    def _noise(self, shape: tuple[int, ...]) -> Integers:
        return discrete_gaussian(self.sigma, shape, self._source)
