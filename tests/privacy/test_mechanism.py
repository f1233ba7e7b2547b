"""Mechanisms: what is released, against the stated law; planted bugs have to fail the same checks."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import beta

from app.privacy.config import PrivacyConfig
from app.privacy.cost import PrivacyCost
from app.privacy.lattice import clip_rows
from app.privacy.mechanism import relative_noise
from app.privacy.normalisation import FeatureSpace, normalise
from app.privacy.randomness import SystemRandom
from app.protocol.errors import PrivacyError
from tests.privacy.make import GAUSSIAN, LAPLACE, NONE, PAPER, flat, make

RECORDS, WIDTH = 20_000, 16
ALL = {"gaussian": GAUSSIAN, "laplace": LAPLACE, "paper": PAPER, "none": NONE}
NOISED = {name: config for name, config in ALL.items() if name != "none"}
Release = Callable[[np.ndarray], np.ndarray]


def long_features(records: int = RECORDS) -> np.ndarray:
    """Records of very different norms, most of them far above the clip."""
    rng = np.random.default_rng(1)
    return (rng.normal(size=(records, WIDTH)) * rng.exponential(10.0, size=(records, 1))).astype(np.float32)


def expected(config: PrivacyConfig, features: np.ndarray) -> tuple[np.ndarray, float]:
    """Return, from formulas of their own, the released features' means and the standard deviation of the noise."""
    rows = features.astype(np.float64)
    if config.mechanism == "gaussian":  # sigma / sensitivity at epsilon 4, delta 1e-5: 1.0812 (facts, four decimals)
        norms = np.linalg.norm(rows, axis=1, keepdims=True)
        return rows * np.minimum(1.0, config.clip / norms), 2 * config.clip * 1.0812
    if config.mechanism == "laplace":
        norms = np.abs(rows).sum(axis=1, keepdims=True)
        return rows * np.minimum(1.0, config.clip / norms), 2**0.5 * 2 * config.clip / config.epsilon
    n = config.batch_size
    batches = rows.reshape(-1, n * WIDTH)
    standard = (batches - batches.mean(axis=1, keepdims=True)) / np.sqrt(batches.var(axis=1, keepdims=True) + 1e-5)
    clipped = np.clip(standard.reshape(rows.shape), -((n - 1) ** 0.5), (n - 1) ** 0.5)
    return clipped, 2**0.5 * 2 * (n - 1) ** 0.5 / config.epsilon


def obeys_the_law(release: Release, config: PrivacyConfig, features: np.ndarray) -> bool:
    """Tell whether released minus clipped features are independent noise of the stated law.

    Every statistic may be 5 standard errors off (and 1e-3 for rounding and four decimals), so the true law is refused
    with probability below 1e-4. A scale that is wrong by 2 % moves the variance by at least 8.8 standard errors.
    """
    means, deviation = expected(config, features)
    z = (release(features).astype(np.float64) - means) / deviation
    n = z.size
    kurtosis, eighth = (3.0, 105.0) if config.mechanism == "gaussian" else (6.0, 2520.0)
    spread = (kurtosis - 1) ** 0.5
    return bool(
        abs(z.mean()) < 5 / n**0.5 + 1e-3
        and abs(z.var() - 1) < 5 * spread / n**0.5 + 1e-3
        and abs((z**4).mean() - kurtosis) < 5 * (eighth / n) ** 0.5 + 5e-3
        and np.all(np.abs(z.var(axis=0) - 1) < 5 * spread / len(z) ** 0.5 + 1e-3)
        and abs(np.mean(z[:, 1:] * z[:, :-1])) < 5 / n**0.5
        and abs(np.mean(z[1:] * z[:-1])) < 5 / n**0.5
        and abs(np.mean(z * means) / np.sqrt(np.mean(means**2))) < 5 / n**0.5 + 1e-3
    )


def released(config: PrivacyConfig, seed: int | SystemRandom = 0) -> Release:
    mechanism = make(config, seed)
    return lambda features: mechanism.release(features, flat(features)).features


