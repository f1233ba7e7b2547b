"""The paper's mechanism: Laplace noise on every coordinate, calibrated to the range of one normalised value.

Zhao et al. 2020, section IV (what is known of it: the bounds and the scales). Its guarantee is a coordinate's: each
released number, looked at alone, is epsilon-differentially private, because it lies in a range of width 2 B. A record
is d such numbers, and under ``batch`` and ``map`` it moves the numbers of the N - 1 other records too: `cost` says
what that comes to, which for thousands of features is no protection to speak of.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from app.privacy.config import COUPLING, PrivacyConfig
from app.privacy.cost import COORDINATE, PrivacyCost
from app.privacy.lattice import grid_step
from app.privacy.mechanism import Features, Mechanism, Released, joined, released
from app.privacy.normalisation import FeatureSpace, Rows
from app.privacy.randomness import RandomSource
from app.privacy.sampler import Integers, discrete_laplace
from app.privacy.sensitivity import column_sensitivity

_SLACK = 2.0**-30  # relative, against float64's rounding


class PaperMechanism(Mechanism):
    """Clip every value to [-B, B], add Laplace noise of scale 2 B / epsilon, on a grid.

        k = round(x^ / g) clipped to [-K, K],    K = floor(B / g),    out = (k + z) g,
        P(z) ~ exp(-|z| / t),    t = 2 K / epsilon

    ``calibration`` gives B: ``batch`` is sqrt(N - 1), ``map`` sqrt(N P - 1) with the P positions of a channel. Under
    the normalisation ``map`` a value may exceed sqrt(N - 1); it is clipped, or one value's epsilon would be larger
    than said. N is the number of records in the batch at hand; the last batch has a smaller one, and less noise.

    Parameters
    ----------
    config : PrivacyConfig
        Normalisation, batch size, calibration, epsilon of a coordinate.
    source : RandomSource
        Where the noise comes from.
    """

    name = "paper"
    unit = COORDINATE

    def __init__(self, config: PrivacyConfig, source: RandomSource) -> None:
        super().__init__(config, source.name)
        self._source = source

    def bound(self, records: int, space: FeatureSpace) -> float:
        """Return B for a batch of ``records``."""
        values = records * (space.positions if self._config.calibration == "map" else 1)
        return math.sqrt(max(values - 1, 0))

    def step(self, space: FeatureSpace) -> float:
        """Return the grid's step g: that of a full batch, for all batches."""
        bound = self.bound(self._config.batch_size, space) or 1.0
        return grid_step(bound, 2.0 * bound / self._config.epsilon)

    def radius(self, records: int, space: FeatureSpace) -> int:
        """Return K for a batch of ``records``."""
        return math.floor(self.bound(records, space) / self.step(space))

    def scale(self, radius: int) -> float:
        """Return t, in steps of the grid."""
        return 2.0 * radius / self._config.epsilon * (1.0 + _SLACK)

    def release(self, features: Features, space: FeatureSpace) -> Released:
        """See `Mechanism`."""
        return released(self._noised(features, space), space, self.step(space))

    def _noised(self, features: Features, space: FeatureSpace) -> Iterator[Integers]:
        step = self.step(space)
        for rows in self._batches(features, space):
            radius = self.radius(self._records(len(rows)), space)
            integers = np.clip(np.rint(rows / step), -radius, radius).astype(np.int64)
            yield integers + discrete_laplace(self.scale(radius), integers.shape, self._source)

    def clean(self, features: Features, space: FeatureSpace) -> Features:
        """See `Mechanism`."""
        return joined((self._clipped(rows, space) for rows in self._batches(features, space)), space)

    def _clipped(self, rows: Rows, space: FeatureSpace) -> Rows:
        bound = self.bound(self._records(len(rows)), space)
        return np.clip(rows, -bound, bound)

    def _records(self, rows: int) -> int:
        """Return N: of the batch at hand where its records are coupled, else the configured one."""
        return rows if self._config.normalisation in COUPLING else self._config.batch_size

    def deviation(self, space: FeatureSpace) -> float:
        """See `Mechanism`."""
        return math.sqrt(2.0) * 2.0 * self.bound(self._config.batch_size, space) / self._config.epsilon

    def cost(self, records: int, space: FeatureSpace) -> PrivacyCost:
        """Return epsilon of a coordinate, and what the release costs the record that is worst off.

        Where records are not coupled, each of a record's d integers moves by at most 2 K: d epsilon. Where they are,
        one record moves those of its whole batch: by at most d column_sensitivity(N) in L1 norm before they are put on
        the grid, which can add one step to each of the N d integers (two roundings of half a step), and never by more
        than 2 K each. Clipping moves nothing further apart.
        """
        epsilon, size = self._config.epsilon, space.size
        if self._config.normalisation not in COUPLING:
            return PrivacyCost(self.name, self.unit, epsilon, 0.0, record_epsilon=size * epsilon)
        full = self._config.batch_size
        batches = {min(records, full)} | ({records % full} if records % full else set())
        worst = max((self._of_a_record(count, space) for count in batches if count), default=0.0)
        return PrivacyCost(self.name, self.unit, epsilon, 0.0, record_epsilon=worst)

    def _of_a_record(self, records: int, space: FeatureSpace) -> float:
        radius = self.radius(records, space)
        if radius == 0:
            return 0.0  # all values are 0, whatever the records
        joint = column_sensitivity(records) / self.step(space) + records
        return space.size * min(joint, 2.0 * radius * records) / self.scale(radius)

    @property
    def parameters(self) -> dict[str, Any]:
        """See `Mechanism`."""
        return super().parameters | {
            "epsilon": self._config.epsilon,
            "calibration": self._config.calibration,
            "batch_size": self._config.batch_size,
        }
