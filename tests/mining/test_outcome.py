from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest

from app.mining import precedents
from app.mining.outcome import evaluate
from app.mining.round import EarlierRound
from app.protocol.errors import ConfigError, RoundError
from app.protocol.evaluation import Mark, Reason
from app.protocol.fixed_point import MODEL_DTYPE, UPDATE_DTYPES
from app.protocol.record import RoundRecord
from app.protocol.tensors import pack, unpack
from strategies.aggregation import AGGREGATORS

LAYOUT = (("head.weight", (8, 12)), ("head.bias", (12,)))


def _vector(blob: bytes) -> list[int]:
    return unpack(blob, LAYOUT, MODEL_DTYPE).tolist()


def _by_hand(world, reputation: list[int]) -> tuple[set[int], list[int]]:
    """Multi-Krum and the weighted mean from their definitions, in Python's integers."""
    f, updates = world.policy.f, {i: world.update(i).tolist() for i in range(10)}
    score = {
        i: sum(
            sorted(sum((a - b) ** 2 for a, b in zip(u, v, strict=True)) for j, v in updates.items() if j != i)[
                : 10 - f - 2
            ]
        )
        for i, u in updates.items()
    }
    kept = set(sorted(score, key=lambda i: score[i])[: 10 - f])
    h = sum(reputation) // 10
    weights = {i: reputation[i] * min(50 + i, 54) for i in kept if reputation[i] >= h}  # the lower median claim is 54
    total = sum(weights.values())
    model = [
        int(old) + (2 * sum(w * updates[i][k] for i, w in weights.items()) + total) // (2 * total)
        for k, old in enumerate(world.model_vector)
    ]
    return kept, model


@pytest.mark.parametrize("reputation", [(5,) * 10, (9, 1, 4, 5, 6, 7, 10, 2, 3, 8)])
def test_against_the_definitions(world, reputation: tuple[int, ...]) -> None:
    outcome = evaluate(world.seal(reputation=reputation), world.store)
    kept, model = _by_hand(world, list(reputation))
    assert {entry.index for entry in outcome.evaluation.customers if entry.selected} == kept
    assert _vector(outcome.model) == model
    assert not outcome.evaluation.void


def test_any_order_gives_the_same_record(world) -> None:
    updates = {i: world.update(i) for i in range(10)}
    reference = evaluate(world.seal(updates), world.store)
    for seed in range(5):
        order = list(range(10))
        random.Random(seed).shuffle(order)
        again = evaluate(world.seal({i: updates[i] for i in order}), world.store)
        assert again == reference
        assert again.model == reference.model


def test_the_outcome_does_not_depend_on_threads(world, make_world) -> None:
    """Another object with the same content, evaluated anew, is equal though its seconds are not."""
    one, other = evaluate(world.seal(), world.store), make_world()
    two = evaluate(other.seal(), other.store)
    assert one == two
    assert min(one.fetch_seconds, one.compute_seconds) > 0


@pytest.mark.parametrize("rule", ["outlier", "paper"])
def test_a_sign_flipped_update_is_caught(make_world, rule: str) -> None:
    world = make_world(evaluation=rule)
    updates = {i: world.update(i, -3 if i == 4 else 1) for i in range(10)}
    evaluation = evaluate(world.seal(updates), world.store).evaluation
    entry = next(e for e in evaluation.customers if e.index == 4)
    assert (entry.mark, entry.reason, entry.selected, entry.weight) == (Mark.L, Reason.DISSIMILAR, False, 0)
    lows = {e.index for e in evaluation.customers if e.mark is Mark.L}
    assert lows == {4} if rule == "outlier" else len(lows) == 2
    assert evaluation.rule == rule
    assert set(evaluation.honest) == set(range(10)) - lows


def test_the_dropped_are_not_aggregated_even_with_an_h(world) -> None:
    entries = evaluate(world.seal(), world.store).evaluation.customers
    dropped = [entry for entry in entries if not entry.selected]
    assert len(dropped) == world.policy.f
    assert all(entry.mark is Mark.H and entry.weight == 0 for entry in dropped)


