"""Tasks that let something out in every step: the noise is what the whole task takes, and the books close with it."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
from dp_accounting.pld import privacy_loss_distribution as pld
from hypothesis import given, settings
from hypothesis import strategies as st

from app.audit.noise import sampled_epsilon
from app.privacy.accountant import Accountant
from app.privacy.calibration import gaussian_delta, gaussian_epsilon
from app.privacy.config import PrivacyConfig
from app.privacy.cost import COORDINATE, RECORD
from app.privacy.exposure import (
    Exposure,
    features_multiplier,
    gradient_multiplier,
    require_possible,
    round_costs,
    steps_of_a_round,
)
from app.privacy.mechanism import mechanism_of
from app.privacy.normalisation import FeatureSpace
from app.privacy.randomness import InsecureSeededRandom, SystemRandom
from app.privacy.report import privacy_report
from app.protocol.errors import BudgetError, ConfigError
from tests.privacy.make import GAUSSIAN, LAPLACE, NONE, PAPER

SPACE = FeatureSpace((32,))
JOINT = Exposure(rounds=3, epochs=2, joint=True)
RECORDS = replace(GAUSSIAN, epsilon=4.0, epsilon_phone=2.0, budget=4.0)
DP_SGD = replace(GAUSSIAN, name="dp_sgd", mechanism="dp_sgd", epsilon=4.0, budget=4.0, sampling_rate=0.25)
OF_THE_PAPER = replace(PAPER, epsilon=2.0, epsilon_phone=3.0, budget=12.0)


@settings(max_examples=20, deadline=None)
@given(
    st.floats(0.3, 10.0), st.floats(0.05, 0.95), st.integers(1, 20), st.integers(1, 5), st.sampled_from([1e-6, 1e-5])
)
def test_all_steps_of_a_joint_extractor_cost_what_was_asked_for(
    epsilon: float, share: float, rounds: int, epochs: int, delta: float
) -> None:
    """By arithmetic alone: Gaussians compose as the squares of what they tell."""
    config = replace(GAUSSIAN, epsilon=epsilon, epsilon_phone=share * epsilon, budget=epsilon, delta=delta)
    exposure = Exposure(rounds, epochs, joint=True)
    m, z = features_multiplier(config, exposure), gradient_multiplier(config, exposure)
    steps = rounds * epochs
    together = 1 / math.sqrt(steps * (1 / m**2 + 4 / z**2))
    assert gaussian_delta(together, epsilon) <= delta
    assert gaussian_delta(together * 0.98, epsilon) > delta  # and no more noise than that takes
    assert gaussian_delta(z / 2 / math.sqrt(steps), share * epsilon) <= delta


def test_they_cost_it_by_dp_accounting_too() -> None:
    m, z = features_multiplier(RECORDS, JOINT), gradient_multiplier(RECORDS, JOINT)
    features = pld.from_gaussian_mechanism(m).self_compose(6)
    whole = features.compose(pld.from_gaussian_mechanism(z / 2).self_compose(6)).get_epsilon_for_delta(1e-5)
    assert 0.98 * 4.0 < whole <= 4.0


@pytest.mark.parametrize(
    ("config", "exposure", "unit"),
    [(RECORDS, JOINT, RECORD), (DP_SGD, Exposure(3, 1), RECORD), (OF_THE_PAPER, JOINT, COORDINATE)],
    ids=["record", "dp_sgd", "paper"],
)
def test_the_budget_pays_for_all_rounds_and_not_for_one_more(
    tmp_path: Path, config: PrivacyConfig, exposure: Exposure, unit: str
) -> None:
    accountant = Accountant(tmp_path / "ledger", "0xA", config.budget, config.delta, unit)
    features = mechanism_of(config, SystemRandom(), exposure).cost(100, SPACE)
    costs = round_costs(config, exposure, features)
    for number in range(exposure.rounds):
        accountant.charge(f"{number}", "r", {}, *costs)
    spent = accountant.spent()
    assert spent.releases == exposure.rounds * steps_of_a_round(config, exposure)
    assert spent.epsilon <= config.budget
    with pytest.raises(BudgetError):
        accountant.charge("more", "r", {}, *costs)
    report = privacy_report(config, [100, 50], 10, SPACE, exposure)
    assert report["epsilon"] == spent.epsilon
    assert report["record_epsilon"] == spent.record_epsilon
    assert (report["phone_epsilon"] is None) == (config is DP_SGD)
    assert ("labels" in report["not_covered"]) == (config is not DP_SGD)


def test_the_phones_layers_have_half_of_epsilon_unless_they_are_given_more_or_less() -> None:
    for config, half in ((RECORDS, 2.0), (OF_THE_PAPER, 2.0)):  # of 4, and all of 2
        silent = replace(config, epsilon_phone=None)
        said = replace(config, epsilon_phone=half)
        assert gradient_multiplier(silent, JOINT) == gradient_multiplier(said, JOINT)
        assert silent.for_phone == half


def test_a_joint_extractor_costs_a_coordinate_of_the_paper_every_pass() -> None:
    features, phone = round_costs(OF_THE_PAPER, JOINT, mechanism_of(OF_THE_PAPER, SystemRandom()).cost(100, SPACE))
    one = mechanism_of(OF_THE_PAPER, SystemRandom()).cost(100, SPACE)
    assert (features.epsilon, features.record_epsilon, features.steps) == (4.0, 2 * one.for_a_record, 2)
    assert (phone.mechanism, phone.unit, phone.sampling_rate, phone.steps) == ("dp_sgd", RECORD, 1.0, 2)


def test_in_the_clear_nothing_is_promised_however_often() -> None:
    (cost,) = round_costs(NONE, JOINT, mechanism_of(NONE, SystemRandom()).cost(100, SPACE))
    assert math.isinf(cost.epsilon)


@pytest.mark.parametrize(("rate", "steps"), [(0.25, 12), (0.02, 100), (1.0, 4)])
def test_sampled_steps_cost_what_the_worst_pair_of_records_loses(rate: float, steps: int) -> None:
    """By the audit's own convolution; and more than dp-accounting says of a record that is gone."""
    config = replace(DP_SGD, sampling_rate=rate)
    rounds = round(steps * rate)
    z = gradient_multiplier(config, Exposure(rounds, 1))
    assert steps_of_a_round(config, Exposure(rounds, 1)) * rounds == steps
    gone = pld.from_gaussian_mechanism(z, sampling_prob=rate).self_compose(steps).get_epsilon_for_delta(1e-5)
    apart = sampled_epsilon(z, rate, steps, 1e-5)
    assert gone < apart + 0.05
    assert apart == pytest.approx(4.0, rel=2e-3, abs=5e-3)  # the noise is what 4 takes, to a part in a thousand
    if rate == 1.0:  # nothing is sampled: it is a Gaussian
        assert apart == pytest.approx(gaussian_epsilon(z / 2 / math.sqrt(steps), 1e-5), abs=5e-3)


