from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.protocol.errors import ConfigError
from strategies.direction import from_products, from_updates
from strategies.evaluation import ALIGNED, FAR_RATIO, OUTLIER_RATIO, RESOLUTION, RULES, evaluation_rule, outlier, paper
from strategies.exact import gram
from strategies.multi_krum import krum_scores, select

SCORES = st.lists(st.integers(0, 10**20) | st.integers(0, 5), min_size=5, max_size=12)


def _select(scores: Sequence[int], f: int) -> tuple[int, ...]:
    return select(scores, [bytes([i]) for i in range(len(scores))], f)


def _apart(position: int) -> tuple[int, int, int]:
    """An update at right angles to the selected."""
    return 0, 10**30, 10**30


def _together(position: int) -> tuple[int, int, int]:
    """An update in the selected's own direction."""
    return 10**30, 10**30, 10**30


def test_paper_marks_whatever_is_dropped() -> None:
    assert paper([1, 9, 2, 8, 3, 4, 5], (0, 2, 4, 5, 6), 2, _together) == {1, 3}


@given(SCORES, st.data())
def test_an_outlier_is_always_one_that_was_dropped(scores: list[int], data: st.DataObject) -> None:
    f = data.draw(st.integers(0, (len(scores) - 3) // 2))
    selected = _select(scores, f)
    for direction in (_apart, _together):
        assert outlier(scores, selected, f, direction) <= paper(scores, selected, f, direction)
    assert len(paper(scores, selected, f, direction)) == f


UPDATES = st.lists(
    st.lists(st.integers(-(2**15), 2**15 - 1), min_size=4, max_size=4).map(lambda v: np.array(v, np.int16)),
    min_size=7,
    max_size=10,
)


@given(UPDATES, st.data())
def test_against_the_definition(updates: list[npt.NDArray[np.int16]], data: st.DataObject) -> None:
    """In Python's integers; square roots in more digits than any of these numbers has."""
    f = data.draw(st.integers(0, 2))
    scores = krum_scores(updates, f)
    selected = _select(scores, f)
    rows = [[int(entry) for entry in update] for update in updates]
    total = [sum(rows[i][k] for i in selected) for k in range(4)]
    median = sorted(scores[i] for i in selected)[(len(selected) - 1) // 2]
    usual = max(median, RESOLUTION * (len(rows) - f - 2))
    expected = set()
    for i in set(range(len(rows))) - set(selected):
        inner = sum(a * b for a, b in zip(rows[i], total, strict=True))
        norms = sum(a * a for a in rows[i]) * sum(b * b for b in total)
        if scores[i] > FAR_RATIO * usual or (
            scores[i] > OUTLIER_RATIO * usual and ALIGNED * inner * 10**20 < math.isqrt(norms * 10**40)
        ):
            expected.add(i)
    assert outlier(scores, selected, f, from_products(gram(updates), selected)) == expected


@given(UPDATES, st.integers(1, 3), st.data())
def test_marks_do_not_depend_on_the_order(updates: list[npt.NDArray[np.int16]], f: int, data: st.DataObject) -> None:
    f = min(f, (len(updates) - 3) // 2)
    scores = krum_scores(updates, f)
    selected = _select(scores, f)
    order = data.draw(st.permutations(range(len(updates))))
    place = {old: new for new, old in enumerate(order)}
    moved = [updates[i] for i in order]
    there = [place[i] for i in selected]
    low = outlier([scores[i] for i in order], there, f, from_updates(moved, there))
    assert low == {place[i] for i in outlier(scores, selected, f, from_products(gram(updates), selected))}


def test_the_limit_is_exact() -> None:
    """Seven updates, f = 2, five selected with median 10**30: no float decides."""
    usual = [10**30] * 5
    limit = OUTLIER_RATIO * 10**30
    assert outlier([*usual, limit, limit + 1], range(5), 2, _apart) == {6}


def test_who_points_where_the_others_go_keeps_its_h_until_it_is_far_away() -> None:
    usual, far = [10**30] * 5, FAR_RATIO * 10**30
    assert outlier([*usual, far, far], range(5), 2, _together) == frozenset()
    assert outlier([*usual, far, far + 1], range(5), 2, _together) == {6}


@pytest.mark.parametrize(("inner", "low"), [(0, True), (-5, True), (8 * 10**9 - 1, True), (8 * 10**9, False)])
def test_the_direction_is_decided_exactly(inner: int, low: bool) -> None:
    """One selected update of length 8e9 and a dropped one of length 8: a cosine of 1/8 is an inner product of 8e9."""
    scores = [10**6] * 5 + [10**6, 4 * 10**6]
    assert (6 in outlier(scores, range(5), 2, lambda _: (inner, 8**2, (8 * 10**9) ** 2))) == low


def test_the_median_is_the_lower_one_of_the_selected() -> None:
    scores = [10**6, 10**6, 10**6, 10**6, 10**9, 10**9, 10**9, 10**9 + 1]
    assert outlier(scores, range(7), 1, _apart) == {7}
    assert outlier(scores[:6], range(5), 1, _apart) == {5}


@pytest.mark.parametrize("median", [0, 1, 5 * RESOLUTION - 1])
def test_a_tiny_median_does_not_mark_roundings(median: int) -> None:
    """n = 8, f = 1: five neighbours."""
    limit = OUTLIER_RATIO * 5 * RESOLUTION
    assert outlier([median] * 7 + [limit], range(7), 1, _apart) == frozenset()
    assert outlier([median] * 7 + [limit + 1], range(7), 1, _apart) == {7}


def test_nothing_selected_marks_nobody() -> None:
    assert outlier([], (), 0, _apart) == frozenset()


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
        low = outlier(scores, selected := _select(scores, f), f, from_updates(updates, selected))
        caught += len(low & set(range(hostile)))
        marked += len(low - set(range(hostile)))
    assert caught >= 0.99 * 60 * hostile
    assert marked <= 0.01 * 60 * (10 - hostile)


def test_noise_and_a_boosted_update_are_caught() -> None:
    rng = np.random.default_rng(6)
    for _ in range(30):
        updates, f = _round(rng, 0.2, 0)
        updates[0] = np.rint(3 * np.std(updates[0]) * rng.normal(0, 1, 2000)).astype(np.int16)
        updates[1] = np.rint(15.0 * updates[1]).clip(-(2**15), 2**15 - 1).astype(np.int16)
        scores = krum_scores(updates, f)
        selected = _select(scores, f)
        assert outlier(scores, selected, f, from_updates(updates, selected)) == {0, 1}


def test_without_an_attacker_paper_marks_f_a_round_and_outlier_hardly_anyone() -> None:
    rng = np.random.default_rng(5)
    by_rule = {"paper": 0, "outlier": 0}
    for _ in range(60):
        updates, f = _round(rng, 0.2, 0)
        scores = krum_scores(updates, f)
        for name in by_rule:
            selected = _select(scores, f)
            by_rule[name] += len(evaluation_rule(name)(scores, selected, f, from_updates(updates, selected)))
    assert by_rule["paper"] == 60 * 2
    assert by_rule["outlier"] <= 0.01 * 60 * 10


def test_an_unknown_rule_is_a_mistake_in_the_configuration() -> None:
    assert set(RULES) == {"outlier", "paper"}
    with pytest.raises(ConfigError, match=r"strategy.evaluation: unknown rule 'krum' \(allowed: outlier, paper\)"):
        evaluation_rule("krum")