def _left_behind(world) -> dict[int, np.ndarray]:
    """A late round: nine have converged and go nowhere together, the tenth still asks for a large step elsewhere."""
    common = world.update(0) + world.update(1)
    updates = {}
    for index in range(10):
        own = np.random.default_rng([4, index]).normal(0, 300 if index == 9 else 20, len(common))
        updates[index] = np.rint(own - common * (own @ common) / (common @ common)).astype(np.int64)
    return updates


def test_who_went_along_earlier_is_not_blamed_for_being_left_behind(make_world) -> None:
    for scale, marks in ((1.0, set()), (-3.0, {9})):
        world = make_world(f=1)
        early = world.seal({i: world.update(i, scale if i == 9 else 1) for i in range(10)})
        late = world.seal(_left_behind(world), round_number=2, earlier=(world.past(early),))
        evaluation = evaluate(late, world.store).evaluation
        assert {e.index for e in evaluation.customers if e.mark is Mark.L} == marks
        assert next(e for e in evaluation.customers if e.index == 9).score > 3 * evaluation.usual
    alone = evaluate(world.seal(_left_behind(world)), world.store).evaluation
    assert {e.index for e in alone.customers if e.mark is Mark.L} == {9}


def test_what_earlier_records_say_is_the_same_however_it_was_come_by(world, monkeypatch: pytest.MonkeyPatch) -> None:
    pasts: tuple[EarlierRound, ...] = ()
    for number in (1, 2, 3):
        updates = {i: np.roll(world.update(i), number) for i in range(number - 1, 10)}
        pasts += (world.past(world.seal(updates, round_number=number, earlier=pasts)),)
    sealed = world.seal(round_number=4, earlier=pasts)
    warm = precedents.standing(sealed, world.store)
    monkeypatch.setattr(precedents, "_evaluations", {})
    monkeypatch.setattr(precedents, "_MANY", 1)  # nothing is kept for long
    assert precedents.standing(sealed, world.store) == warm
    evaluations = [RoundRecord.from_bytes(world.store.blobs[past.record.cid]).evaluation for past in pasts]
    assert warm.usual == max(evaluation.usual for evaluation in evaluations)
    for index in range(10):
        scored = [(e, entry) for e in evaluations for entry in e.customers if entry.index == index]
        assert len(scored) == min(3, index + 1)  # the first two customers miss rounds
        assert warm.reach[index] == sum(e.reach for e, _ in scored)
        assert warm.aligned[index] == sum(entry.cosine * e.reach for e, entry in scored)
    del world.store.blobs[pasts[0].record.cid]
    with pytest.raises(RoundError, match="record of round 1"):
        evaluate(sealed, world.store)


def test_the_isolated_are_scored_but_not_aggregated(world) -> None:
    reputation = (1, *(5,) * 9)
    outcome = evaluate(world.seal(reputation=reputation), world.store)
    entry = next(e for e in outcome.evaluation.customers if e.index == 0)
    assert outcome.evaluation.threshold == 4
    assert entry.isolated
    assert entry.score is not None
    assert entry.weight == 0
    assert entry.mark is Mark.H
    assert sum(e.isolated for e in outcome.evaluation.customers) == 1


def test_a_claim_of_a_billion_examples_gains_nothing(world, with_receipt) -> None:
    honest = evaluate(world.seal(tweaks={1: with_receipt(examples=100)}), world.store)
    greedy = evaluate(world.seal(tweaks={1: with_receipt(examples=10**9)}), world.store)
    assert greedy.model == honest.model
    assert {e.weight for e in greedy.evaluation.customers if e.index == 1} <= {0, 5 * 55}  # the lower median claim


def test_too_few_valid_updates_void_the_round(world, with_receipt) -> None:
    """f = 2 wants seven: with six, nothing is aggregated and only the invalid ones pay."""
    tweaks = {i: with_receipt(model=b"\7" * 32) for i in range(4)}
    outcome = evaluate(world.seal(tweaks=tweaks), world.store)
    assert outcome.evaluation.void
    assert outcome.model == world.store.get(world.model, 10**6)
    assert outcome.evaluation.honest == tuple(range(4, 10))
    assert all(e.score is None and not e.selected and e.weight == 0 for e in outcome.evaluation.customers)


