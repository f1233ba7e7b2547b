from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import strategies.bucketing as module
from app.protocol.errors import RoundError
from strategies import multi_krum, nearest_neighbour_mixing
from strategies.aggregation import AGGREGATORS, aggregator, judge
from strategies.bucketing import centre, deal, distance_scores
from strategies.multi_krum import krum_scores

NAMES = [bytes([i]) for i in range(200)]


@given(st.integers(1, 60), st.data())
def test_buckets_hold_everybody_once_and_differ_by_one_at_most(count: int, data: st.DataObject) -> None:
    number = data.draw(st.integers(1, count))
    buckets = deal(NAMES[:count], b"seed", number)
    assert sorted(position for bucket in buckets for position in bucket) == list(range(count))
    assert len(buckets) == number
    assert max(map(len, buckets)) - min(map(len, buckets)) <= 1


def test_who_meets_whom_follows_from_names_and_seed_alone() -> None:
    """Not from the order of arrival; and another seed deals anew."""
    there = [{NAMES[i] for i in bucket} for bucket in deal(NAMES, b"seed", 20)]
    back = NAMES[::-1]
    assert [{back[i] for i in bucket} for bucket in deal(back, b"seed", 20)] == there
    assert [{NAMES[i] for i in bucket} for bucket in deal(NAMES, b"deed", 20)] != there


def _mean(rows: list[list[int]]) -> list[Fraction]:
    return [Fraction(sum(column), len(rows)) for column in zip(*rows, strict=True)]


def _distance(left: list[Fraction], right: list[Fraction]) -> Fraction:
    return sum(((a - b) ** 2 for a, b in zip(left, right, strict=True)), Fraction(0))


@st.composite
def crowds(draw: st.DrawFn) -> tuple[list[np.ndarray], int, int]:
    """Updates at the ends of their type among them, f, and a number of buckets that need not divide them evenly."""
    peak, dtype = draw(st.sampled_from([(2**15, np.int16), (2**31, np.int32)]))
    entry = st.sampled_from([-peak, peak - 1, 0, 1]) | st.integers(-peak, peak - 1)
    f = draw(st.integers(0, 2))
    number = draw(st.integers(2 * f + 3, 2 * f + 5))
    count, size = draw(st.integers(number, 3 * number)), draw(st.integers(1, 4))
    rows = draw(st.lists(st.lists(entry, min_size=size, max_size=size), min_size=count, max_size=count))
    return [np.array(row, dtype=dtype) for row in rows], f, number


@given(crowds())
@settings(max_examples=100, deadline=None)
def test_the_centre_is_that_of_the_rationals(crowd: tuple[list[np.ndarray], int, int]) -> None:
    """Krum on the buckets' means as fractions, and the mean of all members of the selected buckets' means."""
    updates, f, number = crowd
    buckets = deal(NAMES[: len(updates)], b"s", number)
    means = [_mean([updates[i].tolist() for i in bucket]) for bucket in buckets]
    score = [
        sum(sorted(_distance(one, other) for j, other in enumerate(means) if j != i)[: number - f - 2])
        for i, one in enumerate(means)
    ]
    kept = sorted(range(number), key=lambda i: (score[i], i))[: number - f]
    expected = [
        math.floor(sum(column) / (number - f) + Fraction(1, 2))
        for column in zip(*(means[i] for i in kept), strict=True)
    ]
    assert centre(updates, buckets, f, multi_krum.shares).tolist() == expected


@given(crowds(), st.sampled_from([1, 2**15]))
@settings(max_examples=60, deadline=None)
def test_scores_are_exact(crowd: tuple[list[np.ndarray], int, int], block: int) -> None:
    updates, f, _ = crowd
    middle = updates[0].astype(np.int64)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_BLOCK", block)
        scores = distance_scores(updates, middle, f)
    far = [sum((a - b) ** 2 for a, b in zip(u.tolist(), middle.tolist(), strict=True)) for u in updates]
    usual = sorted(far)[(len(far) - 1) // 2]
    assert scores == [(len(updates) - f - 2) * (distance + usual) for distance in far]


def _crowd(hostile: int, factor: float, count: int = 120) -> list[np.ndarray]:
    """A common step and a deviation of one's own; the first ones turn it around."""
    rng = np.random.default_rng(int(100 * abs(factor)) + hostile)
    common = rng.normal(0, 300, 400)
    deltas = common + rng.normal(0, 250, (count, 400))
    deltas[:hostile] *= factor
    return [np.rint(delta).astype(np.int16) for delta in deltas]


@pytest.mark.parametrize("name", AGGREGATORS)
@pytest.mark.parametrize("factor", [-3.0, -1.0, 4.0])
def test_as_many_hostile_updates_as_the_bound_allows_are_scored_last(name: str, factor: float) -> None:
    """120 customers in 21 buckets, nine hostile: each in a bucket of its own at worst, and 2 * 9 + 3 = 21."""
    updates = _crowd(9, factor)
    buckets = deal(NAMES[:120], b"seed", 21)
    assert len({next(k for k, bucket in enumerate(buckets) if i in bucket) for i in range(9)}) > 5
    opinion = judge(updates, NAMES[:120], 9, aggregator(name), buckets)
    assert min(opinion.kept) == 9
    assert len(opinion.kept) == 111
    assert opinion.shares == tuple(int(i >= 9 or name in ("trimmed_mean", "median", "fedavg")) for i in range(120))


def test_scores_through_buckets_are_near_to_krums() -> None:
    """The evaluation's ratio must mean the same: here within a fifth for everyone, hostile or not."""
    updates = _crowd(4, -2.0)
    pairs = krum_scores(updates, 4)
    through = judge(updates, NAMES[:120], 4, aggregator("multi_krum"), deal(NAMES[:120], b"s", 20)).scores
    assert all(0.8 < one / other < 1.25 for one, other in zip(through, pairs, strict=True))


@pytest.mark.parametrize("shares", [multi_krum.shares, nearest_neighbour_mixing.shares])
def test_too_few_buckets_are_refused(shares: object) -> None:
    updates = _crowd(0, 1.0, 30)
    with pytest.raises(RoundError, match="at least 7"):
        centre(updates, deal(NAMES[:30], b"s", 6), 2, shares)
    with pytest.raises(RoundError, match="buckets with updates"):
        centre(updates, (*deal(NAMES[:30], b"s", 7), ()), 2, shares)
    centre(updates, deal(NAMES[:30], b"s", 7), 2, shares)


def test_the_order_of_arrival_does_not_matter() -> None:
    updates, order = _crowd(3, -2.0, 40), np.random.default_rng(0).permutation(40)
    for name in AGGREGATORS:
        one = judge(updates, NAMES[:40], 3, aggregator(name), deal(NAMES[:40], b"s", 11))
        names = [NAMES[i] for i in order]
        other = judge([updates[i] for i in order], names, 3, aggregator(name), deal(names, b"s", 11))
        assert list(other.scores) == [one.scores[i] for i in order]
        assert {order[i] for i in other.kept} == set(one.kept)
