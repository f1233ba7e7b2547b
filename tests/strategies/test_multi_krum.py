from __future__ import annotations

import os
import tracemalloc
from collections.abc import Sequence
from types import ModuleType

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, MetricRecord, RecordDict
from flwr.serverapp.strategy.multikrum import select_multikrum
from hypothesis import given, settings
from hypothesis import strategies as st

from app.protocol.errors import RoundError
from strategies.fedavg import weighted_mean
from strategies.multi_krum import krum_scores, scores_of, select

PEAKS = [2**15, 2**31]


def brute_force(updates: Sequence[Sequence[int]], f: int) -> list[int]:
    """Blanchard's score in Python's integers, straight from the definition."""
    scores = []
    for i, mine in enumerate(updates):
        distances = sorted(
            sum((int(a) - int(b)) ** 2 for a, b in zip(mine, other, strict=True))
            for j, other in enumerate(updates)
            if j != i
        )
        scores.append(sum(distances[: len(updates) - f - 2]))
    return scores


@st.composite
def cases(draw: st.DrawFn) -> tuple[list[np.ndarray], int]:
    """Updates with copies and near ties among them, extremes of int16 or int32, and every f that is allowed."""
    peak = draw(st.sampled_from(PEAKS))
    entry = st.sampled_from([-peak, peak - 1, 0, 1, -1]) | st.integers(-peak, peak - 1)
    count, size = draw(st.integers(3, 12)), draw(st.integers(1, 6))
    rows = draw(st.lists(st.lists(entry, min_size=size, max_size=size), min_size=1, max_size=count))
    picks = draw(st.lists(st.integers(0, len(rows) - 1), min_size=count, max_size=count))
    dtypes = draw(
        st.lists(st.sampled_from([np.int16 if peak == 2**15 else np.int32, np.int64]), min_size=count, max_size=count)
    )
    updates = [np.array(rows[pick], dtype=dtype) for pick, dtype in zip(picks, dtypes, strict=True)]
    return updates, draw(st.integers(0, (count - 3) // 2))


@given(cases())
@settings(max_examples=200, deadline=None)
def test_scores_equal_the_definition(case: tuple[list[np.ndarray], int]) -> None:
    updates, f = case
    assert krum_scores(updates, f) == brute_force([u.tolist() for u in updates], f)


@given(cases(), st.randoms(use_true_random=False))
def test_the_order_of_arrival_does_not_matter(case: tuple[list[np.ndarray], int], random: object) -> None:
    updates, f = case
    digests = [bytes([i]) for i in range(len(updates))]
    order = list(range(len(updates)))
    random.shuffle(order)  # type: ignore[attr-defined]
    scores = krum_scores(updates, f)
    shuffled = krum_scores([updates[i] for i in order], f)
    assert shuffled == [scores[i] for i in order]
    picked = {order[k] for k in select(shuffled, [digests[i] for i in order], f)}
    assert picked == set(select(scores, digests, f))


@given(cases(), st.integers(-1000, 1000), st.sampled_from([-1, 2, 3]))
def test_a_common_shift_and_scale(case: tuple[list[np.ndarray], int], shift: int, scale: int) -> None:
    updates, f = case
    small = [u.astype(np.int64) // 8 for u in updates]
    assert krum_scores([u + shift for u in small], f) == krum_scores(small, f)
    assert krum_scores([u * scale for u in small], f) == [s * scale**2 for s in krum_scores(small, f)]


def test_scores_may_exceed_63_bits() -> None:
    assert scores_of(np.full((7, 7), 2**62 + 12345), 1) == [4 * (2**62 + 12345)] * 7


@pytest.mark.parametrize(("count", "f"), [(0, 0), (2, 0), (4, 1), (6, 2), (3, -1), (1000, 499)])
def test_too_few_updates_are_refused(count: int, f: int) -> None:
    with pytest.raises(RoundError, match=f"f = {f}.*got {count}"):
        krum_scores([np.zeros(1, np.int16)] * count, f)


@pytest.mark.parametrize(("count", "f"), [(3, 0), (5, 1), (7, 2), (9, 3)])
def test_the_bound_itself_is_enough(count: int, f: int) -> None:
    assert krum_scores([np.array([i]) for i in range(count)], f)


@given(st.lists(st.integers(0, 3), min_size=3, max_size=10), st.data())
def test_select_takes_the_lowest_and_breaks_ties_by_digest(scores: list[int], data: st.DataObject) -> None:
    digests = data.draw(st.permutations([bytes([i]) for i in range(len(scores))]))
    f = data.draw(st.integers(0, len(scores) - 1))
    chosen = select(scores, digests, f)
    assert list(chosen) == sorted(set(chosen))
    assert len(chosen) == len(scores) - f
    kept = [(scores[i], digests[i]) for i in chosen]
    dropped = [(scores[i], digests[i]) for i in range(len(scores)) if i not in chosen]
    assert not dropped or max(kept) < min(dropped)


@pytest.mark.parametrize("f", [-1, 3])
def test_select_refuses_an_impossible_f(f: int) -> None:
    with pytest.raises(RoundError):
        select([1, 2, 3], [b"a", b"b", b"c"], f)


@given(st.integers(0, 2**32 - 1), st.integers(1, 3), st.integers(0, 4))
@settings(max_examples=60, deadline=None)
def test_far_outliers_are_never_selected(seed: int, f: int, extra: int) -> None:
    """Honest updates in a ball, at most f anywhere outside three times its diameter: none of those is kept."""
    rng = np.random.default_rng(seed)
    honest = rng.integers(-50, 51, (f + 3 + extra, 20))
    direction = rng.normal(size=(f, 20))
    far = np.rint(direction / np.linalg.norm(direction, axis=1, keepdims=True) * rng.uniform(3000, 30000, (f, 1)))
    updates = [*far.astype(np.int64), *honest]
    chosen = select(krum_scores(updates, f), [bytes([i]) for i in range(len(updates))], f)
    assert min(chosen) >= f


def test_small_deltas_on_large_weights() -> None:
    """Weights of std 1, deltas of std 1e-4, attackers at three times that. Flower's MultiKrum works in float32 on the
    weights, where the distances drown in rounding, and picks attackers; ours works on the deltas and picks none."""
    rng = np.random.default_rng(0)
    count, hostile, size, grid = 50, 10, 100_000, 2.0**20
    weights = rng.normal(0, 1, size)
    deltas = rng.normal(0, 1e-4, (count, size))
    deltas[:hostile] *= 3
    sent = [
        RecordDict(
            {"arrays": ArrayRecord({"w": Array((weights + delta).astype(np.float32))}), "i": MetricRecord({"i": i})}
        )
        for i, delta in enumerate(deltas)
    ]
    theirs = {content["i"]["i"] for content in select_multikrum(sent, hostile, count - hostile)}
    assert theirs & set(range(hostile)), "Flower's float32 formula is expected to fail here"
    updates = [np.rint(delta * grid).astype(np.int16) for delta in deltas]
    chosen = select(krum_scores(updates, hostile), [bytes([i]) for i in range(count)], hostile)
    assert chosen == tuple(range(hostile, count))


def test_an_unreachable_f_is_not_quietly_lowered() -> None:
    """f is never derived from n, so n = 4 with f = 3 is an error and not f = 0."""
    with pytest.raises(RoundError, match="at least 9"):
        krum_scores([np.array([i]) for i in range(4)], 3)


@pytest.mark.parametrize("seed", range(20))
def test_krum_against_byzfl(byzfl: ModuleType, seed: int) -> None:
    """ByzFL sums n - f - 1 neighbours where Blanchard sums n - f - 2.

    With one more hostile update declared its neighbourhood has our size: its Krum(f + 1) returns our best update, and
    its MultiKrum(f + 1) the mean of our n - f - 1 best. All quantities are exact in float64 here.
    """
    rng = np.random.default_rng(seed)
    count, f = 11, seed % 4
    updates = rng.integers(-300, 300, (count, 17))
    scores = krum_scores(list(updates), f)
    assert len(set(scores)) == count
    order = np.argsort(scores)
    best = byzfl.aggregators.Krum(f + 1)(updates.astype(np.float64))
    assert best.tolist() == updates[order[0]].tolist()
    mean = byzfl.aggregators.MultiKrum(f + 1)(updates.astype(np.float64))
    expected = updates[order[: count - f - 1]].mean(axis=0)
    np.testing.assert_allclose(mean, expected, rtol=1e-12)


def test_the_extra_memory_does_not_grow_with_the_model() -> None:
    """Forty updates of 500,000 parameters, 160 MB in float64: one block of 8 MB a thread and the mean is all it takes.

    At 200 updates of 1,000,000 it is 18 MB with two cores, see tests/benchmarks/multi_krum.py.
    """
    rng = np.random.default_rng(0)
    updates = list(rng.integers(-99, 100, (40, 500_000), dtype=np.int16))
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    chosen = select(krum_scores(updates, 3), [bytes([i]) for i in range(40)], 3)
    weighted_mean([updates[i] for i in chosen], [1] * len(chosen))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    workers = min(8, os.cpu_count() or 1)
    assert peak - before < (9 * workers + 8) * 2**20
