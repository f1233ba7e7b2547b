"""The audit's own rules against the miners': two programs that share no line, on inputs that neither chose."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.audit import robust
from app.audit.blobs import Blobs, BlockDirectory, reference
from app.audit.copies import mark_copies
from app.audit.election import sub_users
from app.audit.noise import gaussian_delta
from app.audit.screening import Screened
from app.mining import screening as mining
from app.mining import sortition
from app.mining.copies import without_near_copies
from app.privacy.calibration import gaussian_delta as calibrated
from app.protocol.digest import sha256
from app.store.base import reference as stored_reference
from app.store.embedded import EmbeddedStore
from strategies.aggregation import AGGREGATORS, combine, judge
from strategies.bucketing import deal
from strategies.direction import from_updates
from strategies.evaluation import RULES, Past, usual_score

ENTRIES = st.one_of(st.integers(-3, 3), st.integers(-(2**15), 2**15 - 1))


@st.composite
def cohorts(draw: st.DrawFn) -> tuple[list[np.ndarray], list[int], int]:
    f = draw(st.integers(0, 2))
    count = draw(st.integers(2 * f + 3, 2 * f + 6))
    width = draw(st.integers(1, 5))
    vectors = draw(st.lists(st.lists(ENTRIES, min_size=width, max_size=width), min_size=count, max_size=count))
    weights = draw(st.lists(st.integers(0, 2550), min_size=count, max_size=count))
    return [np.array(vector, dtype=np.int64) for vector in vectors], weights, f


@st.composite
def standings(draw: st.DrawFn) -> tuple[robust.Standing, Past]:
    """What earlier rounds say of at most 30 customers, to the audit and to the miners."""
    usual = draw(st.integers(0, 10**10))
    aligned = draw(st.lists(st.integers(-(10**17), 10**17), min_size=30, max_size=30))
    reach = draw(st.lists(st.integers(0, 10**11), min_size=30, max_size=30))
    theirs = robust.Standing(usual, Counter(dict(enumerate(aligned))), Counter(dict(enumerate(reach))))
    return theirs, Past(usual, tuple(aligned), tuple(reach))


@given(cohorts(), st.sampled_from(sorted(AGGREGATORS)), st.sampled_from(sorted(RULES)), standings())
def test_scores_marks_shares_and_aggregate_are_the_miners(
    cohort: tuple[list[np.ndarray], list[int], int], name: str, rule: str, before: tuple[robust.Standing, Past]
) -> None:
    updates, weights, f = cohort
    narrow = [update.astype(np.int16) for update in updates]
    digests = [sha256(bytes([position]) + update.tobytes()) for position, update in enumerate(narrow)]

    judged = robust.judge(updates, digests, f, name, rule, range(len(updates)), before[0])
    opinion = judge(narrow, digests, f, AGGREGATORS[name])
    assert judged is not None
    assert (tuple(judged.scores), tuple(judged.shares)) == (opinion.scores, opinion.shares)
    bearings = from_updates(narrow, opinion.kept)
    assert (tuple(judged.cosines), judged.reach) == (bearings.cosines, bearings.reach)
    assert judged.usual == usual_score(opinion.scores, opinion.kept, f)
    assert judged.low == RULES[rule](opinion.scores, opinion.kept, f, bearings, before[1])

    mine, theirs = robust.combine(updates, weights, f, name), combine(narrow, weights, f, AGGREGATORS[name])
    assert (mine is None) == (theirs is None)
    if mine is not None:
        np.testing.assert_array_equal(mine, theirs)


@given(
    cohorts(),
    st.integers(1, 3),
    st.sampled_from(sorted(AGGREGATORS)),
    st.binary(max_size=3),
    st.booleans(),
    standings(),
)
def test_scores_through_buckets_are_the_miners(
    cohort: tuple[list[np.ndarray], list[int], int],
    times: int,
    name: str,
    seed: bytes,
    wide: bool,
    before: tuple[robust.Standing, Past],
) -> None:
    few, _, f = cohort
    updates = [update * 65_535 if wide else update for update in few * times]
    names = [bytes([position]) for position in range(len(updates))]
    groups = robust.dealt(names, seed, 2 * f + 3)
    buckets = deal(names, seed, 2 * f + 3)
    assert [tuple(group) for group in groups] == list(buckets)
    judged = robust.judge(updates, names, f, name, "outlier", range(len(updates)), before[0], groups)
    given_ = [update.astype(np.int32 if wide else np.int16) for update in updates]
    opinion = judge(given_, names, f, AGGREGATORS[name], buckets)
    assert judged is not None
    assert (tuple(judged.scores), tuple(judged.shares)) == (opinion.scores, opinion.shares)
    bearings = from_updates(given_, opinion.kept)
    assert judged.low == RULES["outlier"](opinion.scores, opinion.kept, f, bearings, before[1])


def test_too_few_updates_are_no_judgement() -> None:
    few, names = [np.zeros(2, np.int64)] * 4, [b"a", b"b", b"c", b"d"]
    assert robust.judge(few, names, 1, "multi_krum", "outlier", range(4), robust.Standing()) is None


@given(cohorts(), st.permutations(range(12)))
def test_a_standing_is_kept_by_customer(cohort: tuple[list[np.ndarray], list[int], int], order: list[int]) -> None:
    updates, _, f = cohort
    who, standing = order[: len(updates)], robust.Standing()
    judged = robust.judge(updates, [bytes([i]) for i in range(len(updates))], f, "fedavg", "paper", who, standing)
    assert judged is not None
    for _ in range(2):
        standing.add(judged, who)
    assert standing.usual == judged.usual
    assert [standing.aligned[i] for i in who] == [2 * cosine * judged.reach for cosine in judged.cosines]
    assert set(standing.reach.values()) == {2 * judged.reach}


def test_distances_and_means_stay_exact_at_the_ends_of_32_bits() -> None:
    low, high = np.full(70_000, -(2**31)), np.full(70_000, 2**31 - 1)
    assert robust.squared_distance(low, high) == 70_000 * (2**32 - 1) ** 2
    mean = robust.combine([low, high], [2**40, 2**40 + 1], 0, "fedavg")
    assert mean is not None
    exact = Fraction(2**40 * -(2**31) + (2**40 + 1) * (2**31 - 1), 2**41 + 1)
    assert set(mean.tolist()) == {(exact + Fraction(1, 2)).__floor__()}


@given(st.binary(min_size=64, max_size=64), st.integers(0, 60), st.integers(1, 20), st.integers(0, 40))
def test_the_sortition_is_the_miners(output: bytes, weight: int, tau: int, others: int) -> None:
    p = sortition.chance(tau, weight + others)
    assert sub_users(output, weight, p) == sortition.selected(output, weight, p)


@pytest.mark.parametrize("output", [bytes(64), b"\xff" * 64])
def test_the_ends_of_the_sortition(output: bytes) -> None:
    for weight in (1, 7, 1000):
        p = Fraction(3, 1000)
        assert sub_users(output, weight, p) == sortition.selected(output, weight, p)


@given(st.floats(1e-3, 1e3), st.floats(1e-2, 30.0))
def test_the_noise_is_judged_as_it_was_calibrated(scale: float, epsilon: float) -> None:
    assert gaussian_delta(scale, epsilon) == pytest.approx(calibrated(scale, epsilon), rel=1e-6, abs=1e-12)


@pytest.mark.parametrize("size", [0, 1, 2**20, 2**20 + 1, 3 * 2**20 - 5])
def test_a_cid_is_rebuilt_as_a_store_makes_it(size: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    data = np.random.default_rng(size).bytes(size)
    assert reference(data) == stored_reference(data)
    folder = tmp_path_factory.mktemp("store")
    ref = EmbeddedStore(folder, fsync=False).put(data)
    assert Blobs("blobs", BlockDirectory(folder)).get(ref, size) == data


def test_a_cid_of_three_levels_is_rebuilt_too(monkeypatch: pytest.MonkeyPatch) -> None:
    from app.audit import blobs
    from app.store import unixfs

    for module, chunk, links in ((blobs, "_CHUNK", "_LINKS"), (unixfs, "CHUNK", "MAX_LINKS")):
        monkeypatch.setattr(module, chunk, 16)
        monkeypatch.setattr(module, links, 3)
    unixfs._link_frame.cache_clear()
    try:
        for size in (17, 48, 49, 144, 145, 400):
            assert reference(bytes(range(size % 256)) * 2) == stored_reference(bytes(range(size % 256)) * 2)
    finally:
        unixfs._link_frame.cache_clear()


@given(
    st.lists(st.lists(st.integers(-9, 9), min_size=2, max_size=2).filter(any), min_size=1, max_size=8),
    st.integers(0, 3),
    st.booleans(),
    st.data(),
)
def test_copies_are_the_miners(vectors: list[list[int]], f: int, moved: bool, data: st.DataObject) -> None:
    """Small entries, so that many are copies; the bound is the cosine of 18 degrees."""
    arrays = [np.array(vector, np.int64) for vector in vectors]
    step = np.array([3, 4], np.int64) if moved else None
    order = data.draw(st.permutations(range(len(arrays))))
    policy = SimpleNamespace(copy_cosine=950_000, f=f, cohort=10)

    def items(kind: Any) -> list[Any]:
        receipt = [SimpleNamespace(receipt=SimpleNamespace(update=bytes([i]))) for i in range(len(arrays))]
        return [kind(receipt[i], i, "accepted", arrays[i]) for i in range(len(arrays))]

    sealed: Any = SimpleNamespace(policy=policy, precedence=lambda index, _: order.index(index))
    miners, _ = without_near_copies(sealed, items(mining.Screened), step)
    mine = items(Screened)
    mark_copies([mine[i] for i in order], step, f, policy.copy_cosine, policy.cohort)
    assert [item.reason for item in mine] == [str(item.reason) for item in miners]