@pytest.mark.parametrize("name", NOISED)
def test_the_released_features_obey_the_stated_law(name: str) -> None:
    assert obeys_the_law(released(NOISED[name]), NOISED[name], long_features(19_968))


@pytest.mark.long
@pytest.mark.parametrize("name", NOISED)
def test_so_they_do_with_the_operating_systems_randomness(name: str) -> None:
    """False alarm below 1e-4 a run, so one of three has to pass: below 1e-12."""
    release = released(NOISED[name], SystemRandom())
    assert any(obeys_the_law(release, NOISED[name], long_features(19_968)) for _ in range(3))


def noise_before_clip(config: PrivacyConfig, features: np.ndarray) -> np.ndarray:
    noise = expected(config, features)[1] * np.random.default_rng(2).normal(size=features.shape)
    return expected(config, (features + noise).astype(np.float32))[0]


def scaled(factor: float) -> Callable[[PrivacyConfig, np.ndarray], np.ndarray]:
    def release(config: PrivacyConfig, features: np.ndarray) -> np.ndarray:
        means = expected(config, features)[0]
        return means + factor * (released(config)(features) - means)

    return release


def missing_coordinate(config: PrivacyConfig, features: np.ndarray) -> np.ndarray:
    found = released(config)(features)
    found[:, 3] = expected(config, features)[0][:, 3]
    return found


def reused_noise(config: PrivacyConfig, features: np.ndarray) -> np.ndarray:
    means = expected(config, features)[0]
    return means + (released(config)(features) - means)[:1]


def other_law(config: PrivacyConfig, features: np.ndarray) -> np.ndarray:
    means, deviation = expected(config, features)
    rng = np.random.default_rng(2)
    gaussian = config.mechanism == "gaussian"
    unit = rng.laplace(size=means.shape) / 2**0.5 if gaussian else rng.normal(size=means.shape)
    return means + deviation * unit


def no_clip(config: PrivacyConfig, features: np.ndarray) -> np.ndarray:
    return features + released(config)(np.zeros_like(features))


@pytest.mark.parametrize(
    "bug",
    [
        noise_before_clip,
        scaled(0.5),
        scaled(0.98),
        scaled(1.06),
        missing_coordinate,
        reused_noise,
        other_law,
        no_clip,
    ],
)
@pytest.mark.parametrize("name", NOISED)
def test_planted_bugs_do_not(name: str, bug: Callable[[PrivacyConfig, np.ndarray], np.ndarray]) -> None:
    config = NOISED[name]
    assert not obeys_the_law(lambda features: bug(config, features), config, long_features(19_968))


def epsilon_at_least(one: np.ndarray, other: np.ndarray, threshold: float, delta: float = 0.0) -> float:
    """Return a lower bound on epsilon that is wrong with probability 1e-6, from releases of two neighbours.

    P(out > t) <= exp(epsilon) P'(out > t) + delta, with Clopper and Pearson's bounds for the two probabilities.
    """
    hits, misses, n = int(np.sum(one > threshold)), int(np.sum(other > threshold)), len(one)
    low = beta.ppf(5e-7, hits, n - hits + 1)
    high = beta.ppf(1 - 5e-7, misses + 1, n - misses)
    return math.log((low - delta) / high)


