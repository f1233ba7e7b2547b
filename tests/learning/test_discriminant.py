from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from app.learning.config import TrainConfig
from app.learning.models import DiscriminantHead
from app.learning.models.discriminant import RIDGE, SPREAD
from app.learning.training import accuracy_and_loss, train_head

FULL = TrainConfig(epochs=1, batch_size=0, learning_rate=1.0)
D, K = 5, 3


def blobs(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return unit vectors of three classes that differ in a correlated noise."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(n) % K)
    mix = np.random.default_rng(99).normal(size=(D, D)) * 0.15
    x = 0.3 * np.eye(K, D)[labels] + 0.5 + rng.normal(size=(n, D)) @ mix
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32), labels


def head(noise: float, records: int = 600, public: int = 30) -> DiscriminantHead:
    x, y = blobs(public, 1)
    made = DiscriminantHead(D, K, records, noise)
    made.start(torch.from_numpy(x), torch.from_numpy(y), torch.bincount(torch.from_numpy(y)))
    return made


def test_without_evidence_it_is_fishers_discriminant_of_the_public_records() -> None:
    x, y = blobs(30, 1)
    test, truth = blobs(300, 2)
    reference = LinearDiscriminantAnalysis(solver="lsqr", priors=[1 / 3] * 3).fit(x, y)
    made = head(1.0)
    made.variances -= RIDGE / (1 + RIDGE) * made.variances.mean()  # the ridge is ours alone
    scores = made(torch.from_numpy(test)).detach().numpy()
    np.testing.assert_allclose(scores - scores.mean(axis=1, keepdims=True), _centred(reference, test), atol=2e-2)
    assert accuracy_and_loss(made, test, truth)[0] > 0.6


def _centred(reference: LinearDiscriminantAnalysis, x: np.ndarray) -> np.ndarray:
    scores = x @ reference.coef_.T + reference.intercept_
    return np.asarray(scores - scores.mean(axis=1, keepdims=True))


@pytest.mark.parametrize("noise", [0.0, 0.5, 3.0])
def test_means_are_the_posterior_of_the_gaussian_model(noise) -> None:
    made = head(noise)
    x, y = blobs(600, 3)
    noised = (x + noise * np.random.default_rng(4).normal(size=x.shape)).astype(np.float32)
    train_head(made, noised, y, FULL, 0)
    basis = made.basis.double().numpy()
    within = basis @ np.diag(made.variances.double().numpy()) @ basis.T
    found, shares = made.posterior()
    for label in range(K):
        count = int((y == label).sum())
        prior = basis @ made.means[label].double().numpy()
        spread = within * SPREAD / 10
        told = noised[y == label].astype(np.float64).mean(axis=0)
        error = (within + noise**2 * np.eye(D)) / count
        expected = prior + spread @ np.linalg.solve(spread + error, told - prior)
        np.testing.assert_allclose(basis @ found[label].detach().double().numpy(), expected, atol=1e-4)
        assert float(shares[label].detach()) == pytest.approx(count / 600, rel=1e-5)


def test_averaged_updates_pool_the_customers_records() -> None:
    parts = [blobs(200, seed) for seed in (5, 6, 7)]
    together = head(1.0)
    train_head(together, np.concatenate([x for x, _ in parts]), np.concatenate([y for _, y in parts]), FULL, 0)
    updates = []
    for x, y in parts:
        alone = head(1.0)
        train_head(alone, x, y, FULL, 0)
        updates.append(alone.evidence.detach())
    torch.testing.assert_close(torch.stack(updates).mean(dim=0), together.evidence.detach(), atol=1e-6, rtol=1e-5)


def test_more_noise_leaves_more_to_the_public_records() -> None:
    x, y = blobs(600, 3)

    def moved(noise: float) -> float:
        made = head(noise)
        train_head(made, x, y, FULL, 0)
        with torch.no_grad():
            return float((made.posterior()[0] - made.means).norm())

    assert moved(0.0) > moved(1.0) > moved(8.0) > 0


def test_a_class_that_nobody_has_stays_possible() -> None:
    made = head(1.0)
    x, y = blobs(300, 3)
    train_head(made, x[y != 2], y[y != 2], FULL, 0)
    scores = made(torch.from_numpy(x)).detach()
    assert torch.isfinite(scores).all()
    means, shares = made.posterior()
    torch.testing.assert_close(means[2], made.means[2])
    assert 0 < float(shares[2].detach()) < 0.01


def test_learns_under_noise_that_hides_every_single_record() -> None:
    x, y = blobs(6000, 8)
    test, truth = blobs(500, 9)
    made = head(1.2, records=6000, public=9)
    before, _ = accuracy_and_loss(made, test, truth)
    noised = (x + 1.2 * np.random.default_rng(1).normal(size=x.shape)).astype(np.float32)
    train_head(made, noised, y, FULL, 0)
    after, _ = accuracy_and_loss(made, test, truth)
    assert after > before + 0.02


def test_randomised_labels_bias_nothing_and_weigh_less() -> None:
    keep, rest = 0.7, 0.15
    flips = np.full((K, K), rest) + (keep - rest) * np.eye(K)
    x, y = blobs(60_000, 10)
    rng = np.random.default_rng(11)
    reported = np.array([rng.choice(K, p=flips[label]) for label in y])
    made = DiscriminantHead(D, K, len(x), 1.0, flips)
    clear = head(1.0, records=len(x))
    made.load_state_dict(clear.state_dict() | {name: getattr(made, name) for name in ("flips", "weights")})
    noised = (x + rng.normal(size=x.shape)).astype(np.float32)
    train_head(made, noised, reported, FULL, 0)
    for label in range(K):
        found = made.evidence[label].detach()
        told = found[:-1] / (found[-1] / made.unit)
        np.testing.assert_allclose(told, x[y == label].mean(axis=0), atol=0.05)
        assert float(found[-1] / made.unit) == pytest.approx(1 / K, abs=0.01)
    train_head(clear, noised, y, FULL, 0)
    moved, moved_clear = (
        (one.posterior()[0].detach() - (one.evidence[:, :-1].detach() @ one.basis) / (one.evidence[:, -1:] / one.unit))
        for one in (made, clear)
    )
    assert float(moved.detach().norm()) > float(moved_clear.detach().norm())  # further from what was told