def test_exactly_enough_valid_updates_do_not(world, with_receipt) -> None:
    outcome = evaluate(world.seal(tweaks={i: with_receipt(model=b"\7" * 32) for i in range(3)}), world.store)
    assert not outcome.evaluation.void
    assert sum(e.selected for e in outcome.evaluation.customers) == 5


def test_no_weight_leaves_the_model(world) -> None:
    outcome = evaluate(world.seal(reputation=(0,) * 10), world.store)
    assert not outcome.evaluation.void
    assert outcome.model == world.store.get(world.model, 10**6)


def test_where_only_the_isolated_are_selected_the_model_stays(make_world) -> None:
    """Seven isolated customers agree; the three with a reputation are far away from them and from each other."""
    world = make_world(f=3)
    updates = {i: world.update(i) if i < 7 else world.update(i, -4 * (i - 6)) for i in range(10)}
    outcome = evaluate(world.seal(updates, reputation=(1,) * 7 + (10,) * 3), world.store)
    assert {e.index for e in outcome.evaluation.customers if e.selected} == set(range(7))
    assert all(e.weight == 0 for e in outcome.evaluation.customers)
    assert outcome.model == world.store.get(world.model, 10**6)


def test_a_round_with_some_of_the_customers(world) -> None:
    present = (0, 2, 3, 5, 6, 8, 9)
    reputation = tuple(range(10))
    evaluation = evaluate(
        world.seal({i: world.update(i) for i in present}, reputation=reputation), world.store
    ).evaluation
    assert evaluation.participants == present
    assert evaluation.threshold == sum(present) // 7
    assert [int(e.customer, 16) for e in evaluation.customers] == sorted(int(world.customers[i], 16) for i in present)
    assert all(e.gamma == e.index for e in evaluation.customers)


def test_saturated_entries_are_counted(world) -> None:
    updates = {i: world.update(i) for i in range(10)}
    updates[3][:5] = [-(2**15), 2**15 - 1, -(2**15), 2**15 - 2, 2**15 - 1]
    entries = evaluate(world.seal(updates), world.store).evaluation.customers
    assert {e.index: e.saturated for e in entries} == {i: 4 if i == 3 else 0 for i in range(10)}


def test_the_model_saturates(make_world) -> None:
    world = make_world()
    world.model_vector = np.full(108, 2**31 - 1)
    world.model = world.store.put(pack(world.model_vector, LAYOUT, MODEL_DTYPE))
    updates = {i: np.abs(world.update(i)) + 1 for i in range(10)}
    assert set(_vector(evaluate(world.seal(updates), world.store).model)) == {2**31 - 1}


@pytest.mark.parametrize("key", ["evaluation", "aggregator"])
def test_an_unknown_rule_is_refused(make_world, key: str) -> None:
    world = make_world(**{key: "krum"})
    with pytest.raises(ConfigError, match=rf"strategy\.{key}"):
        evaluate(world.seal(), world.store)


@pytest.mark.parametrize("name", AGGREGATORS)
def test_every_rule_makes_its_model_and_says_its_name(make_world, name: str) -> None:
    """Customer 4 flips the sign of its update: only averaging lets it in, and every rule marks it L."""
    world = make_world(aggregator=name)
    updates = {i: world.update(i, -3 if i == 4 else 1) for i in range(10)}
    outcome = evaluate(world.seal(updates, reputation=(1, *(5,) * 9)), world.store)
    entries = {entry.index: entry for entry in outcome.evaluation.customers}
    assert outcome.evaluation.aggregator == name
    assert {i for i, entry in entries.items() if entry.mark is Mark.L} == {4}
    assert entries[0].isolated
    assert entries[0].weight == 0
    assert (entries[4].weight == 0) is (name in ("multi_krum", "nnm_krum"))
    honest = np.stack([updates[i] for i in range(1, 10) if i != 4])
    step = np.array(_vector(outcome.model)) - world.model_vector
    within = (step >= honest.min(axis=0)) & (step <= honest.max(axis=0))
    assert within.all() is np.bool_(name != "fedavg")


