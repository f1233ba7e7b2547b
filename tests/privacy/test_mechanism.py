"""Mechanisms: what is released, against the stated law; planted bugs have to fail the same checks."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import kstest

from app.privacy.calibration import gaussian_scale
from app.privacy.config import PrivacyConfig
from app.privacy.cost import PrivacyCost
from app.privacy.mechanism import GaussianMechanism, NoMechanism, clip_records, mechanism_of
from app.privacy.randomness import InsecureSeededRandom, SystemRandom
from app.protocol.errors import ConfigError, PrivacyError

CLIP, EPSILON, DELTA = 1.0, 4.0, 1e-5
RECORDS, WIDTH = 20_000, 16
Release = Callable[[np.ndarray], np.ndarray]


def gaussian(seed: int = 0, clip: float = CLIP, epsilon: float = EPSILON, delta: float = DELTA) -> GaussianMechanism:
    return GaussianMechanism(clip, epsilon, delta, InsecureSeededRandom(seed))


def long_features() -> np.ndarray:
    """Records of very different norms, most of them far above the clip."""
    rng = np.random.default_rng(1)
    return (rng.normal(size=(RECORDS, WIDTH)) * rng.exponential(10.0, size=(RECORDS, 1))).astype(np.float32)


def obeys_the_law(release: Release) -> bool:
    """Tell whether released minus clipped features are independent N(0, sigma**2), sigma from an independent formula.

    Every statistic may be 5 standard errors off: the true law is refused with probability below 1e-4 over all of
    them, and a scale wrong by 2 % (8.8 standard errors and more of the variance) accepted with probability below 1e-4.
    """
    features = long_features()
    rows = features.astype(np.float64)
    clipped = rows * np.minimum(1.0, CLIP / np.linalg.norm(rows, axis=1, keepdims=True))
    z = (release(features).astype(np.float64) - clipped) / (2 * CLIP * 1.0812)
    n = z.size
    variances = z.var(axis=0)
    return bool(
        kstest(z.ravel(), "norm").pvalue > 1e-6
        and abs(z.mean()) < 5 / n**0.5
        and abs(z.var() - 1) < 5 * (2 / n) ** 0.5 + 2e-4  # 1.0812 has four decimals
        and np.all(np.abs(variances - 1) < 5 * (2 / RECORDS) ** 0.5)
        and abs(np.mean(z[:, 1:] * z[:, :-1])) < 5 / n**0.5
        and abs(np.mean(z[1:] * z[:-1])) < 5 / n**0.5
        and abs(np.mean(z * clipped) / np.sqrt(np.mean(clipped**2))) < 5 / n**0.5
    )


def test_the_released_features_obey_the_stated_law() -> None:
    assert obeys_the_law(gaussian().release)


def test_so_they_do_with_the_operating_systems_randomness() -> None:
    """False alarm below 1e-4 a run, so one of three has to pass: below 1e-12."""
    mechanism = GaussianMechanism(CLIP, EPSILON, DELTA, SystemRandom())
    assert any(obeys_the_law(mechanism.release) for _ in range(3))


def planted_noise_before_clip(features: np.ndarray) -> np.ndarray:
    noise = gaussian().sigma * np.random.default_rng(2).normal(size=features.shape)
    return clip_records((features + noise).astype(np.float32), CLIP).astype(np.float32)


def planted_scale(factor: float) -> Release:
    def release(features: np.ndarray) -> np.ndarray:
        noise = factor * gaussian().sigma * np.random.default_rng(2).normal(size=features.shape)
        return (clip_records(features, CLIP) + noise).astype(np.float32)

    return release


def planted_missing_coordinate(features: np.ndarray) -> np.ndarray:
    released = gaussian().release(features)
    released[:, 3] = clip_records(features, CLIP)[:, 3]
    return released


def planted_reused_noise(features: np.ndarray) -> np.ndarray:
    noise = gaussian().sigma * np.random.default_rng(2).normal(size=(1, features.shape[1]))
    return (clip_records(features, CLIP) + noise).astype(np.float32)


def planted_laplace(features: np.ndarray) -> np.ndarray:
    noise = gaussian().sigma / 2**0.5 * np.random.default_rng(2).laplace(size=features.shape)
    return (clip_records(features, CLIP) + noise).astype(np.float32)


def planted_no_clip(features: np.ndarray) -> np.ndarray:
    return (features + gaussian().sigma * np.random.default_rng(2).normal(size=features.shape)).astype(np.float32)


@pytest.mark.parametrize(
    "bug",
    [
        planted_noise_before_clip,
        planted_scale(0.5),
        planted_scale(0.98),
        planted_scale(1.06),
        planted_missing_coordinate,
        planted_reused_noise,
        planted_laplace,
        planted_no_clip,
    ],
)
def test_planted_bugs_do_not(bug: Release) -> None:
    assert not obeys_the_law(bug)


def test_the_worst_pair_is_told_apart_exactly_as_well_as_delta_allows() -> None:
    """Two opposite records at the clip: the best test's P(A) - exp(epsilon) P'(A) is delta.

    Delta is 0.1 here so that it can be counted: 300,000 releases each, standard error 0.0016 (5 of them allowed).
    Half the noise would give 0.61, sensitivity S instead of 2 S the same; twice the noise 0.0004.
    """
    epsilon, delta, n = 1.0, 0.1, 300_000
    mechanism = gaussian(seed=3, epsilon=epsilon, delta=delta)
    record = np.zeros((n, 1), np.float32) + 7.0
    one, other = mechanism.release(record), mechanism.release(-record)
    threshold = epsilon * mechanism.sigma**2 / (2 * CLIP)
    measured = np.mean(one > threshold) - math.exp(epsilon) * np.mean(other > threshold)
    assert abs(measured - delta) < 0.008


@given(
    arrays(
        np.float32, st.tuples(st.integers(0, 6), st.integers(1, 9)), elements=st.floats(-(2.0**100), 2.0**100, width=32)
    ),
    st.floats(1e-3, 1e3),
)
def test_clipped_records_have_norm_at_most_the_clip_and_short_ones_are_untouched(
    features: np.ndarray, clip: float
) -> None:
    clipped = clip_records(features, clip)
    assert clipped.shape == features.shape
    norms = np.linalg.norm(features.astype(np.float64), axis=1)
    assert (np.linalg.norm(clipped, axis=1) <= clip * (1 + 1e-12)).all()
    assert np.array_equal(clipped[norms <= clip], features[norms <= clip])
    assert np.allclose(
        clipped * np.maximum(norms, clip)[:, None], features.astype(np.float64) * clip, rtol=1e-12, atol=0
    )


@given(st.integers(0, 2**32), st.integers(1, 7), st.integers(1, 40))
def test_other_records_do_not_influence_what_is_made_of_a_record(seed: int, others: int, width: int) -> None:
    rng = np.random.default_rng(seed)
    record = rng.normal(size=(1, width)).astype(np.float32) * 5
    alone = clip_records(record, CLIP)[0]
    for position in range(others + 1):
        batch = rng.normal(size=(others + 1, width)).astype(np.float32) * 100
        batch[position] = record
        assert np.array_equal(clip_records(batch, CLIP)[position], alone)
        assert np.array_equal(clip_records(np.asfortranarray(batch), CLIP)[position], alone)


@given(st.floats(1e-3, 1e3), st.floats(0.05, 50), st.integers(0, 100))
def test_every_output_is_a_multiple_of_a_power_of_two(clip: float, epsilon: float, seed: int) -> None:
    mechanism = gaussian(seed, clip, epsilon)
    released = mechanism.release(np.full((40, 5), clip, np.float32))
    assert released.dtype == np.float32
    assert math.frexp(mechanism.step)[0] == 0.5
    steps = released.astype(np.float64) / mechanism.step
    assert np.array_equal(steps, np.rint(steps))
    assert np.abs(steps).max() <= 2**24
    assert mechanism.step < mechanism.sigma / 2**15  # far too fine to matter for learning


def test_rounding_moves_no_value_by_more_than_half_a_step() -> None:
    mechanism, features = gaussian(4), long_features()
    exact = clip_records(features, CLIP) + mechanism.sigma * InsecureSeededRandom(4).normal(features.shape)
    assert np.abs(mechanism.release(features) - exact).max() <= mechanism.step / 2


def test_the_same_seed_releases_the_same_and_the_next_release_has_fresh_noise() -> None:
    features = np.ones((10, 4), np.float32)
    one, two = gaussian(5), gaussian(5)
    first = one.release(features)
    assert np.array_equal(first, two.release(features))
    assert not np.isin(first, one.release(features)).any()
    assert not np.isin(first, gaussian(6).release(features)).any()


def test_sigma_is_calibrated_to_twice_the_clip() -> None:
    assert gaussian(clip=0.25).sigma == pytest.approx(0.5 * gaussian_scale(EPSILON, DELTA), rel=1e-8)
    assert gaussian(clip=0.25).sigma > 0.5 * gaussian_scale(EPSILON, DELTA)  # float64's rounding is paid for


@pytest.mark.parametrize("mechanism", [gaussian(), NoMechanism()], ids=["gaussian", "none"])
def test_features_that_are_not_numbers_are_refused(mechanism: GaussianMechanism | NoMechanism) -> None:
    for value in (np.nan, np.inf, -np.inf):
        features = np.zeros((3, 2), np.float32)
        features[1, 1] = value
        with pytest.raises(PrivacyError, match="1 of 3 records"):
            mechanism.release(features)
    with pytest.raises(PrivacyError, match="shape"):
        mechanism.release(np.zeros(3, np.float32))


@pytest.mark.parametrize(
    "features", [np.zeros((0, 4), np.float32), np.zeros((5, 4), np.float32), np.ones((1, 1), np.float32)]
)
def test_small_and_constant_sets(features: np.ndarray) -> None:
    released = gaussian().release(features)
    assert released.shape == features.shape
    assert np.isfinite(released).all()


def test_without_a_mechanism_features_pass_in_the_clear_and_say_so() -> None:
    features = np.ones((3, 2), np.float32)
    released = NoMechanism().release(features)
    assert np.array_equal(released, features)
    assert not np.shares_memory(released, features)
    assert NoMechanism().cost == PrivacyCost("none", "record", math.inf, 0.0)


def test_configuration_gives_the_mechanism() -> None:
    source = InsecureSeededRandom(1)
    config = PrivacyConfig("record", "gaussian", 4.0, 1e-5, 8.0, 0.5, "seeded-insecure")
    mechanism = mechanism_of(config, source)
    assert mechanism.cost == PrivacyCost("gaussian", "record", 4.0, 1e-5)
    assert mechanism.parameters["clip"] == 0.5
    assert mechanism.parameters["randomness"] == "seeded-insecure"
    assert mechanism_of(PrivacyConfig("none", "none", 0.0, 0.0, 0.0, 1.0, "system"), source).name == "none"


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"name": "paper"}, "privacy.name"),
        ({"mechanism": "none"}, "privacy.mechanism"),
        ({"randomness": "numpy"}, "privacy.randomness"),
        ({"epsilon": 0.0}, "privacy.epsilon"),
        ({"epsilon": math.inf}, "privacy.epsilon"),
        ({"clip": -1.0}, "privacy.clip"),
        ({"delta": 1.0}, "privacy.delta"),
        ({"delta": math.nan}, "privacy.delta"),
        ({"budget": 3.9}, "privacy.budget"),
    ],
)
def test_impossible_configurations_name_their_key(change: dict[str, object], key: str) -> None:
    values = {"name": "record", "mechanism": "gaussian", "epsilon": 4.0, "delta": 1e-5, "budget": 4.0, "clip": 1.0}
    values["randomness"] = "system"
    with pytest.raises(ConfigError) as caught:
        PrivacyConfig(**(values | change))  # type: ignore[arg-type]
    assert caught.value.key == key


def test_impossible_mechanisms_are_refused() -> None:
    with pytest.raises(PrivacyError, match="positive finite norm"):
        gaussian(clip=0.0)
    with pytest.raises(PrivacyError, match="cannot cost"):
        PrivacyCost("gaussian", "record", -1.0, 0.0)
