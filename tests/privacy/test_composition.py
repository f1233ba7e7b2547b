"""Composition: sums where they fit, privacy-loss distributions where they do not; golden values of dp-accounting."""

from __future__ import annotations

from decimal import Decimal

import pytest
from dp_accounting.pld import privacy_loss_distribution as pld

from app.privacy.accountant import Accountant
from app.privacy.calibration import gaussian_scale
from app.privacy.composition import added_up, composed, dp_sgd_cost
from app.privacy.cost import COORDINATE, RECORD, PrivacyCost
from app.protocol.errors import BudgetError, PrivacyError

BUDGET = Decimal(8), Decimal("1e-5")
GAUSSIAN = PrivacyCost("gaussian", RECORD, 4.0, 1e-5, noise_multiplier=gaussian_scale(4.0, 1e-5))
LABEL = PrivacyCost("randomized_response", RECORD, 4.0, 0.0)
PAPER = PrivacyCost("paper", COORDINATE, 2.0, 0.0, record_epsilon=17_920.0)


def test_what_fits_is_added_up_exactly() -> None:
    assert composed([GAUSSIAN, LABEL], BUDGET) == (Decimal("8.0"), Decimal("0.00001"))
    tenths = [PrivacyCost("laplace", RECORD, 0.1, 0.0)] * 3
    assert composed(tenths, BUDGET)[0] == Decimal("0.3")
    assert composed([], BUDGET) == (0, 0)


def test_what_does_not_fit_is_composed_as_dp_accounting_does() -> None:
    epsilon, delta = composed([GAUSSIAN, GAUSSIAN], BUDGET)
    assert delta == BUDGET[1]
    direct = pld.from_gaussian_mechanism(GAUSSIAN.noise_multiplier).self_compose(2).get_epsilon_for_delta(1e-5)
    assert float(epsilon) == pytest.approx(direct, abs=2e-3)
    assert float(epsilon) == pytest.approx(5.99, abs=0.01)  # golden; the sum would be 8 at twice the delta
    exact = gaussian_scale(float(epsilon), 1e-5) * 2**0.5  # two Gaussians are one of 1 / sqrt 2 the deviation
    assert exact == pytest.approx(GAUSSIAN.noise_multiplier, rel=1e-3)


def test_different_kinds_are_composed_together() -> None:
    mixed = composed([GAUSSIAN, LABEL, PrivacyCost("laplace", RECORD, 1.0, 0.0), GAUSSIAN], BUDGET)
    assert 8 < mixed[0] < 13  # their sum, at twice the delta
    assert mixed[1] == BUDGET[1]


@pytest.mark.long
def test_dp_sgd_is_accounted_for_replacing_a_record() -> None:
    """Golden values of dp-accounting: with every record in every step it is a Gaussian of half the multiplier."""
    full = pld.from_gaussian_mechanism(1.0).self_compose(10).get_epsilon_for_delta(1e-5)
    assert dp_sgd_cost(2.0, 1.0, 10, 1e-5).epsilon == pytest.approx(full, rel=1e-3)
    sampled = dp_sgd_cost(2.0, 0.05, 50, 1e-5)
    removed = pld.from_gaussian_mechanism(2.0, sampling_prob=0.05).self_compose(50).get_epsilon_for_delta(1e-5)
    halved = pld.from_gaussian_mechanism(1.0, sampling_prob=0.05).self_compose(50).get_epsilon_for_delta(1e-5)
    assert removed < sampled.epsilon < 1.05 * halved  # never less than removing one; about as much as twice the clip
    assert (sampled.steps, sampled.unit, sampled.delta) == (50, RECORD, 1e-5)


def test_units_are_never_mixed_silently(tmp_path) -> None:  # type: ignore[no-untyped-def]
    accountant = Accountant(tmp_path / "paper", "0xA", 4.0, 1e-5, COORDINATE)
    accountant.charge("01", "r", {}, PAPER, LABEL)
    spent = accountant.spent()
    assert (spent.unit, spent.epsilon, spent.delta) == (COORDINATE, 2.0, 0.0)
    assert spent.record_epsilon == 17_924.0  # everything, the label with it
    accountant.charge("02", "r", {}, PAPER)
    with pytest.raises(BudgetError, match="for a coordinate would exceed"):
        accountant.charge("03", "r", {}, PAPER)
    with pytest.raises(BudgetError, match="for a record would exceed"):
        accountant.charge("04", "r", {}, PrivacyCost("randomized_response", RECORD, 200.0, 0.0))
    records = Accountant(tmp_path / "record", "0xA", 8.0, 1e-5)
    with pytest.raises(BudgetError, match=r"epsilon 17920\.0.* for a record"):
        records.charge("01", "r", {}, PAPER)
    assert records.spent().releases == 0


def test_several_releases_are_paid_for_by_the_tighter_composition(tmp_path) -> None:  # type: ignore[no-untyped-def]
    accountant = Accountant(tmp_path / "ledger", "0xA", 6.0, 1e-5)
    accountant.charge("01", "r", {}, GAUSSIAN)
    accountant.charge("02", "r", {}, GAUSSIAN)  # 8 by adding up, 5.99 by distributions
    with pytest.raises(BudgetError):
        accountant.charge("03", "r", {}, GAUSSIAN)
    spent = Accountant(tmp_path / "ledger", "0xA", 6.0, 1e-5).spent()
    assert spent.releases == 2
    assert spent.epsilon == pytest.approx(5.99, abs=0.01)


def test_impossible_costs_are_refused() -> None:
    for change in (
        {"unit": "home"},
        {"unit": COORDINATE},
        {"record_epsilon": -1.0},
        {"noise_multiplier": 0.0},
        {"sampling_rate": 0.0},
        {"steps": 0},
        {"epsilon": -1.0},
        {"delta": 2.0},
    ):
        with pytest.raises(PrivacyError):
            PrivacyCost(**({"mechanism": "gaussian", "unit": RECORD, "epsilon": 1.0, "delta": 0.0} | change))  # type: ignore[arg-type]
    assert added_up([PAPER, PAPER], of_a_record=False)[0] == 4
