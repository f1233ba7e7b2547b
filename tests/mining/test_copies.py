from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.mining.copies import MILLION, near_copies
from app.mining.outcome import evaluate
from app.mining.round import EarlierRound, SealedRound
from app.protocol.errors import RoundError
from app.protocol.evaluation import CustomerEntry, Reason
from app.protocol.fixed_point import MODEL_DTYPE
from app.protocol.tensors import pack, unpack
from strategies.exact import gram

from .conftest import LAYOUT, World

VECTOR = st.lists(st.integers(-(2**15), 2**15 - 1), min_size=3, max_size=3).filter(any)


def _by_hand(vectors: list[list[int]], order: list[int], bound: int) -> set[int]:
    """The definition in Python's own integers and fractions."""
    copies: set[int] = set()
    for place, i in enumerate(order):
        for j in order[:place]:
            inner = sum(a * b for a, b in zip(vectors[i], vectors[j], strict=True))
            norms = sum(a * a for a in vectors[i]) * sum(b * b for b in vectors[j])
            if j not in copies and inner > 0 and Fraction(inner**2, norms) >= Fraction(bound, MILLION) ** 2:
                copies.add(i)
    return copies


@given(st.lists(VECTOR | st.just([3, -4, 5]), min_size=1, max_size=7), st.data())
def test_against_the_definition(vectors: list[list[int]], data: st.DataObject) -> None:
    order = data.draw(st.permutations(range(len(vectors))))
    bound = data.draw(st.integers(500_000, MILLION))
    products = gram([np.array(vector, np.int16) for vector in vectors])
    assert near_copies(products, order, bound) == _by_hand(vectors, list(order), bound)


@pytest.mark.parametrize(("inner", "copies"), [(999_000, {1}), (998_999, set())])
def test_the_bound_is_exact(inner: int, copies: set[int]) -> None:
    """Vectors whose cosine is exactly the bound, and one part in 10**6 less; float64 is not asked."""
    products = np.array([[MILLION, inner], [inner, MILLION]], dtype=object) * 10**40
    assert near_copies(products, [0, 1], 999_000) == copies


def test_a_copy_of_a_copy_is_compared_with_the_author() -> None:
    """0 and 1 are near, 1 and 2 are near, 0 and 2 are not: 2 is an author, since 1 is none."""
    angles = np.array([0.0, 0.04, 0.08])
    vectors = np.rint(30_000 * np.stack([np.cos(angles), np.sin(angles)], axis=1)).astype(np.int16)
    assert near_copies(gram(list(vectors)), [0, 1, 2], 999_000) == {1}


def _entries(world: World, sealed: SealedRound) -> dict[int, CustomerEntry]:
    return {entry.index: entry for entry in evaluate(sealed, world.store).evaluation.customers}


@pytest.mark.parametrize("scale", [0.3, 1.0, 4.0])
@pytest.mark.parametrize("noise", [0.0, 0.02])
def test_scaling_and_a_little_noise_do_not_hide_a_copy(world: World, scale: float, noise: float) -> None:
    updates = {i: world.update(i) for i in range(10)}
    generator = np.random.default_rng(0)
    length = np.sqrt(np.mean(updates[2].astype(float) ** 2))
    stolen = scale * (updates[2] + generator.normal(0, noise * length, updates[2].shape))
    updates[7] = np.rint(stolen).astype(np.int64)
    entries = _entries(world, world.seal(updates, submitted=(2,)))
    assert entries[7].reason in (Reason.NEAR_COPY, Reason.COPY)
    assert (entries[7].mark, entries[7].weight, entries[7].score) == ("L", 0, None)
    assert [i for i, entry in entries.items() if entry.reason is not Reason.ACCEPTED] == [7]


def test_honest_updates_are_no_copies(world: World) -> None:
    assert {entry.reason for entry in _entries(world, world.seal()).values()} == {Reason.ACCEPTED}


@pytest.mark.parametrize(("alike", "dropped"), [(3, 2), (4, 0), (10, 0)])
def test_if_more_than_f_are_alike_likeness_is_no_evidence(world: World, alike: int, dropped: int) -> None:
    """f = 2: of three that are alike two may be copies; of four one is honest at least, and so are all."""
    updates = {i: world.update(i) for i in range(10)}
    for i in range(1, alike):
        updates[i] = updates[0] + i
    entries = _entries(world, world.seal(updates))
    assert sum(entry.reason is Reason.NEAR_COPY for entry in entries.values()) == dropped
    assert sum(entry.reason in (Reason.ACCEPTED, Reason.DISSIMILAR) for entry in entries.values()) == 10 - dropped


def _second_round(world: World, updates: dict[int, np.ndarray]) -> SealedRound:
    """A round that starts from the model that a first one came to."""
    first = world.seal({i: world.update(i + 40) for i in range(10)})
    past, model = world.past(first), world.store.put(evaluate(first, world.store).model)
    sealed = world.seal(updates, tweaks={i: _on(model.sha256) for i in updates}, round_number=2, earlier=(past,))
    return replace(sealed, model=model)


def _on(model: bytes):
    return lambda sent: replace(sent, receipt=replace(sent.receipt, model=model))


@pytest.mark.parametrize("scale", [0.5, 1.0])
def test_what_the_last_round_changed_is_nobodys_update(world: World, scale: float) -> None:
    first = evaluate(world.seal({i: world.update(i + 40) for i in range(10)}), world.store)
    step = unpack(first.model, LAYOUT, MODEL_DTYPE) - world.model_vector
    updates = {i: world.update(i) for i in range(10)} | {4: np.rint(scale * step).astype(np.int64)}
    entries = _entries(world, _second_round(world, updates))
    assert {i: entry.reason for i, entry in entries.items() if entry.reason is not Reason.ACCEPTED} == {4: Reason.STALE}


def test_a_round_that_changed_nothing_makes_nobody_stale(world: World) -> None:
    few = world.seal({i: world.update(i) for i in range(3)})  # void: the model stays
    past = world.past(few)
    sealed = world.seal({i: world.update(i + 20) for i in range(10)}, round_number=2, earlier=(past,))
    assert {entry.reason for entry in _entries(world, sealed).values()} == {Reason.ACCEPTED}


@pytest.mark.parametrize("member", ["manifest", "record"])
@pytest.mark.parametrize("how", ["missing", "another"])
def test_a_miner_does_not_judge_without_what_came_before(world: World, member: str, how: str) -> None:
    sealed = _second_round(world, {i: world.update(i) for i in range(10)})
    past: EarlierRound = sealed.earlier[0]
    if how == "missing":
        changed = replace(past, **{member: replace(getattr(past, member), sha256=b"\1" * 32, cid="bafkmissing")})
    else:
        changed = replace(past, **{member: world.store.put(pack(world.update(1), LAYOUT, MODEL_DTYPE))})
    with pytest.raises(RoundError, match=f"{member} of round 1"):
        evaluate(replace(sealed, earlier=(changed,)), world.store)


def test_if_more_than_f_go_on_as_before_nobody_is_stale(world: World) -> None:
    """A round's loss may be so simple that all honest updates repeat the last step."""
    first = evaluate(world.seal({i: world.update(i + 40) for i in range(10)}), world.store)
    step = unpack(first.model, LAYOUT, MODEL_DTYPE) - world.model_vector
    updates = {i: world.update(i) for i in range(10)} | {i: step * (i + 2) // 3 + i for i in range(3)}
    entries = _entries(world, _second_round(world, updates))
    assert not any(entry.reason is Reason.STALE for entry in entries.values())
