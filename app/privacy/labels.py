"""How labels leave the phone: in the clear, or under randomised response."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from app.privacy.config import PrivacyConfig
from app.privacy.cost import RECORD, PrivacyCost
from app.privacy.randomness import RandomSource
from app.privacy.sampler import label_shifts

Labels = npt.NDArray[np.int64]


class LabelTreatment(Protocol):
    """A way to release labels."""

    @property
    def name(self) -> str:
        """``clear`` or ``randomized_response``."""

    @property
    def parameters(self) -> dict[str, Any]:
        """All that tells it from another, as JSON."""

    @property
    def costs(self) -> tuple[PrivacyCost, ...]:
        """What releasing a record's label costs, on top of its features."""

    def release(self, labels: Labels) -> Labels:
        """Return what may leave the phone, for labels (records,) from 0 to K - 1."""


class ClearLabels:
    """Labels leave as they are. No guarantee speaks of them: they count as public."""

    name = "clear"
    costs: tuple[PrivacyCost, ...] = ()

    @property
    def parameters(self) -> dict[str, Any]:
        """All that tells it from another."""
        return {"labels": self.name}

    def release(self, labels: Labels) -> Labels:
        """Return a copy."""
        return np.array(labels, dtype=np.int64)


class RandomizedResponse:
    """The label stays with probability e**epsilon / (e**epsilon + K - 1) and is else any other one, equally likely.

    Two labels give the same report with probabilities that differ by a factor of at most e**epsilon: pure
    epsilon-differential privacy for the label (Warner 1965; of all such mechanisms the one that keeps most labels for
    large epsilon). The probabilities are exact, see `app.privacy.sampler`.

    Parameters
    ----------
    epsilon : float
        What a label costs, > 0.
    classes : int
        K.
    source : RandomSource
        What decides.
    """

    name = "randomized_response"

    def __init__(self, epsilon: float, classes: int, source: RandomSource) -> None:
        self._epsilon, self._classes, self._source = epsilon, classes, source

    @property
    def costs(self) -> tuple[PrivacyCost, ...]:
        """What releasing a record's label costs."""
        return (PrivacyCost(self.name, RECORD, self._epsilon, 0.0),)

    @property
    def parameters(self) -> dict[str, Any]:
        """All that tells it from another."""
        return {"labels": self.name, "epsilon_label": self._epsilon, "label_randomness": self._source.name}

    def release(self, labels: Labels) -> Labels:
        """Return the reported labels."""
        shifts = label_shifts(self._epsilon, self._classes, labels.shape, self._source)
        return np.asarray((labels + shifts) % self._classes, dtype=np.int64)


def label_treatment(config: PrivacyConfig, classes: int, source: RandomSource) -> LabelTreatment:
    """Return what a configuration asks for; ``source`` must not be one that noise is drawn from with the same seed."""
    return RandomizedResponse(config.epsilon_label, classes, source) if config.flips_labels else ClearLabels()


def flip_matrix(config: PrivacyConfig, classes: int) -> npt.NDArray[np.float64] | None:
    """Return the public matrix M (K, K) with M[i, j] the probability that label i is reported as j; None for clear.

    The rows sum to 1, and M is symmetric. A loss is corrected with it forward, -log of (p M)[reported] for predicted
    probabilities p, or backward by the rows of its inverse (Patrini et al. 2017, "Making Deep Neural Networks Robust to
    Label Noise"): the expectation of M**-1 [reported] over the flips is the true label's indicator.
    """
    if not config.flips_labels:
        return None
    rest = np.exp(-config.epsilon_label)
    matrix = np.full((classes, classes), rest) + (1.0 - rest) * np.eye(classes)
    return np.asarray(matrix / (1.0 + (classes - 1) * rest))
