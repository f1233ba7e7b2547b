"""The MEC's part: what is trained, by every customer, on features that the phone released.

A head gives scores (n, K), logarithms of class probabilities up to a constant, and the loss it is trained by.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

SHARPNESS = 8.0  # concentration of the classes' directions; the bottleneck is trained with the same
PULL = 0.04  # strength of the pull back to the manufacturer's evidence
REFERENCE = 10.0  # passes over the customers' records at which the two kinds of evidence have the intended ratio
LARGEST_UNIT = 8.0  # of the counts, so that an update stays in the range of the fixed-point grid
WORTH = 8.0  # a record with noise of deviation s is worth 1 / (1 + WORTH s^2) clean ones; measured, our choice


class Head(nn.Module, ABC):
    """What training and evaluation need of a head."""

    @abstractmethod
    def loss(self, features: Tensor, labels: Tensor) -> Tensor:
        """Return the scalar training loss of a batch: features (n, d), labels (n,)."""


class MlpHead(Head):
    """Fully connected layers with ReLU, trained by cross-entropy.

    Parameters
    ----------
    trunk : nn.Module
        Stages of the model that come after the split, trained here; identity where there are none.
    trunk_size : int
        Features that the trunk gives.
    hidden : tuple of int
        Widths of the hidden layers.
    classes : int
        Number of classes.
    flips : ndarray of float64, shape (K, K), optional
        How labels were randomised. The loss is corrected forward: it compares reported labels with the probabilities
        of reports, softmax(scores) M (Patrini et al. 2017).
    """

    flips: Tensor | None

    def __init__(
        self,
        trunk: nn.Module,
        trunk_size: int,
        hidden: tuple[int, ...],
        classes: int,
        flips: NDArray[np.float64] | None = None,
    ) -> None:
        super().__init__()
        self.register_buffer("flips", None if flips is None else torch.from_numpy(flips).float())
        self.trunk = trunk
        widths = (trunk_size, *hidden, classes)
        layers: list[nn.Module] = []
        for before, after in pairwise(widths):
            layers += [nn.Linear(before, after), nn.ReLU()]
        self.layers = nn.Sequential(*layers[:-1])

    def forward(self, features: Tensor) -> Tensor:
        """Return scores (n, K)."""
        scores: Tensor = self.layers(self.trunk(features))
        return scores

    def loss(self, features: Tensor, labels: Tensor) -> Tensor:
        """Return the mean cross-entropy."""
        if self.flips is None:
            return nn.functional.cross_entropy(self(features), labels)
        log_reports = torch.logsumexp(self(features).log_softmax(dim=1)[:, :, None] + self.flips.log(), dim=1)
        return nn.functional.nll_loss(log_reports, labels)


class PrototypeHead(Head):
    """Each class is a direction; every record is evidence for the direction of its class.

    Features of norm 1 are modelled as von Mises-Fisher: p(x | c) ~ exp(kappa <x, m_c>), with m_c a unit vector. The
    maximum-likelihood m_c is the direction of the sum of the class's features, and the class's probability is its
    share of the records. The trainable ``evidence`` (K, d + 1) holds both for every class: the sum, and in the last
    column the count, times a fixed unit. Scores are

        kappa <x, w_c> / |w_c| + log n_c         with evidence_c = (w_c, unit * n_c).

    The loss is linear in the features, apart from a weak pull back to the manufacturer's evidence E0:

        mean over records of - <(z, unit), evidence_y>  +  PULL / 2 * |evidence - E0|^2

    so its gradient is the mean feature and the share of each class. Zero-mean noise on z therefore averages out,
    whatever its law: nothing is biased by it, as the weights of a head trained by cross-entropy would be. The score
    of a class depends on the noise only through <x, noise>, not through its length, which grows with d.

    Every honest update adds records, with much the same sign and size round after round until the pull is felt (its
    time constant is 1 / PULL steps at learning rate 1). That is why an update with its sign flipped, which takes
    records away, stands out from the noise. The counts are free of feature noise; the unit grows with the noise, so
    that they are not drowned in it when updates are compared.

    The noise decides how much a noised record is worth: E0 weighs ``public * (1 + WORTH noise^2)`` noised records a
    class against the customers' evidence of `REFERENCE` passes.

    Parameters
    ----------
    features, classes : int
        d and K.
    records : int
        Records of all customers together, as the manufacturer expects.
    noise : float
        Standard deviation of the noise on each feature; 0 for none.
    flips : ndarray of float64, shape (K, K), optional
        How labels were randomised. A record is then evidence for all classes, weighed by the row of M's inverse that
        belongs to its reported label: in expectation that is its true label alone, so nothing is biased by the flips.
    """

    prior: Tensor
    unit: Tensor
    weights: Tensor | None

    def __init__(
        self, features: int, classes: int, records: int, noise: float, flips: NDArray[np.float64] | None = None
    ) -> None:
        super().__init__()
        self.records, self.noise = records, noise
        self.evidence = nn.Parameter(torch.zeros(classes, features + 1))
        self.register_buffer("prior", torch.zeros(classes, features + 1))
        self.register_buffer("unit", torch.tensor(min(max(1.0, noise), LARGEST_UNIT)))
        self.register_buffer("weights", backward_weights(flips))

    def start(self, features: Tensor, labels: Tensor) -> None:
        """Set the manufacturer's evidence from public clean features; its counts say nothing, so all are one."""
        hot = nn.functional.one_hot(labels, len(self.evidence)).float()
        counts = hot.sum(dim=0).clamp_min(1)[:, None]
        means = hot.T @ features / counts
        weight = counts * (1 + WORTH * self.noise**2)
        prior = torch.cat([weight * means, self.unit.expand(len(means), 1)], dim=1) * (REFERENCE / self.records)
        self.prior.copy_(prior)
        with torch.no_grad():
            self.evidence.copy_(prior)

    def forward(self, features: Tensor) -> Tensor:
        """Return scores (n, K) of clean features."""
        directions = nn.functional.normalize(self.evidence[:, :-1], dim=1, eps=1e-12)
        floor = 0.1 * REFERENCE / self.records  # a tenth of a record: a class that nobody has stays possible
        counts = (self.evidence[:, -1] / self.unit).clamp_min(floor)
        units = nn.functional.normalize(features, dim=1, eps=1e-6)  # splits before the bottleneck have other norms
        return SHARPNESS * units @ directions.T + counts.log()

    def loss(self, features: Tensor, labels: Tensor) -> Tensor:
        """Return the linear loss with its pull."""
        matched = self.evidence[labels] if self.weights is None else self.weights[labels] @ self.evidence
        agreement = (features * matched[:, :-1]).sum(dim=1) + self.unit * matched[:, -1]
        return -agreement.mean() + PULL / 2 * (self.evidence - self.prior).square().sum()


def backward_weights(flips: NDArray[np.float64] | None) -> Tensor | None:
    """Return the inverse of how labels were randomised: its row r weighs a record reported as r for each class."""
    return None if flips is None else torch.from_numpy(np.linalg.inv(flips)).float()


def uniform_start(module: nn.Module, generator: torch.Generator) -> None:
    """Draw the weights of all linear and convolution layers anew, as torch does, but from ``generator``."""
    for layer in module.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d):
            bound = 1 / np.sqrt(layer.weight[0].numel())
            with torch.no_grad():
                layer.weight.uniform_(-bound, bound, generator=generator)
                if layer.bias is not None:
                    layer.bias.uniform_(-bound, bound, generator=generator)