def test_the_mechanism_of_a_joint_task_has_the_noise_of_one_of_many_releases() -> None:
    alone = mechanism_of(RECORDS, InsecureSeededRandom(1))
    among = mechanism_of(RECORDS, InsecureSeededRandom(1), JOINT)
    assert among.deviation(SPACE) > 2 * alone.deviation(SPACE)
    assert among.cost(10, SPACE).epsilon < alone.cost(10, SPACE).epsilon


@pytest.mark.parametrize(
    ("config", "exposure", "key"),
    [
        (LAPLACE, JOINT, r"model\.extractor"),
        (DP_SGD, JOINT, r"model\.extractor"),
        (replace(RECORDS, labels="randomized_response"), JOINT, r"privacy\.labels"),
        (replace(RECORDS, epsilon_phone=4.0), JOINT, r"privacy\.epsilon_phone"),
        (replace(OF_THE_PAPER, budget=11.0), JOINT, r"privacy\.budget.*12\.0 or more"),
        (replace(OF_THE_PAPER, epsilon_phone=12.5), JOINT, r"privacy\.budget.*12\.5 or more"),
    ],
)
def test_what_cannot_be_kept_is_refused_by_name(config: PrivacyConfig, exposure: Exposure, key: str) -> None:
    with pytest.raises(ConfigError, match=key):
        require_possible(config, exposure)


def test_what_can_be_kept_is_not_refused() -> None:
    for config in (RECORDS, OF_THE_PAPER, NONE):
        require_possible(config, JOINT)
    for config in (RECORDS, LAPLACE, DP_SGD, PAPER, NONE):
        require_possible(config, Exposure(3, 2))
