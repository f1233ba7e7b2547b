from __future__ import annotations

from dataclasses import replace
from io import BytesIO

import numpy as np
import pytest
from PIL import Image
from scipy.stats import norm

from app.config import compose
from app.probe.inversion import decode, squared_error, structural_similarity, train_decoder
from app.probe.membership import most_possible, scores, true_positive_rate
from app.probe.pictures import GAP, ZOOM, grid
from app.probe.privacy import probe
from app.protocol.errors import ConfigError
from app.task import prepare

RNG = np.random.default_rng(0)
ZEROS = np.zeros(200, np.int64)


def attacked(noise: float, dimensions: int = 20) -> float:
    """Return the true positive rate at one percent false alarms on records without structure."""
    rng = np.random.default_rng(1)
    members, others, own = (rng.normal(size=(200, dimensions)) / np.sqrt(dimensions) for _ in range(3))
    released = members + noise * rng.normal(size=members.shape)
    inside = scores(members, ZEROS, released, ZEROS, own, ZEROS, noise)
    outside = scores(others, ZEROS, released, ZEROS, own, ZEROS, noise)
    return true_positive_rate(inside, outside, 0.01)


def test_membership_is_certain_without_noise_and_a_guess_under_much() -> None:
    assert attacked(0.0) == 1.0
    assert attacked(0.1) > 0.5
    assert attacked(10.0) < 0.06


def test_score_is_the_likelihood_ratio_by_brute_force() -> None:
    candidates, released, own = (RNG.normal(size=(n, 2)) for n in (3, 4, 5))
    found = scores(candidates, ZEROS[:3], released, ZEROS[:4], own, ZEROS[:5], 0.7)
    for candidate, score in zip(candidates, found, strict=True):
        ratios = []
        for vector in released:
            from_candidate = norm.pdf(vector, candidate, 0.7).prod()
            width = np.hypot(0.7, np.sqrt(own.var(axis=0).mean()) * 5 ** (-1 / 6))
            from_population = np.mean([norm.pdf(vector, one, width).prod() for one in own])
            ratios.append(from_candidate / from_population)
        assert score == pytest.approx(np.log(np.mean(ratios)), rel=1e-9)


def test_only_releases_of_the_candidates_class_count() -> None:
    x = RNG.normal(size=(2, 3))
    found = scores(x, np.array([0, 1]), x[:1], ZEROS[:1], x, np.array([0, 1]), 0.5)
    assert np.isfinite(found[0])
    assert found[1] == -np.inf


@pytest.mark.parametrize("rate", [0.0, 0.01, 0.1])
def test_true_positive_rate_lets_no_more_false_alarms_pass(rate) -> None:
    others = RNG.permutation(1000).astype(float)
    threshold = 1000 - 1 - np.floor(rate * 1000)
    assert true_positive_rate(np.array([threshold + 0.5, threshold]), others, rate) == 0.5
    assert (others > threshold).mean() <= rate


def test_most_possible_is_reached_by_the_best_test_of_one_vector() -> None:
    rng = np.random.default_rng(2)
    inside, outside = rng.normal(1.5, 1, 200_000), rng.normal(0, 1, 200_000)
    assert true_positive_rate(inside, outside, 0.01) == pytest.approx(most_possible(0.01, 1.5), abs=0.01)
    assert most_possible(0.01, 0.0) == pytest.approx(0.01)


def test_likeness_of_equal_and_of_unrelated_images() -> None:
    images = RNG.random((4, 12, 12)).astype(np.float32)
    assert structural_similarity(images, images) == pytest.approx(1.0)
    assert squared_error(images, images) == 0.0
    other = np.random.default_rng(5).random((4, 12, 12)).astype(np.float32)
    assert abs(structural_similarity(images, other)) < 0.2


def test_decoder_draws_what_features_say_and_the_class_mean_without_them() -> None:
    rng = np.random.default_rng(3)
    images = rng.random((400, 36)).astype(np.float32)
    labels = np.arange(400) % 2
    means = np.stack([images[labels == k].mean(axis=0) for k in range(2)])
    clean = (images - 0.5) @ np.linalg.qr(rng.normal(size=(36, 36)))[0].astype(np.float32)

    def error(noise: float) -> float:
        decoder = train_decoder(clean[:300], labels[:300], images[:300], means, noise, 12, 0)
        seen = clean[300:] + noise * rng.normal(size=clean[300:].shape).astype(np.float32)
        return squared_error(decode(decoder, seen, labels[300:]), images[300:])

    of_class = squared_error(means[labels[300:]], images[300:])
    assert error(0.0) < 0.7 * of_class
    assert error(20.0) == pytest.approx(of_class, rel=0.15)


def test_grid_is_a_picture_with_a_row_for_each_strength() -> None:
    rows = [RNG.random((3, 5, 4)).astype(np.float32) for _ in range(2)]
    picture = np.asarray(Image.open(BytesIO(grid(rows))))
    assert picture.shape == (ZOOM * (2 * (5 + GAP) + GAP), ZOOM * (3 * (4 + GAP) + GAP))
    assert picture[ZOOM * GAP, ZOOM * GAP] == round(255 * float(rows[0][0, 0, 0]))


def test_probe_of_digits_finds_less_the_more_noise() -> None:
    overrides = ["data=digits", "customers=5", "probe=privacy", "probe.records=100", "probe.epsilons=[16,1]"]
    config = compose([*overrides, "probe.passes=3", "model.bottleneck=64"])
    prepared = prepare(config)
    found, picture = probe(prepared.config, prepared.model.phone, prepared.data.test)
    clean, weak, strong = found["strengths"]
    assert (clean["epsilon"], weak["epsilon"], strong["epsilon"]) == (None, 16, 1)
    assert clean["true_positive_rate"] > 0.4
    assert strong["true_positive_rate"] < 0.1
    assert strong["most_possible"] < weak["most_possible"] < clean["most_possible"] == 1.0
    assert strong["mse"] > 0.8 * found["for_nothing"]["mean_of_class"]["mse"]
    assert picture.startswith(b"\x89PNG")
    again, _ = probe(prepared.config, prepared.model.phone, prepared.data.test)
    assert again == found
    greedy = replace(prepared.config, probe=replace(config.probe, records=100_000))
    with pytest.raises(ConfigError, match=r"probe\.records.*100\.\."):
        probe(greedy, prepared.model.phone, prepared.data.test)


def test_impossible_probes_are_refused() -> None:
    for overrides, match in (
        (["probe=privacy", "probe.epsilons=[]"], r"probe\.epsilons"),
        (["probe=privacy", "probe.records=5"], r"probe\.records"),
        (["probe=privacy", "probe.passes=0"], r"probe\.passes"),
        (["probe=privacy", "privacy=none"], "probe"),
        (["probe.passes=4"], r"probe\.passes.*is not used"),
    ):
        with pytest.raises(ConfigError, match=match):
            compose(overrides)
