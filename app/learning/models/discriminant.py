"""Head ``discriminant``: linear discriminant analysis whose class means are a posterior, given noise of known size."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from app.learning.models.heads import LARGEST_UNIT, PULL, Head

SPREAD = 3.0  # variance of a class's mean around its public one, in within-class variances over its public records
RIDGE = 0.1  # of the mean within-class variance, added to each
POSSIBLE = 1e-3  # share of a class that nobody has


class DiscriminantHead(Head):
    """Class means from the customers' noised features, weighed against the manufacturer's by what either can know.

    Features of class c are N(mu_c, W), with one W for all classes: the scores are Fisher's,

        <x, W^-1 mu_c> - <mu_c, W^-1 mu_c> / 2 + log p_c.

    The manufacturer has W and a first mean m_c from its varied public records, in the basis in which W is diagonal,
    W = diag(w). A public set is small, so m_c is uncertain, and most where records of a class differ most: the prior is
    mu_c ~ N(m_c, kappa_c W), kappa_c = `SPREAD` / public records of c. The customers together tell the mean b_c of n_c
    noised features: N(mu_c, (W + s^2 I) / n_c), s^2 the known variance of the noise. Hence the posterior mean, for each
    direction i of the basis,

        mu_ci = m_ci + g_ci (b_ci - m_ci),    g_ci = kappa_c w_i n_c / (kappa_c w_i n_c + w_i + s^2).

    Directions in which the noise hides everything keep the public mean; no noise leaves the customers' mean.

    Where labels are randomised, a record is evidence for all classes, weighed by the row of the flip matrix's inverse
    that belongs to its reported label: in expectation that is its true label alone. The sums are noisier then: with
    weights v over the reports, n_c records of c tell as much as n_c^2 / (sum of v^2 over all records) would with clear
    labels, and what they tell varies as features do over all classes, not as within one.

    What is trained is ``evidence`` (K, d + 1): for each class the sum of its features, and in the last column the
    count times a fixed unit. The loss is linear in the features, apart from a weak pull back to nothing:

        mean over records of - <(z, unit), evidence_y>  +  PULL / 2 * |evidence|^2

    so its gradient is the mean feature and the share of each class: zero-mean noise averages out in it whatever its
    law, and averaging customers' updates pools their records exactly. Without evidence the head is the public one.

    Every honest update adds records, with much the same sign and size round after round until the pull is felt. That
    is why an update with its sign flipped, which takes records away, stands out from the noise. The counts are free of
    feature noise; the unit grows with the noise, so that they are not drowned in it when updates are compared.

    Parameters
    ----------
    features, classes : int
        d and K.
    records : int
        Records of all customers together, as the manufacturer expects.
    noise : float
        Standard deviation s of the noise on each feature; 0 for none.
    flips : ndarray of float64, shape (K, K), optional
        How labels are randomised, see `app.privacy.labels.flip_matrix`; None for clear ones.
    """

    basis: Tensor
    variances: Tensor
    means: Tensor
    certainty: Tensor
    unit: Tensor
    flips: Tensor
    weights: Tensor

    def __init__(
        self, features: int, classes: int, records: int, noise: float, flips: NDArray[np.float64] | None = None
    ) -> None:
        super().__init__()
        self.records, self.noise = records, noise
        self.evidence = nn.Parameter(torch.zeros(classes, features + 1))
        self.register_buffer("basis", torch.eye(features))
        self.register_buffer("variances", torch.ones(features))
        self.register_buffer("means", torch.zeros(classes, features))
        self.register_buffer("certainty", torch.ones(classes))  # 1 / kappa
        self.register_buffer("unit", torch.tensor(min(max(1.0, noise), LARGEST_UNIT)))
        self.randomised = flips is not None
        matrix = np.eye(classes) if flips is None else flips
        self.register_buffer("flips", torch.from_numpy(matrix).float())
        self.register_buffer("weights", torch.from_numpy(np.linalg.inv(matrix)).float())

    def start(self, features: Tensor, labels: Tensor, counts: Tensor) -> None:
        """Set the manufacturer's knowledge.

        Parameters
        ----------
        features, labels : Tensor
            Of the varied public records, shapes (n, d) and (n,).
        counts : Tensor
            Public records of each class without their variants, shape (K,).
        """
        x = _unit_rows(features.double())
        hot = nn.functional.one_hot(labels, len(self.evidence)).double()
        means = hot.T @ x / hot.sum(dim=0).clamp_min(1)[:, None]
        rest = x - means[labels]
        variances, basis = torch.linalg.eigh(rest.T @ rest / len(x))
        variances = variances.clamp_min(0)
        self.variances.copy_(variances + RIDGE * variances.mean() + 1e-9)
        self.basis.copy_(basis)
        self.means.copy_(means @ basis)
        self.certainty.copy_(counts.clamp_min(1) / SPREAD)

    def forward(self, features: Tensor) -> Tensor:
        """Return scores (n, K) of clean features."""
        means, shares = self.posterior()
        directions = means / self.variances
        constants = shares.log() - 0.5 * (means * directions).sum(dim=1)
        return _unit_rows(features) @ self.basis @ directions.T + constants

    def posterior(self) -> tuple[Tensor, Tensor]:
        """Return the class means (K, d) in the basis, and the share of each class (K,)."""
        counts = (self.evidence[:, -1] / self.unit).clamp_min(0)
        total = counts.sum()
        seen = counts / total.clamp_min(1e-12)  # nothing at all before the first round
        told = self.evidence[:, :-1] @ self.basis / counts.clamp_min(1e-6 * total + 1e-12)[:, None]
        # How many records with clear labels would tell as much: the records themselves, if labels are clear.
        worth = self.records * seen.square() / (seen @ self.flips @ self.weights.square()).clamp_min(1e-12)
        spread = self.variances + self.means.square().mean(dim=0) if self.randomised else self.variances
        signal = worth[:, None] * self.variances
        gain = signal / (signal + self.certainty[:, None] * (spread + self.noise**2))
        shares = seen.clamp_min(POSSIBLE) if total > 0 else torch.ones_like(seen)
        return self.means + gain * (told - self.means), shares / shares.sum()

    def loss(self, features: Tensor, labels: Tensor) -> Tensor:
        """Return the linear loss with its pull."""
        matched = self.weights[labels] @ self.evidence if self.randomised else self.evidence[labels]
        agreement = (features * matched[:, :-1]).sum(dim=1) + self.unit * matched[:, -1]
        return -agreement.mean() + PULL / 2 * self.evidence.square().sum()


def _unit_rows(features: Tensor) -> Tensor:
    return nn.functional.normalize(features, dim=1, eps=1e-6)
