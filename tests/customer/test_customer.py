"""A customer's part in a round: checks, training, grid, receipt; the same bytes whatever else the process does."""

from __future__ import annotations

import random
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from app.customer.customer import Contribution, Customer, training_seed
from app.customer.simulation import split_model
from app.learning.training import accuracy_and_loss, features
from app.learning.views import manufacturer_view
from app.learning.weights import set_vector
from app.privacy.config import PrivacyConfig
from app.protocol.digest import sha256
from app.protocol.errors import PrivacyError, ProtocolError
from app.protocol.fixed_point import MODEL_DTYPE, UPDATE_DTYPE
from app.protocol.keys import simulation_account
from app.protocol.receipt import UNBOUNDED, SignedReceipt
from app.protocol.tensors import pack, unpack
from tests.customer.world import ATTACK, CUSTOMERS, DATA, DOMAIN, NONE, RECORD, ROUNDS, SEED, World, reference, world


def take_part(of: World, index: int, home: Path, round_number: int = 1) -> Contribution:
    return of.customer(index, home).participate(of.announcement(round_number), *of.blobs())


@pytest.mark.parametrize("privacy", [RECORD, NONE], ids=["record", "none"])
def test_a_round_end_to_end(tmp_path: Path, privacy: PrivacyConfig) -> None:
    """Five customers, one round, averaged: the model is no worse, and every receipt says what was spent."""
    of = world(privacy)
    contributions = [take_part(of, index, tmp_path) for index in range(CUSTOMERS)]
    layout = of.policy.layout
    updates = [unpack(contribution.update, layout, UPDATE_DTYPE) for contribution in contributions]
    for index, contribution in enumerate(contributions):
        receipt = contribution.receipt.receipt
        assert contribution.receipt.signer(DOMAIN) == receipt.customer
        assert receipt.customer == simulation_account(SEED, "customer", index).address
        assert (receipt.task, receipt.round, receipt.model) == (of.policy.digest, 1, sha256(of.model))
        assert (receipt.update, receipt.size) == (sha256(contribution.update), len(contribution.update))
        assert receipt.examples == contribution.examples > 100
        assert receipt.releases == 1
        spent = (8_000_000, 10_000_000) if privacy is RECORD else (UNBOUNDED, 0)
        assert (receipt.epsilonMicros, receipt.deltaPicos) == spent
        assert np.isfinite(contribution.loss)
        assert SignedReceipt.from_json(contribution.receipt.to_json()) == contribution.receipt
        assert updates[index].any()
    assert len({update.tobytes() for update in updates}) == CUSTOMERS
    before = unpack(of.model, layout, MODEL_DTYPE)
    assert accuracy(of, before + sum(updates) // CUSTOMERS) > accuracy(of, before) - 0.02


def accuracy(of: World, weights: np.ndarray) -> float:
    model, test = split_model(of.policy, of.frozen), manufacturer_view(DATA, CUSTOMERS, SEED).test
    set_vector(model.mec, of.policy.grid.decode(weights))
    return accuracy_and_loss(model.mec, features(model.phone, test), test.labels)[0]


def test_a_contribution_can_be_repeated_bit_for_bit(tmp_path: Path) -> None:
    """Another machine, another folder, other global generators, other customers before: the same bytes."""
    of = world(NONE)
    alone = take_part(of, 2, tmp_path / "a")
    random.seed(1)
    np.random.seed(1)
    torch.manual_seed(1)
    for index in (4, 0, 3):
        take_part(of, index, tmp_path / "b")
    assert take_part(of, 2, tmp_path / "b") == alone
    assert take_part(of, 2, tmp_path / "b") == alone  # and again, from the cache


@pytest.mark.parametrize("of", [world(RECORD), world(NONE)], ids=["record", "none"])
def test_threads_change_nothing(of: World, tmp_path: Path) -> None:
    """All customers at once, many times over, in threads that start together."""
    expected = [take_part(of, index, tmp_path / "alone") for index in range(CUSTOMERS)]
    for attempt in range(3):
        barrier = threading.Barrier(CUSTOMERS)

        def run(index: int, home: Path, barrier: threading.Barrier = barrier) -> Contribution:
            barrier.wait()
            return take_part(of, index, home)

        with ThreadPoolExecutor(CUSTOMERS) as pool:
            order = random.Random(attempt).sample(range(CUSTOMERS), CUSTOMERS)
            jobs = {index: pool.submit(run, index, tmp_path / str(attempt)) for index in order}
            assert [jobs[index].result() for index in range(CUSTOMERS)] == expected


def test_participating_leaves_the_global_generators_alone(tmp_path: Path) -> None:
    of = world(NONE)
    customer = of.customer(0, tmp_path)
    customer.participate(of.announcement(), *of.blobs())
    torch.manual_seed(9)
    np.random.seed(9)
    expected = torch.rand(3), np.random.random(3)
    torch.manual_seed(9)
    np.random.seed(9)
    customer.participate(of.announcement(2), *of.blobs())
    assert torch.equal(torch.rand(3), expected[0])
    assert np.array_equal(np.random.random(3), expected[1])


def test_rounds_and_customers_train_with_seeds_of_their_own() -> None:
    seeds = {training_seed(s, r, c) for s in range(4) for r in range(12) for c in range(12)}
    assert len(seeds) == 4 * 12 * 12
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert training_seed(0, 1, 0) == 3303362651077521263  # pinned: a change would change every run


def test_every_round_trains_on_the_one_release(tmp_path: Path) -> None:
    of = world()
    rounds = [take_part(of, 1, tmp_path, number) for number in range(1, ROUNDS + 1)]
    assert {contribution.receipt.receipt.releases for contribution in rounds} == {1}
    assert len((tmp_path / "00001" / "phone" / "privacy.jsonl").read_bytes().splitlines()) == 2
    kept = (tmp_path / "00001" / "phone" / "receipts.jsonl").read_bytes().splitlines()
    assert len(kept) == ROUNDS


def test_when_the_mec_has_lost_its_cache_it_gets_the_same_release_at_no_cost(tmp_path: Path) -> None:
    of = world()
    before = take_part(of, 1, tmp_path)
    (cached,) = (tmp_path / "00001" / "mec").iterdir()
    content = cached.read_bytes()
    cached.unlink()
    assert take_part(of, 1, tmp_path) == before
    assert cached.read_bytes() == content
    cached.write_bytes(content[:-9] + b"damaged!!")
    assert take_part(of, 1, tmp_path) == before
    assert cached.read_bytes() == content


def test_a_phone_without_budget_takes_no_part(tmp_path: Path) -> None:
    of = world()
    take_part(of, 1, tmp_path)
    again = of.with_config(seed=SEED, privacy=of.policy.config["privacy"] | {"clip": 0.9})
    with pytest.raises(PrivacyError, match="release refused"):
        take_part(again, 1, tmp_path)


def test_what_was_not_announced_is_refused_and_nothing_is_released(tmp_path: Path) -> None:
    of = world()
    customer, told = of.customer(0, tmp_path), of.announcement()
    policy, frozen, model = of.blobs()
    cases = {
        "policy is not": (replace(told, task=b"x" * 32), policy, frozen, model),
        "global model is not": (replace(told, model=b"x" * 32), policy, frozen, model),
        "frozen part is not": (told, policy, frozen + b" ", model),
        "round 0": (replace(told, round=0), policy, frozen, model),
        f"round {ROUNDS + 1}": (replace(told, round=ROUNDS + 1), policy, frozen, model),
        "policy must be JSON": (replace(told, task=sha256(b"no")), b"no", frozen, model),
        "safetensors": (replace(told, model=sha256(b"no")), policy, frozen, b"no"),
    }
    for problem, (announcement, *blobs) in cases.items():
        with pytest.raises(ProtocolError, match=problem):
            customer.participate(announcement, *blobs)
    assert list(tmp_path.rglob("*.safetensors")) == []
    assert not (tmp_path / "00000" / "phone" / "privacy.jsonl").exists()


def test_a_model_of_another_shape_is_refused(tmp_path: Path) -> None:
    of = world()
    layout = (("other", (2, 2)),)
    blob = pack(np.zeros(4, np.int64), layout, MODEL_DTYPE)
    other = replace(of, policy=replace(of.policy, layout=layout, model=reference(blob)), model=blob)
    with pytest.raises(ProtocolError, match="layout"):
        take_part(other, 0, tmp_path)


def test_an_update_beyond_the_grid_saturates_and_is_counted(tmp_path: Path) -> None:
    of = world(NONE)
    customer = of.customer(0, tmp_path)
    assert isinstance(customer, Customer)
    learnt = customer.learn(of.announcement(), *of.blobs())
    contribution = customer.contribute(of.announcement(), replace(learnt, delta=np.full_like(learnt.delta, 100.0)))
    assert contribution.saturated == learnt.delta.size
    assert set(unpack(contribution.update, of.policy.layout, UPDATE_DTYPE)) == {32767}
    with pytest.raises(ProtocolError, match="NaN"):
        customer.contribute(of.announcement(), replace(learnt, delta=learnt.delta * np.nan))


@pytest.mark.parametrize(
    "change",
    [
        {"seed": "3"},
        {"seed": True},
        {"customers": None},
        {"data": {}},
        {"train": None},
        {"model": 7},
        {"privacy": {"name": "record"}},
        {"attack": ATTACK | {"scale": "1"}},
        {"attack": ATTACK | {"name": "unheard of"}},
    ],
)
def test_a_policy_without_a_tasks_configuration_is_refused(tmp_path: Path, change: dict[str, object]) -> None:
    with pytest.raises(ProtocolError, match="config"):
        world().with_config(**change).customer(0, tmp_path)


def test_customers_outside_the_task_are_refused(tmp_path: Path) -> None:
    for index in (-1, CUSTOMERS):
        with pytest.raises(ProtocolError, match=f"not {index}"):
            world().customer(index, tmp_path)


def test_with_the_operating_systems_randomness_two_runs_differ(tmp_path: Path) -> None:
    of = world(replace(RECORD, randomness="system"))
    one, two = (take_part(of, 0, tmp_path / name) for name in "ab")
    assert one.update != two.update
    assert take_part(of, 0, tmp_path / "a").update == one.update  # but a phone releases once
