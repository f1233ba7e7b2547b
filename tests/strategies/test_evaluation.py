from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.protocol.errors import ConfigError
from strategies.evaluation import OUTLIER_RATIO, RESOLUTION, RULES, evaluation_rule, outlier, paper
from strategies.multi_krum import krum_scores, select

SCORES = st.lists(st.integers(0, 10**20) | st.integers(0, 5), min_size=5, max_size=12)


def _select(scores: Sequence[int], f: int) -> tuple[int, ...]:
    return select(scores, [bytes([i]) for i in range(len(scores))], f)


def test_paper_marks_whatever_is_dropped() -> None:
    assert paper([1, 9, 2, 8, 3, 4, 5], (0, 2, 4, 5, 6), 2) == {1, 3}


@given(SCORES, st.data())
def test_an_outlier_is_always_one_that_was_dropped(scores: list[int], data: st.DataObject) -> None:
    f = data.draw(st.integers(0, (len(scores) - 3) // 2))
    selected = _select(scores, f)
    assert outlier(scores, selected, f) <= paper(scores, selected, f)
    assert len(paper(scores, selected, f)) == f


@given(SCORES, st.integers(1, 1000), st.data())
def test_marks_do_not_depend_on_the_unit_or_the_order(scores: list[int], scale: int, data: st.DataObject) -> None:
    f = 1
    large = [score + 10**6 for score in scores]
    selected = _select(large, f)
    assert outlier([scale * s for s in large], selected, f) == outlier(large, selected, f)
    order = data.draw(st.permutations(range(len(large))))
    place = {old: new for new, old in enumerate(order)}
    moved = outlier([large[i] for i in order], [place[i] for i in selected], f)
    assert moved == {place[i] for i in outlier(large, selected, f)}


def test_the_limit_is_exact() -> None:
    """Seven updates, f = 2, five selected with median 10**30: no float decides."""
    usual = [10**30] * 5
    limit = OUTLIER_RATIO * 10**30
    assert outlier([*usual, limit, limit + 1], range(5), 2) == {6}


def test_the_median_is_the_lower_one_of_the_selected() -> None:
    scores = [10**6, 10**6, 10**6, 10**6, 10**9, 10**9, 10**9, 10**9 + 1]
    assert outlier(scores, range(7), 1) == {7}
    assert outlier(scores[:6], range(5), 1) == {5}


@pytest.mark.parametrize("median", [0, 1, 5 * RESOLUTION - 1])
def test_a_tiny_median_does_not_mark_roundings(median: int) -> None:
    """n = 8, f = 1: five neighbours."""
    limit = OUTLIER_RATIO * 5 * RESOLUTION
    assert outlier([median] * 7 + [limit], range(7), 1) == frozenset()
    assert outlier([median] * 7 + [limit + 1], range(7), 1) == {7}


def test_nothing_selected_marks_nobody() -> None:
    assert outlier([], (), 0) == frozenset()


def _round(rng: np.random.Generator, spread: float, hostile: int) -> tuple[list[np.ndarray], int]:
    """Ten updates of 2,000 entries: a common step of std 1; own deviations of std 0.7 to 1.5, each times its customer's
    own length (log-normal, ``spread``); the first ``hostile`` ones sign-flipped and scaled by 3."""
    common = rng.normal(0, 1, 2000)
    deltas = []
    for i in range(10):
        length = np.exp(rng.normal(0, spread))
        delta = length * (common + rng.normal(0, rng.uniform(0.7, 1.5), 2000))
        deltas.append(np.rint(500 * (-3 * delta if i < hostile else delta)).astype(np.int16))
    return deltas, 2


@pytest.mark.parametrize(("hostile", "spread"), [(1, 0.0), (1, 0.2), (2, 0.0), (2, 0.2)])
def test_sign_flipped_updates_are_caught_and_honest_ones_are_not_marked(hostile: int, spread: float) -> None:
    rng = np.random.default_rng([hostile, int(10 * spread)])
    caught = marked = 0
    for _ in range(60):
        updates, f = _round(rng, spread, hostile)
        scores = krum_scores(updates, f)
        low = outlier(scores, _select(scores, f), f)
        caught += len(low & set(range(hostile)))
        marked += len(low - set(range(hostile)))
    assert caught >= 0.99 * 60 * hostile
    assert marked <= 0.01 * 60 * (10 - hostile)


def test_without_an_attacker_paper_marks_f_a_round_and_outlier_hardly_anyone() -> None:
    rng = np.random.default_rng(5)
    by_rule = {"paper": 0, "outlier": 0}
    for _ in range(60):
        updates, f = _round(rng, 0.2, 0)
        scores = krum_scores(updates, f)
        for name in by_rule:
            by_rule[name] += len(evaluation_rule(name)(scores, _select(scores, f), f))
    assert by_rule["paper"] == 60 * 2
    assert by_rule["outlier"] <= 0.01 * 60 * 10


def test_an_unknown_rule_is_a_mistake_in_the_configuration() -> None:
    assert set(RULES) == {"outlier", "paper"}
    with pytest.raises(ConfigError, match=r"strategy.evaluation: unknown rule 'krum' \(allowed: outlier, paper\)"):
        evaluation_rule("krum")
