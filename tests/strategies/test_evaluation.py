from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.protocol.errors import ConfigError
from strategies.direction import MILLION, Bearings, cosine, from_products, from_updates
from strategies.evaluation import (
    ALIGNED,
    FAR_RATIO,
    OUTLIER_RATIO,
    RESOLUTION,
    RULES,
    Past,
    evaluation_rule,
    outlier,
    paper,
    usual_score,
)
from strategies.exact import gram
from strategies.multi_krum import krum_scores, select

SCORES = st.lists(st.integers(0, 10**20) | st.integers(0, 5), min_size=5, max_size=12)


def _select(scores: Sequence[int], f: int) -> tuple[int, ...]:
    return select(scores, [bytes([i]) for i in range(len(scores))], f)


def _pointing(millionths: int, count: int = 12) -> Bearings:
    """Updates that all have one cosine with the sum of the kept."""
    return Bearings((millionths,) * count, 10**30)


def _nothing(count: int = 12) -> Past:
    return Past(0, (0,) * count, (0,) * count)


APART, TOGETHER = _pointing(0), _pointing(MILLION)


def test_paper_marks_whatever_is_dropped() -> None:
    assert paper([1, 9, 2, 8, 3, 4, 5], (0, 2, 4, 5, 6), 2, TOGETHER, _nothing()) == {1, 3}


