"""Labels: randomised response, its cost, and losses that are corrected for it."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from app.learning.models import DiscriminantHead, MlpHead, PrototypeHead
from app.privacy.cost import PrivacyCost
from app.privacy.labels import ClearLabels, RandomizedResponse, flip_matrix, label_treatment
from app.privacy.randomness import InsecureSeededRandom
from tests.privacy.make import GAUSSIAN

K, EPSILON, N = 4, 1.5, 100_000
CONFIG = replace(GAUSSIAN, labels="randomized_response", epsilon_label=EPSILON)


def reported(n: int = N) -> tuple[np.ndarray, np.ndarray]:
    labels = np.random.default_rng(0).integers(0, K, n)
    return labels, RandomizedResponse(EPSILON, K, InsecureSeededRandom(1)).release(labels)


def test_reports_follow_the_matrix_and_no_ratio_exceeds_what_epsilon_allows() -> None:
    labels, reports = reported()
    counts = np.histogram2d(labels, reports, bins=K)[0]
    matrix = flip_matrix(CONFIG, K)
    assert matrix is not None
    assert np.abs(counts / counts.sum(axis=1, keepdims=True) - matrix).max() < 5 * 0.5 / (N / K) ** 0.5
    assert np.allclose(matrix.sum(axis=1), 1)
    assert np.max(matrix[:, None] / matrix[None]) == pytest.approx(math.exp(EPSILON))


def test_treatment_cost_and_share() -> None:
    treatment = label_treatment(CONFIG, K, InsecureSeededRandom(1))
    assert treatment.costs == (PrivacyCost("randomized_response", "record", EPSILON, 0.0),)
    assert CONFIG.epsilon_features + EPSILON == CONFIG.epsilon
    clear = label_treatment(GAUSSIAN, K, InsecureSeededRandom(1))
    assert isinstance(clear, ClearLabels)
    assert clear.costs == ()
    labels = np.arange(4)
    assert np.array_equal(clear.release(labels), labels)
    assert not np.shares_memory(clear.release(labels), labels)
    assert flip_matrix(GAUSSIAN, K) is None


def test_the_parts_add_up_to_the_decimal_that_was_written() -> None:
    config = replace(CONFIG, epsilon=8.3, epsilon_label=4.1)
    assert config.epsilon_features == 4.2  # in binary floating point 8.3 - 4.1 is a little more


@pytest.mark.parametrize("kind", [PrototypeHead, DiscriminantHead])
def test_evidence_heads_learn_from_flipped_labels_what_they_would_from_true_ones(kind: type) -> None:
    labels, reports = reported(40_000)
    x = torch.from_numpy((np.eye(K)[labels] + 0.1).astype(np.float32))
    corrected, plain = (kind(K, K, len(labels), 0.0, flips) for flips in (flip_matrix(CONFIG, K), None))

    def gradient(head: nn.Module, given: np.ndarray) -> torch.Tensor:
        head.zero_grad()
        head.loss(x, torch.from_numpy(given)).backward()
        return head.evidence.grad.clone()

    truth, found = gradient(plain, labels), gradient(corrected, reports)
    assert (found - truth).abs().max() < 0.02
    assert (gradient(plain, reports) - truth).abs().max() > 0.05  # without the correction


def test_a_trained_head_is_corrected_forward() -> None:
    """At the true probabilities p the corrected loss is stationary: the expected report is p M."""
    labels, reports = reported(40_000)
    head = MlpHead(nn.Identity(), K, (), K, flip_matrix(CONFIG, K))
    with torch.no_grad():
        head.layers[0].weight.copy_(8.0 * torch.eye(K))  # certain of the truth
        head.layers[0].bias.zero_()
    x = torch.eye(K)[labels]
    matrix = flip_matrix(CONFIG, K)
    assert matrix is not None
    entropy = -float(np.sum(matrix[0] * np.log(matrix[0])))
    assert float(head.loss(x, torch.from_numpy(reports)).detach()) == pytest.approx(entropy, abs=0.02)
    head.loss(x, torch.from_numpy(reports)).backward()
    assert head.layers[0].weight.grad.abs().max() < 0.01