def worst_pair(config: PrivacyConfig, seed: int, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Return one coordinate of n releases of each of the two records that differ most."""
    mechanism, extreme = make(config, seed), np.full((n, 1), 100.0, np.float32)
    space = FeatureSpace((1,))
    return mechanism.release(extreme, space).features[:, 0], mechanism.release(-extreme, space).features[:, 0]


@pytest.mark.parametrize("name", NOISED)
def test_measured_epsilon_lies_between_seven_tenths_of_the_stated_one_and_it(name: str) -> None:
    """Half the noise would show as more than epsilon, twice the noise as about half of it."""
    config = {
        "gaussian": make_config(GAUSSIAN, epsilon=1.0, delta=1e-2),
        "laplace": make_config(LAPLACE, epsilon=2.0),
        # Without normalisation the pair is the extremes of a single value's range, as for the others.
        "paper": make_config(PAPER, epsilon=2.0, normalisation="none"),
    }[name]
    one, other = worst_pair(config, 3, 400_000)
    delta = config.delta if name == "gaussian" else 0.0
    bounds = [epsilon_at_least(one, other, t, delta) for t in np.quantile(one, [0.02, 0.2, 0.5, 0.8, 0.95])]
    assert 0.7 * config.epsilon < max(bounds) <= config.epsilon
    centre = (one.mean() + other.mean()) / 2
    halved = [one.mean() + (one - one.mean()) / 2, other.mean() + (other - other.mean()) / 2]
    assert max(epsilon_at_least(*halved, t, delta) for t in (centre, one.mean())) > config.epsilon


def make_config(base: PrivacyConfig, **changes: float | str) -> PrivacyConfig:
    from dataclasses import replace

    return replace(base, **changes)


@pytest.mark.parametrize("name", ["gaussian", "laplace"])
@given(st.integers(0, 2**32), st.integers(1, 7), st.integers(1, 40))
def test_other_records_do_not_influence_what_is_made_of_a_record(name: str, seed: int, others: int, width: int) -> None:
    mechanism, rng = make(ALL[name]), np.random.default_rng(seed)
    record = rng.normal(size=(1, width)).astype(np.float32) * 5
    alone = mechanism.clean(record, flat(record))[0]
    for position in range(others + 1):
        batch = rng.normal(size=(others + 1, width)).astype(np.float32) * 100
        batch[position] = record
        assert np.array_equal(mechanism.clean(batch, flat(batch))[position], alone)
        assert np.array_equal(mechanism.clean(np.asfortranarray(batch), flat(batch))[position], alone)


@pytest.mark.parametrize("name", NOISED)
@given(st.floats(1e-3, 1e3), st.floats(0.05, 50), st.integers(0, 5))
def test_what_is_released_is_whole_numbers_of_a_power_of_two(name: str, clip: float, epsilon: float, seed: int) -> None:
    mechanism = (
        make(NOISED[name], seed, clip=clip, epsilon=round(epsilon), batch_size=16)
        if epsilon > 1
        else make(NOISED[name], seed, clip=clip, epsilon=1.0, batch_size=16)
    )
    features = np.full((40, 5), clip, np.float32)
    features[::2] *= -1
    found = mechanism.release(features, flat(features))
    assert found.values.dtype == np.int32
    assert math.frexp(found.step)[0] == 0.5
    assert np.abs(found.values).max() < 2**24
    assert np.array_equal(found.features.astype(np.float64), found.values * found.step)


@pytest.mark.parametrize("name", NOISED)
def test_the_same_seed_releases_the_same_and_the_next_release_has_fresh_noise(name: str) -> None:
    features = long_features(64)
    one, two, three = make(ALL[name], 5), make(ALL[name], 5), make(ALL[name], 6)
    first = one.release(features, flat(features)).values
    assert np.array_equal(first, two.release(features, flat(features)).values)
    assert np.mean(first == one.release(features, flat(features)).values) < 0.02
    assert np.mean(first == three.release(features, flat(features)).values) < 0.02


@pytest.mark.parametrize("name", ALL)
def test_the_stated_deviation_is_the_noises(name: str) -> None:
    features = long_features(6400)
    mechanism = make(ALL[name])
    noise = mechanism.release(features, flat(features)).features - mechanism.clean(features, flat(features))
    assert noise.std() == pytest.approx(mechanism.deviation(flat(features)), rel=0.02)


@pytest.mark.parametrize("name", ALL)
def test_features_that_are_not_numbers_are_refused(name: str) -> None:
    mechanism = make(ALL[name])
    for value in (np.nan, np.inf, -np.inf):
        features = np.zeros((3, 2), np.float32)
        features[1, 1] = value
        with pytest.raises(PrivacyError, match="1 of 3 records"):
            mechanism.release(features, flat(features))
    with pytest.raises(PrivacyError, match="shape"):
        mechanism.release(np.zeros(3, np.float32), FeatureSpace((3,)))
    with pytest.raises(PrivacyError, match="not records of 3 features"):
        mechanism.release(np.zeros((3, 2), np.float32), FeatureSpace((3,)))


@pytest.mark.parametrize(
    "features",
    [
        np.zeros((0, 4), np.float32),
        np.zeros((5, 4), np.float32),
        np.ones((1, 1), np.float32),
        np.full((65, 2), 3e38, np.float32),
        np.full((3, 2), 1e-45, np.float32),
    ],
)
@pytest.mark.parametrize("name", ALL)
def test_small_constant_and_extreme_sets(name: str, features: np.ndarray) -> None:
    mechanism = make(ALL[name])
    found = mechanism.release(features, flat(features)).features
    assert found.shape == features.shape
    assert np.isfinite(found).all()
    assert mechanism.clean(features, flat(features)).shape == features.shape


def test_without_a_mechanism_features_pass_in_the_clear_and_say_so() -> None:
    features = np.ones((3, 2), np.float32)
    mechanism = make(NONE)
    found = mechanism.release(features, flat(features)).features
    assert np.array_equal(found, features)
    assert not np.shares_memory(found, features)
    assert mechanism.cost(3, flat(features)) == PrivacyCost("none", "record", math.inf, 0.0)
    assert mechanism.randomness == "none"


@pytest.mark.parametrize("normalisation", ["record", "batch", "map"])
def test_normalisation_comes_before_the_rest(normalisation: str) -> None:
    features = long_features(128)
    found = make(NONE, normalisation=normalisation).release(features, flat(features)).features
    batches = [normalise(normalisation, rows, flat(features)) for rows in np.split(features.astype(np.float64), 2)]
    assert np.allclose(found, np.concatenate(batches), atol=1e-6)
    if normalisation == "record":
        clean = make(GAUSSIAN, normalisation="record").clean(features, flat(features))
        assert np.allclose(clean, clip_rows(np.concatenate(batches), 1.0, 2), atol=1e-6)


def test_the_parameters_tell_mechanisms_apart() -> None:
    changes: list[dict[str, Any]] = [{}, {"normalisation": "record"}, {"epsilon": 5.0}, {"clip": 2.0}]
    changes += [{"delta": 1e-6}, {"calibration": "map"}, {"batch_size": 32}]
    found = [make(base, **change).parameters for base in ALL.values() for change in changes]
    different = [parameters for index, parameters in enumerate(found) if parameters not in found[:index]]
    # gaussian: all but calibration and batch size matter; laplace: nor delta; paper: nor clip; none: normalisation only
    assert len(different) == 5 + 4 + 5 + 2
    assert all(parameters["mechanism"] in ALL for parameters in found)


def test_costs_are_what_was_asked_for() -> None:
    space = FeatureSpace((16,))
    cost = make().cost(9, space)
    assert cost == PrivacyCost("gaussian", "record", 4.0, 1e-5, noise_multiplier=cost.noise_multiplier)
    assert cost.noise_multiplier == pytest.approx(1.0812, abs=1e-4)
    assert make(LAPLACE).cost(9, space) == PrivacyCost("laplace", "record", 4.0, 0.0)
    labels = {"labels": "randomized_response", "epsilon_label": 1.0}
    assert make(**labels).cost(9, space).epsilon == 3.0
    assert make(LAPLACE, **labels).cost(9, space).epsilon == 3.0
    assert make(PAPER, **labels).cost(64, space).epsilon == 4.0


def test_relative_noise_is_the_noise_on_records_of_norm_one() -> None:
    rows = np.random.default_rng(0).normal(size=(4000, 32))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    features = rows.astype(np.float32)
    for config in (GAUSSIAN, LAPLACE, make_config(GAUSSIAN, clip=0.3), make_config(LAPLACE, clip=20.0)):
        mechanism = make(config)
        clean = mechanism.clean(features, flat(features))
        length = np.mean(np.linalg.norm(clean, axis=1))
        assert relative_noise(config, 32) == pytest.approx(mechanism.deviation(flat(features)) / length, rel=0.02)
    assert relative_noise(NONE, 32) == relative_noise(PAPER, 32) == 0.0
