"""Every rule against its definition in Python's integers, and against ByzFL."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import strategies.median as median_module
import strategies.trimmed_mean as trimmed_module
from app.protocol.errors import ConfigError, RoundError
from strategies.aggregation import AGGREGATORS, aggregator, combine, judge
from strategies.exact import squared_distances
from strategies.median import median
from strategies.nearest_neighbour_mixing import mixtures, shares
from strategies.trimmed_mean import trimmed_mean

Vector = list[int]


def _rounded(value: Fraction) -> int:
    return math.floor(value + Fraction(1, 2))


def _distance(left: Sequence[Fraction | int], right: Sequence[Fraction | int]) -> Fraction | int:
    return sum((a - b) ** 2 for a, b in zip(left, right, strict=True))


def _krum(vectors: Sequence[Sequence[Fraction | int]], names: Sequence[bytes], f: int) -> list[int]:
    """The n - f positions that Multi-Krum selects."""
    n = len(vectors)
    score = [
        sum(sorted(_distance(v, w) for j, w in enumerate(vectors) if j != i)[: n - f - 2])
        for i, v in enumerate(vectors)
    ]
    return sorted(range(n), key=lambda i: (score[i], names[i]))[: n - f]


def _weighted(vectors: list[Vector], weights: list[int]) -> Vector:
    total = sum(weights)
    columns = zip(*vectors, strict=True)
    return [_rounded(Fraction(sum(w * x for w, x in zip(weights, column, strict=True)), total)) for column in columns]


def _by_multi_krum(vectors: list[Vector], names: list[bytes], weights: list[int], f: int) -> Vector:
    kept = _krum(vectors, names, f)
    return _weighted([vectors[i] for i in kept], [weights[i] for i in kept])


def _by_nnm_krum(vectors: list[Vector], names: list[bytes], weights: list[int], f: int) -> Vector:
    """Means of n - f nearest as rationals, Krum on those, and the weighted members of the selected means."""
    n = len(vectors)
    groups = [
        sorted(range(n), key=lambda j, i=i: (j != i, _distance(vectors[i], vectors[j]), names[j]))[: n - f]
        for i in range(n)
    ]
    mixed = [
        [Fraction(sum(column), n - f) for column in zip(*(vectors[j] for j in group), strict=True)] for group in groups
    ]
    drawn = [j for i in _krum(mixed, names, f) for j in groups[i]]
    return _weighted([vectors[j] for j in drawn], [weights[j] for j in drawn])


def _by_trimmed_mean(vectors: list[Vector], names: list[bytes], weights: list[int], f: int) -> Vector:
    result = []
    for column in zip(*vectors, strict=True):
        kept = sorted(zip(column, weights, strict=True))[f : len(vectors) - f]
        result.append(_rounded(Fraction(sum(x * w for x, w in kept), sum(w for _, w in kept))))
    return result


def _by_median(vectors: list[Vector], names: list[bytes], weights: list[int], f: int) -> Vector:
    n = len(vectors)
    return [
        _rounded(Fraction(sum(sorted(column)[(n - 1) // 2 : n // 2 + 1]), 2 - n % 2))
        for column in zip(*vectors, strict=True)
    ]


def _by_fedavg(vectors: list[Vector], names: list[bytes], weights: list[int], f: int) -> Vector:
    return _weighted(vectors, weights)


BY_DEFINITION: dict[str, Callable[[list[Vector], list[bytes], list[int], int], Vector]] = {
    "multi_krum": _by_multi_krum,
    "nnm_krum": _by_nnm_krum,
    "trimmed_mean": _by_trimmed_mean,
    "median": _by_median,
    "fedavg": _by_fedavg,
}


@st.composite
def rounds(draw: st.DrawFn) -> tuple[list[np.ndarray], list[bytes], list[int], int]:
    """Updates with copies and near ties among them and extremes of their type; digests; weights above 0; f."""
    peak, dtype = draw(st.sampled_from([(2**15, np.int16), (2**31, np.int32)]))
    entry = st.sampled_from([-peak, peak - 1, 0, 1, -1]) | st.integers(-peak, peak - 1)
    f = draw(st.integers(0, 3))
    count, size = draw(st.integers(2 * f + 3, 2 * f + 6)), draw(st.integers(1, 4))
    rows = draw(st.lists(st.lists(entry, min_size=size, max_size=size), min_size=1, max_size=count))
    picks = draw(st.lists(st.integers(0, len(rows) - 1), min_size=count, max_size=count))
    names = draw(st.permutations([bytes([i]) for i in range(count)]))
    weights = draw(st.lists(st.integers(1, 3) | st.integers(1, 10**5), min_size=count, max_size=count))
    return [np.array(rows[pick], dtype=dtype) for pick in picks], names, weights, f


def _aggregate(name: str, updates: list[np.ndarray], names: list[bytes], weights: list[int], f: int) -> Vector:
    rule = aggregator(name)
    opinion = judge(updates, names, f, rule)
    step = combine(updates, [share * w for share, w in zip(opinion.shares, weights, strict=True)], f, rule)
    assert step is not None
    return step.tolist()


def test_every_rule_has_a_definition_here() -> None:
    assert BY_DEFINITION.keys() == AGGREGATORS.keys()


@pytest.mark.parametrize("name", AGGREGATORS)
@given(case=rounds(), block_bytes=st.sampled_from([8, 2**20]))
@settings(max_examples=60, deadline=None)
def test_against_the_definition(
    name: str, case: tuple[list[np.ndarray], list[bytes], list[int], int], block_bytes: int
) -> None:
    updates, names, weights, f = case
    with pytest.MonkeyPatch.context() as patch:
        for module in (median_module, trimmed_module):
            patch.setattr(module, "_BLOCK_BYTES", block_bytes)
        got = _aggregate(name, updates, names, weights, f)
    assert got == BY_DEFINITION[name]([u.tolist() for u in updates], names, weights, f)


@pytest.mark.parametrize("name", AGGREGATORS)
@given(case=rounds(), random=st.randoms(use_true_random=False))
@settings(max_examples=30, deadline=None)
def test_no_order_matters(
    name: str, case: tuple[list[np.ndarray], list[bytes], list[int], int], random: object
) -> None:
    updates, names, weights, f = case
    order = list(range(len(updates)))
    random.shuffle(order)  # type: ignore[attr-defined]
    shuffled = [[values[i] for i in order] for values in (updates, names, weights)]
    assert _aggregate(name, *shuffled, f) == _aggregate(name, updates, names, weights, f)
    opinion, moved = judge(updates, names, f, aggregator(name)), judge(*shuffled[:2], f, aggregator(name))
    assert [opinion.scores[i] for i in order] == list(moved.scores)
    assert [opinion.shares[i] for i in order] == list(moved.shares)
    assert {order[i] for i in moved.kept} == set(opinion.kept)


@pytest.mark.parametrize("name", AGGREGATORS)
def test_scores_and_selection_are_multi_krums_under_every_rule(name: str) -> None:
    rng = np.random.default_rng(3)
    updates, names = list(rng.integers(-99, 100, (9, 20))), [bytes([i]) for i in range(9)]
    opinion, usual = judge(updates, names, 2, aggregator(name)), judge(updates, names, 2, aggregator("multi_krum"))
    assert (opinion.scores, opinion.kept) == (usual.scores, usual.kept)
    assert usual.shares == tuple(int(i in usual.kept) for i in range(9))


@pytest.mark.parametrize("name", ["multi_krum", "nnm_krum", "trimmed_mean", "median"])
@pytest.mark.parametrize("factor", [-300, 0, 300])
def test_hostile_reputation_does_not_buy_the_model(name: str, factor: int) -> None:
    """Three of ten at the highest reputation, seven honest at the lowest: the step stays within the honest range."""
    rng = np.random.default_rng(factor + 1000)
    honest = rng.integers(50, 100, (7, 30))
    hostile = factor * honest[:3] + np.arange(3)[:, None]
    weights = [1] * 7 + [255 * 1000] * 3
    step = _aggregate(name, [*honest, *hostile], [bytes([i]) for i in range(10)], weights, 3)
    assert (step >= honest.min(axis=0)).all()
    assert (step <= honest.max(axis=0)).all()


def test_fedavg_withstands_nobody() -> None:
    step = _aggregate(
        "fedavg", [np.array([v]) for v in (1, 1, 1, 1, -3000)], [bytes([i]) for i in range(5)], [1] * 5, 1
    )
    assert step == [-599]


@pytest.mark.parametrize("name", ["trimmed_mean", "median"])
def test_too_few_with_a_weight_leave_the_model(name: str) -> None:
    updates, rule = [np.array([i]) for i in range(7)], aggregator(name)
    assert combine(updates, [1] * 5 + [0] * 2, 2, rule) is not None
    assert combine(updates, [1] * 4 + [0] * 3, 2, rule) is None
    assert combine(updates, [0] * 7, 0, aggregator("fedavg")) is None


@pytest.mark.parametrize("rule", [lambda u, f: trimmed_mean(u, [1] * len(u), f), median])
def test_the_coordinate_wise_rules_have_their_bound(rule: Callable[..., object]) -> None:
    updates = [np.array([i], np.int16) for i in range(5)]
    rule(updates, 2)
    for few, f in ((updates[:4], 2), (updates, -1), ([], 0)):
        with pytest.raises(RoundError, match=f"f = {f}"):
            rule(few, f)


def test_a_mixture_has_its_own_update_and_the_nearest() -> None:
    """Two copies and one far away: a copy is as near as oneself, and oneself comes first all the same."""
    updates = [np.array([v]) for v in (0, 0, 1, 50, 2)]
    members = mixtures(squared_distances(updates), [b"e", b"d", b"c", b"b", b"a"], 3)
    assert members.tolist() == [
        [True, True, False, False, False],
        [True, True, False, False, False],
        [False, False, True, False, True],
        [False, False, False, True, True],
        [False, False, True, False, True],
    ]


def test_an_unknown_rule_is_a_mistake_in_the_configuration() -> None:
    with pytest.raises(ConfigError, match=r"strategy.aggregator: unknown rule 'krum' \(allowed: fedavg, median"):
        aggregator("krum")


@pytest.mark.parametrize("seed", range(12))
def test_against_byzfl(byzfl: ModuleType, seed: int) -> None:
    """With equal weights. ByzFL's MultiKrum(f + 1) has our neighbourhood and keeps one update fewer: its best n - f - 1
    mixtures are the first of ours. All its quantities are exact in float64 here, but for the divisions."""
    rng = np.random.default_rng(seed)
    n, f = 11, seed % 4
    updates = rng.integers(-300, 300, (n, 17))
    floats, plain = updates.astype(np.float64), list(updates)
    trimmed = byzfl.aggregators.TrMean(f)(floats)
    np.testing.assert_allclose(trimmed_mean(plain, [1] * n, f), trimmed, atol=0.5 + 1e-9)
    np.testing.assert_allclose(median(plain, f), byzfl.aggregators.Median()(floats), atol=0.5 + 1e-9)
    mixed = byzfl.preaggregators.NNM(f)(floats)
    distances, names = squared_distances(plain), [bytes([i]) for i in range(n)]
    members = mixtures(distances, names, f)
    np.testing.assert_allclose(members @ updates / (n - f), mixed, rtol=1e-12)
    best = _krum([[Fraction(int(x)) for x in row] for row in members @ updates], names, f)
    theirs = byzfl.aggregators.MultiKrum(f + 1)(mixed)
    np.testing.assert_allclose(theirs, mixed[best[: n - f - 1]].mean(axis=0), rtol=1e-9)
    assert shares(distances, names, f) == tuple(members[best].sum(axis=0))


def test_small_trimmings_by_hand() -> None:
    updates = [np.array([v, -v]) for v in (1, 2, 3, 4, 100)]
    assert trimmed_mean(updates, [1] * 5, 1).tolist() == [3, -3]
    assert trimmed_mean(updates, [1, 2, 1, 1, 9], 1).tolist() == [_rounded(Fraction(11, 4)), _rounded(Fraction(-11, 4))]
    assert median(updates, 2).tolist() == [3, -3]
    for pair in itertools.permutations([np.array([1]), np.array([2])]):
        assert median(pair, 0).tolist() == [2]
