"""Configurations and mechanisms for the tests of this folder."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from app.privacy.config import PrivacyConfig
from app.privacy.mechanism import Mechanism, mechanism_of
from app.privacy.normalisation import FeatureSpace
from app.privacy.randomness import InsecureSeededRandom, RandomSource

GAUSSIAN = PrivacyConfig(
    name="record",
    mechanism="gaussian",
    normalisation="none",
    batch_size=64,
    calibration="batch",
    labels="clear",
    epsilon=4.0,
    epsilon_label=1.0,
    delta=1e-5,
    budget=1e6,
    clip=1.0,
    epsilon_phone=2.0,
    clip_gradient=1.0,
    sampling_rate=0.1,
    randomness="seeded-insecure",
)
LAPLACE = replace(GAUSSIAN, mechanism="laplace")
PAPER = replace(GAUSSIAN, name="paper", mechanism="paper", normalisation="map")
NONE = replace(GAUSSIAN, name="none", mechanism="none")


def make(base: PrivacyConfig = GAUSSIAN, seed: int | RandomSource = 0, **changes: Any) -> Mechanism:
    """Return the mechanism of a configuration with some keys changed."""
    source = InsecureSeededRandom(seed) if isinstance(seed, int) else seed
    return mechanism_of(replace(base, **changes), source)


def flat(features: np.ndarray) -> FeatureSpace:
    """Return the space of features without positions."""
    return FeatureSpace((features.shape[1],))