def test_int32_updates_go_through_the_same_path(make_world) -> None:
    """A hundred thousand times what int16 holds, one entry saturated; the model saturates at int32 too."""
    world = make_world(precision="int32")
    updates = {i: world.update(i) * 100_000 for i in range(10)}
    updates[3][:2] = [-(2**31), 2**31 - 1]
    outcome = evaluate(world.seal(updates), world.store)
    entries = outcome.evaluation.customers
    assert {e.index: e.saturated for e in entries if e.saturated} == {3: 2}
    weights = {e.index: e.weight for e in entries if e.weight}
    total = sum(weights.values())
    assert len(weights) == 8
    step = [(2 * sum(w * int(updates[i][k]) for i, w in weights.items()) + total) // (2 * total) for k in range(108)]
    assert _vector(outcome.model) == [
        min(2**31 - 1, max(-(2**31), int(old) + change)) for old, change in zip(world.model_vector, step, strict=True)
    ]


def test_an_update_of_the_other_precision_is_malformed(make_world, with_blob) -> None:
    world = make_world(precision="int32")
    narrow = pack(world.update(5), LAYOUT, UPDATE_DTYPES["int16"])
    entries = evaluate(world.seal(tweaks={5: with_blob(narrow)}), world.store).evaluation.customers
    assert {e.index for e in entries if e.reason is Reason.MALFORMED} == {5}


@pytest.mark.parametrize("name", ["multi_krum", "nnm_krum"])
def test_above_the_cohort_a_round_is_scored_through_buckets(make_world, name: str) -> None:
    world = make_world(customers=30, f=3, cohort=9, aggregator=name)
    updates = {i: world.update(i, -3 if i in (4, 8, 15) else 1) for i in range(30)}
    outcome = evaluate(world.seal(updates), world.store)
    assert outcome.evaluation.buckets == 9
    assert {e.index for e in outcome.evaluation.customers if e.mark is Mark.L} == {4, 8, 15}
    assert {e.index for e in outcome.evaluation.customers if e.weight == 0} == {4, 8, 15}
    shuffled = list(updates)
    random.Random(1).shuffle(shuffled)
    assert evaluate(world.seal({i: updates[i] for i in shuffled}), world.store) == outcome
    few = evaluate(world.seal({i: updates[i] for i in (0, 1, 2, 3, 4, 5, 6, 7, 9)}), world.store)
    assert few.evaluation.buckets == 0


def test_who_meets_whom_depends_on_the_rounds_seed_and_its_root(make_world) -> None:
    world = make_world(customers=30, f=3, cohort=9)
    sealed, other = world.seal(), world.seal({i: world.update(i, 1 + (i == 0)) for i in range(30)})
    scores = [
        [e.score for e in evaluate(given, world.store).evaluation.customers if e.index]
        for given in (sealed, replace(sealed, seed=b"\7" * 32), other)
    ]
    assert scores[0] != scores[1]
    assert scores[0] != scores[2]


def test_a_mixing_rule_weighs_by_how_often_an_update_is_drawn(make_world) -> None:
    world = make_world(aggregator="nnm_krum")
    entries = evaluate(world.seal(), world.store).evaluation.customers
    drawn = [entry.weight // (entry.gamma * min(50 + entry.index, 54)) for entry in entries]
    assert sum(drawn) == 8 * 8  # n - f mixtures of n - f updates each
    assert all(entry.selected is (share > 0) for entry, share in zip(entries, drawn, strict=True))


def test_the_task_is_the_policys_digest(world) -> None:
    evaluation = evaluate(world.seal(), world.store).evaluation
    assert evaluation.task == world.policy.digest
    assert replace(evaluation, customers=()).participants == ()


def test_the_tasks_cap_counts_where_it_is_less_than_the_median(make_world) -> None:
    world = make_world(examples_cap=20)
    weights = {entry.weight for entry in evaluate(world.seal(), world.store).evaluation.customers}
    assert weights == {0, 5 * 20}
