from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import strategies.fedavg as module
from app.protocol.errors import ProtocolError
from strategies.fedavg import weight, weighted_mean

ENTRY = st.sampled_from([-(2**15), 2**15 - 1]) | st.integers(-(2**15), 2**15 - 1)


Case = tuple[list[np.ndarray], list[int], list[int], int]


def _mean(updates: list[np.ndarray], gammas: list[int], examples: list[int], cap: int) -> np.ndarray:
    return weighted_mean(updates, [weight(gamma, claim, cap) for gamma, claim in zip(gammas, examples, strict=True)])


@st.composite
def cases(draw: st.DrawFn) -> Case:
    count, size = draw(st.integers(1, 6)), draw(st.integers(0, 5))
    rows = draw(st.lists(st.lists(ENTRY, min_size=size, max_size=size), min_size=count, max_size=count))
    dtype = draw(st.sampled_from([np.int16, np.int64]))
    gammas = draw(st.lists(st.integers(0, 255), min_size=count, max_size=count))
    examples = draw(st.lists(st.integers(0, 2**64 - 1), min_size=count, max_size=count))
    return [np.array(row, dtype=dtype) for row in rows], gammas, examples, draw(st.integers(1, 10**9))


@given(cases(), st.sampled_from([1, 2**15]))
@settings(max_examples=200)
def test_the_mean_is_that_of_the_rationals(case: Case, block: int) -> None:
    updates, gammas, examples, cap = case
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_BLOCK", block)
        mean = _mean(updates, gammas, examples, cap)
    weights = [gamma * min(claim, cap) for gamma, claim in zip(gammas, examples, strict=True)]
    total = sum(weights)
    assert mean.dtype == np.int64
    for k in range(len(updates[0])):
        exact = Fraction(sum(w * int(u[k]) for w, u in zip(weights, updates, strict=True)), total) if total else 0
        assert mean[k] == math.floor(exact + Fraction(1, 2))


@given(cases(), st.randoms(use_true_random=False))
def test_order_does_not_matter(case: Case, random: object) -> None:
    updates, gammas, examples, cap = case
    order = list(range(len(updates)))
    random.shuffle(order)  # type: ignore[attr-defined]
    shuffled = [[values[i] for i in order] for values in (updates, gammas, examples)]
    assert _mean(*shuffled, cap).tolist() == _mean(updates, gammas, examples, cap).tolist()


@given(cases())
def test_the_mean_lies_between_the_updates(case: Case) -> None:
    updates, gammas, examples, cap = case
    mean = _mean(updates, gammas, examples, cap)
    if any(weight(g, e, cap) for g, e in zip(gammas, examples, strict=True)):
        stacked = np.stack(updates)
        assert (mean >= stacked.min(axis=0)).all()
        assert (mean <= stacked.max(axis=0)).all()


def test_a_claim_beyond_the_cap_gains_nothing() -> None:
    updates = [np.array([1000, 0]), np.array([0, 1000])]
    honest = _mean(updates, [5, 5], [100, 100], 100)
    assert _mean(updates, [5, 5], [100, 10**9], 100).tolist() == honest.tolist() == [500, 500]


def test_reputation_and_examples_weigh() -> None:
    updates = [np.array([1000]), np.array([0])]
    assert _mean(updates, [3, 1], [10, 10], 100).tolist() == [750]
    assert _mean(updates, [1, 1], [10, 30], 100).tolist() == [250]


def test_no_weight_is_no_change() -> None:
    assert _mean([np.array([7, -7])] * 2, [0, 3], [10, 0], 5).tolist() == [0, 0]


@pytest.mark.parametrize("peak", [-(2**15), 2**15 - 1])
def test_the_largest_weights_that_are_let_through_are_exact(peak: int) -> None:
    most = (2**63 - 1) // (2**16 + 2)
    update = [np.array([peak, 1], np.int16)]
    assert weighted_mean(update, [most]).tolist() == [peak, 1]
    with pytest.raises(ProtocolError, match="too large"):
        weighted_mean(update, [most + 1])


def test_bad_input_is_refused() -> None:
    with pytest.raises(ProtocolError):
        weighted_mean([], [])
    with pytest.raises(ProtocolError, match="beyond"):
        weighted_mean([np.array([2**47 + 1])], [1])
    with pytest.raises(ProtocolError, match="negative"):
        weighted_mean([np.array([1])], [-1])
    for bad in ((-1, 1, 1), (1, -1, 1), (1, 1, -1)):
        with pytest.raises(ProtocolError, match="negative"):
            weight(*bad)
