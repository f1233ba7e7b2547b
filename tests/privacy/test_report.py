"""What a run says about privacy, in every mode and in every sense in which it can be meant."""

from __future__ import annotations

from dataclasses import replace

import pytest

from app.privacy.exposure import ONCE
from app.privacy.normalisation import FeatureSpace
from app.privacy.report import costs_of, privacy_report, record_guarantee
from tests.privacy.make import GAUSSIAN, LAPLACE, NONE, PAPER

SPACE, SIZES = FeatureSpace((80, 7, 7)), (600, 64)


def test_record_level_modes_promise_a_record_what_was_asked_for() -> None:
    for config, delta in ((GAUSSIAN, 1e-5), (LAPLACE, 0.0)):
        report = privacy_report(config, SIZES, 10, SPACE)
        assert (report["unit"], report["epsilon"], report["delta"]) == ("record", 4.0, delta)
        assert report["record_epsilon"] == report["record_epsilon_public_statistics"] == 4.0
        assert "labels" in report["not_covered"]


def test_with_randomised_labels_the_total_stays_and_labels_are_covered() -> None:
    config = replace(GAUSSIAN, labels="randomized_response", epsilon_label=1.0)
    report = privacy_report(config, SIZES, 10, SPACE)
    assert (report["epsilon"], report["coordinate_epsilon"], report["label_epsilon"]) == (4.0, 3.0, 1.0)
    assert "labels" not in report["not_covered"]
    assert record_guarantee(config, costs_of(config, ONCE, 600, 10, SPACE, 1)) == (4.0, 1e-5)


def test_the_papers_mode_says_what_it_costs_a_record() -> None:
    report = privacy_report(replace(PAPER, epsilon=1.0), SIZES, 10, SPACE)
    assert (report["unit"], report["epsilon"], report["coordinate_epsilon"]) == ("coordinate", 1.0, 1.0)
    assert report["record_epsilon_public_statistics"] == 3920.0
    assert report["record_epsilon"] == pytest.approx(17_920, rel=0.02)
    assert "a record as a whole" in report["not_covered"]


def test_without_a_mechanism_nothing_is_promised() -> None:
    report = privacy_report(NONE, SIZES, 10, SPACE)
    assert (report["unit"], report["epsilon"], report["record_epsilon"]) == ("none", None, None)
    assert "features" in report["not_covered"]