@given(SCORES, st.data())
def test_an_outlier_is_always_one_that_was_dropped(scores: list[int], data: st.DataObject) -> None:
    f = data.draw(st.integers(0, (len(scores) - 3) // 2))
    selected = _select(scores, f)
    for bearings in (APART, TOGETHER):
        assert outlier(scores, selected, f, bearings, _nothing()) <= paper(scores, selected, f, bearings, _nothing())
    assert len(paper(scores, selected, f, APART, _nothing())) == f


UPDATES = st.lists(
    st.lists(st.integers(-(2**15), 2**15 - 1), min_size=4, max_size=4).map(lambda v: np.array(v, np.int16)),
    min_size=7,
    max_size=10,
)


PASTS = st.builds(
    Past,
    st.integers(0, 10**11),
    st.lists(st.integers(-(10**18), 10**18), min_size=10, max_size=10).map(tuple),
    st.lists(st.integers(0, 10**12), min_size=10, max_size=10).map(tuple),
)


@given(UPDATES, PASTS, st.data())
def test_against_the_definition(updates: list[npt.NDArray[np.int16]], past: Past, data: st.DataObject) -> None:
    """In fractions of Python's integers, in the words of the docstring."""
    f = data.draw(st.integers(0, 2))
    scores = krum_scores(updates, f)
    kept = _select(scores, f)
    rows = [[int(entry) for entry in update] for update in updates]
    total = [sum(rows[i][k] for i in kept) for k in range(4)]
    reach = sum(b * b for b in total)
    median = sorted(scores[i] for i in kept)[(len(kept) - 1) // 2]
    usual = max(median, RESOLUTION * (len(rows) - f - 2))
    widest = max(usual, past.usual)
    expected = set()
    for i in set(range(len(rows))) - set(kept):
        inner = sum(a * b for a, b in zip(rows[i], total, strict=True))
        size = math.isqrt(sum(a * a for a in rows[i]) * reach)
        c = math.trunc(Fraction(MILLION * inner, size)) if size else 0
        weights = past.reach[i] + reach
        mean = Fraction(past.aligned[i] + c * reach, weights * MILLION) if weights else Fraction(1)
        if (
            scores[i] > FAR_RATIO * widest
            or (scores[i] > OUTLIER_RATIO * widest and c <= 0)
            or (scores[i] > OUTLIER_RATIO * usual and mean < Fraction(1, ALIGNED))
        ):
            expected.add(i)
    for bearings in (from_products(gram(updates), kept), from_updates(updates, kept)):
        assert (bearings.reach, usual_score(scores, kept, f)) == (reach, usual)
        assert outlier(scores, kept, f, bearings, past) == expected


@given(st.lists(st.integers(-(2**31), 2**31), min_size=3, max_size=3), st.integers(1, 2**40))
def test_a_cosine_is_at_most_one_and_does_not_depend_on_lengths(vector: list[int], scale: int) -> None:
    other = [3, -5, 7]
    inner, one, two = (
        sum(a * b for a, b in zip(x, y, strict=True)) for x, y in ((vector, other), (vector, vector), (other, other))
    )
    found = cosine(inner, one, two)
    assert -MILLION <= found <= MILLION
    assert cosine(one, one, one) == (MILLION if one else 0)
    assert cosine(-inner, one, two) == -found
    assert abs(cosine(scale * inner, scale * scale * one, two) - found) <= MILLION // max(1, math.isqrt(one * two)) + 1


@given(UPDATES, st.integers(1, 3), st.data())
def test_marks_do_not_depend_on_the_order(updates: list[npt.NDArray[np.int16]], f: int, data: st.DataObject) -> None:
    f = min(f, (len(updates) - 3) // 2)
    scores = krum_scores(updates, f)
    selected = _select(scores, f)
    order = data.draw(st.permutations(range(len(updates))))
    place = {old: new for new, old in enumerate(order)}
    moved = [updates[i] for i in order]
    there = [place[i] for i in selected]
    low = outlier([scores[i] for i in order], there, f, from_updates(moved, there), _nothing())
    assert low == {place[i] for i in outlier(scores, selected, f, from_products(gram(updates), selected), _nothing())}


def test_the_limit_is_exact() -> None:
    """Seven updates, f = 2, five kept with median 10**30: no float decides."""
    usual = [10**30] * 5
    limit = OUTLIER_RATIO * 10**30
    assert outlier([*usual, limit, limit + 1], range(5), 2, APART, _nothing()) == {6}


def test_who_points_where_the_others_go_keeps_its_h_until_it_is_far_away() -> None:
    usual, far = [10**30] * 5, FAR_RATIO * 10**30
    assert outlier([*usual, far, far], range(5), 2, TOGETHER, _nothing()) == frozenset()
    assert outlier([*usual, far, far + 1], range(5), 2, TOGETHER, _nothing()) == {6}


@pytest.mark.parametrize(("millionths", "low"), [(0, True), (-5, True), (62_499, True), (62_500, False)])
def test_the_direction_is_decided_exactly(millionths: int, low: bool) -> None:
    scores = [10**6] * 5 + [10**6, 4 * 10**6]
    assert (6 in outlier(scores, range(5), 2, _pointing(millionths), _nothing())) == low


def test_who_went_along_while_there_was_a_way_keeps_its_h_when_it_is_left_behind() -> None:
    """The late rounds of a task: the others have converged, this one's data was never fitted."""
    scores, late = [10**6] * 5 + [10**6, 9 * 10**6], Bearings((0,) * 7, 10)
    early = Past(10**8, (0,) * 6 + (MILLION // 8 * 10**6,), (10**6,) * 7)
    assert outlier(scores, range(5), 2, late, early) == frozenset()
    assert outlier(scores, range(5), 2, late, _nothing()) == {6}
    against = Past(10**8, (0,) * 6 + (-MILLION // 8 * 10**6,), (10**6,) * 7)
    assert outlier(scores, range(5), 2, late, against) == {6}


def test_no_standing_covers_what_is_further_than_the_widest_round_and_points_back() -> None:
    scores, trusted = [10**6] * 5 + [10**6, 9 * 10**6], Past(3 * 10**6 - 1, (MILLION * 10**40,) * 7, (10**40,) * 7)
    assert outlier(scores, range(5), 2, _pointing(0), trusted) == {6}
    assert outlier(scores, range(5), 2, _pointing(1), trusted) == frozenset()


def test_the_median_is_the_lower_one_of_the_kept() -> None:
    scores = [10**6, 10**6, 10**6, 10**6, 10**9, 10**9, 10**9, 10**9 + 1]
    assert outlier(scores, range(7), 1, APART, _nothing()) == {7}
    assert outlier(scores[:6], range(5), 1, APART, _nothing()) == {5}


@pytest.mark.parametrize("median", [0, 1, 5 * RESOLUTION - 1])
def test_a_tiny_median_does_not_mark_roundings(median: int) -> None:
    """n = 8, f = 1: five neighbours."""
    limit = OUTLIER_RATIO * 5 * RESOLUTION
    assert outlier([median] * 7 + [limit], range(7), 1, APART, _nothing()) == frozenset()
    assert outlier([median] * 7 + [limit + 1], range(7), 1, APART, _nothing()) == {7}


def test_nothing_selected_marks_nobody() -> None:
    assert outlier([], (), 0, Bearings((), 0), _nothing()) == frozenset()


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
        selected = _select(scores, f)
        low = outlier(scores, selected, f, from_updates(updates, selected), _nothing())
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
        assert outlier(scores, selected, f, from_updates(updates, selected), _nothing()) == {0, 1}


def test_without_an_attacker_paper_marks_f_a_round_and_outlier_hardly_anyone() -> None:
    rng = np.random.default_rng(5)
    by_rule = {"paper": 0, "outlier": 0}
    for _ in range(60):
        updates, f = _round(rng, 0.2, 0)
        scores = krum_scores(updates, f)
        for name in by_rule:
            selected = _select(scores, f)
            bearings = from_updates(updates, selected)
            by_rule[name] += len(evaluation_rule(name)(scores, selected, f, bearings, _nothing()))
    assert by_rule["paper"] == 60 * 2
    assert by_rule["outlier"] <= 0.01 * 60 * 10


def test_an_unknown_rule_is_a_mistake_in_the_configuration() -> None:
    assert set(RULES) == {"outlier", "paper"}
    with pytest.raises(ConfigError, match=r"strategy.evaluation: unknown rule 'krum' \(allowed: outlier, paper\)"):
        evaluation_rule("krum")
