"""Adversaries of simulations: who they are, what they send, and that honest code knows nothing of them."""

from __future__ import annotations

import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

import app.customer.customer
from app.customer.attacks import ATTACKS, COLLUDING, SCALED, SPYING, AttackConfig, Participant
from app.customer.attacks.attackers import Attacker
from app.customer.attacks.foresight import strikers
from app.customer.attacks.vectors import alie, ipm, min_max
from app.customer.customer import Contribution, Customer
from app.overrides import groups
from app.protocol.announcement import Announcement
from app.protocol.digest import sha256
from app.protocol.errors import ConfigError, ProtocolError
from app.protocol.fixed_point import UPDATE_DTYPE
from app.protocol.receipt import SignedReceipt
from app.protocol.tensors import pack, unpack
from strategies.reputation import next_reputation, threshold
from tests.customer.hostile_customers import SPOILS, hostile
from tests.customer.world import ATTACK, CUSTOMERS, DOMAIN, NONE, World, world

LAST = CUSTOMERS - 1
HOSTILE = 2
Integers = npt.NDArray[np.int64]


def attacked(name: str = "sign_flip", **changes: object) -> World:
    return world(NONE).with_config(attack=ATTACK | {"name": name, "count": HOSTILE, "scale": 2.0} | changes)


def send(of: World, home: Path, index: int = LAST, round_number: int = 1, model: bytes | None = None) -> Contribution:
    blob = of.model if model is None else model
    told = Announcement(DOMAIN, of.policy.digest, round_number, sha256(blob))
    return of.customer(index, home).participate(told, of.policy.to_bytes(), of.frozen, blob)


def sent(of: World, contribution: Contribution) -> Integers:
    return unpack(contribution.update, of.policy.layout, UPDATE_DTYPE)


@cache
def learnt(index: int) -> npt.NDArray[np.float64]:
    """What an honest customer learns in round 1; the seed does not depend on the attack."""
    import tempfile

    with tempfile.TemporaryDirectory() as home:
        of = world(NONE)
        customer = of.customer(index, Path(home))
        assert isinstance(customer, Customer)
        return customer.learn(of.announcement(), *of.blobs()).delta


def on_grid(of: World, delta: npt.NDArray[np.float64]) -> Integers:
    return of.policy.grid.encode(delta, UPDATE_DTYPE)[0]


def test_the_last_customers_are_hostile(tmp_path: Path) -> None:
    of = attacked()
    kinds = [isinstance(of.customer(index, tmp_path), Attacker) for index in range(CUSTOMERS)]
    assert kinds == [False, False, False, True, True]
    for quiet in (world(NONE), attacked(count=0)):
        assert {type(quiet.customer(index, tmp_path)) for index in range(CUSTOMERS)} == {Customer}


@pytest.mark.parametrize("name", sorted(set(ATTACKS) - {"silent"}))
def test_every_attack_signs_a_valid_receipt_once_a_round_and_is_the_same_anywhere(tmp_path: Path, name: str) -> None:
    of = attacked(name, jitter=0.1 if name in COLLUDING else 0.0)
    one, other = send(of, tmp_path / "a"), send(of, tmp_path / "b")
    assert one.update == other.update  # the seed decides, not the place or what ran before
    assert one.receipt.signer(DOMAIN) == of.customer(LAST, tmp_path / "a").address == one.receipt.customer
    assert one.receipt.receipt.update == sha256(one.update)
    lines = (tmp_path / "a" / f"{LAST:05d}" / "phone" / "receipts.jsonl").read_bytes().splitlines()
    assert len(lines) == 1  # it never signed the honest one


@pytest.mark.parametrize("scale", [1.0, 2.5])
def test_a_flipped_update_points_back(tmp_path: Path, scale: float) -> None:
    of = attacked(scale=scale)
    assert np.array_equal(sent(of, send(of, tmp_path)), on_grid(of, -scale * learnt(LAST)))


def test_a_strong_attack_saturates(tmp_path: Path) -> None:
    of = attacked(scale=1e6)
    contribution = send(of, tmp_path)
    assert contribution.saturated > 0
    assert np.abs(sent(of, contribution)).max() == 32768


def test_flipped_labels_teach_something_else(tmp_path: Path) -> None:
    of = attacked("label_flip")
    flipped, honest = sent(of, send(of, tmp_path)).astype(float), learnt(LAST)
    cosine = flipped @ honest / np.linalg.norm(flipped) / np.linalg.norm(honest)
    assert np.linalg.norm(flipped) > 0
    assert cosine < 0.5


def test_noise_is_not_the_same_twice(tmp_path: Path) -> None:
    of = attacked("gaussian")
    first, second = (sent(of, send(of, tmp_path, index)).astype(float) for index in (LAST - 1, LAST))
    assert abs(first @ second) < 0.1 * np.linalg.norm(first) * np.linalg.norm(second)


@pytest.mark.parametrize("knowledge", ["omniscient", "colluders"])
@pytest.mark.parametrize(("name", "formula"), [("alie", alie), ("ipm", ipm), ("min_max", min_max)])
def test_colluders_send_what_the_formula_makes_of_the_updates_they_know(
    tmp_path: Path, name: str, formula: object, knowledge: str
) -> None:
    of = attacked(name, knowledge=knowledge)
    known = range(CUSTOMERS - HOSTILE) if knowledge == "omniscient" else range(CUSTOMERS - HOSTILE, CUSTOMERS)
    expected = on_grid(of, formula(np.stack([learnt(index) for index in known]), 2.0))  # type: ignore[operator]
    assert all(np.array_equal(sent(of, send(of, tmp_path, i)), expected) for i in (LAST - 1, LAST))


def test_jitter_tells_colluders_apart(tmp_path: Path) -> None:
    of = attacked("ipm", jitter=0.1)
    assert send(of, tmp_path, LAST - 1).update != send(of, tmp_path, LAST).update


def test_if_all_are_hostile_they_know_each_other_alone(tmp_path: Path) -> None:
    of = attacked("ipm", count=CUSTOMERS)
    everyone = np.stack([learnt(index) for index in range(CUSTOMERS)])
    assert np.array_equal(sent(of, send(of, tmp_path)), on_grid(of, ipm(everyone, 2.0)))


def test_a_copycat_sends_its_victims_bytes(tmp_path: Path) -> None:
    of = attacked("copycat", scale=1.0)
    victim = send(of, tmp_path / "honest", 1)
    copy = send(of, tmp_path / "hostile", LAST)
    assert copy.update == victim.update
    assert copy.receipt.customer != victim.receipt.customer
    assert send(of, tmp_path, LAST - 1).update == send(of, tmp_path / "honest", 0).update


def test_a_free_rider_sends_what_the_last_round_changed(tmp_path: Path) -> None:
    of = attacked("free_rider", scale=1.0)
    assert np.array_equal(sent(of, send(of, tmp_path)), on_grid(of, learnt(LAST)))
    model = unpack(of.model, of.policy.layout, np.dtype(np.int32))
    change = np.random.default_rng(0).integers(-500, 500, model.shape)
    moved = pack(model + change, of.policy.layout, np.dtype(np.int32))
    assert np.array_equal(sent(of, send(of, tmp_path, round_number=2, model=moved)), change)


def test_a_replay_is_the_first_rounds_update(tmp_path: Path) -> None:
    of = attacked("replay")
    first = send(of, tmp_path)
    assert np.array_equal(sent(of, first), on_grid(of, learnt(LAST)))
    assert send(of, tmp_path, round_number=2).update == first.update


def test_zero_changes_nothing(tmp_path: Path) -> None:
    of = attacked("zero")
    assert not sent(of, send(of, tmp_path)).any()


def test_an_inflated_claim_is_all_that_differs(tmp_path: Path) -> None:
    of = attacked("inflate", scale=1e6)
    contribution = send(of, tmp_path / "hostile")
    honest = send(world(NONE), tmp_path / "honest")
    assert contribution.update == honest.update
    assert contribution.receipt.receipt.examples == 10**6 * honest.receipt.receipt.examples


def test_silence_is_an_error_and_no_update(tmp_path: Path) -> None:
    with pytest.raises(ProtocolError, match="silent"):
        send(attacked("silent"), tmp_path)


def test_a_malformed_update_is_not_one_of_the_task(tmp_path: Path) -> None:
    of = attacked("malformed")
    assert not readable(of, send(of, tmp_path).update)


@pytest.mark.parametrize("crew", [range(9, 10), range(8, 10), range(7, 10)])
def test_who_knows_the_rule_is_not_isolated_by_it(crew: range) -> None:
    """The decoy pays; the others strike often, and are never below the threshold once all are at the maximum."""
    gammas: tuple[int, ...] = (5,) * 10
    struck = dict.fromkeys(crew, 0)
    for number in range(1, 101):
        chosen = strikers(number, 10, crew, 5, 10)
        assert chosen <= set(crew)
        if number > 30:
            assert all(gammas[i] >= threshold(gammas) for i in crew[1:])
        for index in chosen:
            struck[index] += 1
        gammas = next_reputation(gammas, range(10), set(range(10)) - chosen, 10)
    assert 5 <= struck[crew[0]] <= 20
    assert all(count >= 30 for index, count in struck.items() if index != crew[0])


def test_an_intermittent_attacker_is_honest_between_its_strikes(tmp_path: Path) -> None:
    of = attacked("intermittent")
    crew = range(CUSTOMERS - HOSTILE, CUSTOMERS)
    for index in crew:
        strikes = index in strikers(1, CUSTOMERS, crew, of.policy.gamma_initial, of.policy.gamma_max)
        expected = on_grid(of, (-2.0 if strikes else 1.0) * learnt(index))
        assert np.array_equal(sent(of, send(of, tmp_path, index)), expected)
    assert {i in strikers(1, CUSTOMERS, crew, 5, 10) for i in crew} == {True, False}


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"name": "krum_breaker"}, "attack.name"),
        ({"count": -1}, "attack.count"),
        ({"scale": 0.0}, "attack.scale"),
        ({"scale": float("nan")}, "attack.scale"),
        ({"knowledge": "all"}, "attack.knowledge"),
        ({"jitter": -0.1}, "attack.jitter"),
        ({"jitter": float("nan")}, "attack.jitter"),
    ],
)
def test_impossible_attacks_name_their_key(changes: dict[str, object], key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        AttackConfig(**ATTACK | {"name": "sign_flip", "count": 1} | changes)  # type: ignore[arg-type]
    assert caught.value.key == key


def test_an_unknown_attack_says_which_there_are() -> None:
    with pytest.raises(ConfigError, match=", ".join(["none", *ATTACKS])):
        AttackConfig("krum_breaker", 1, 1.0, "omniscient", 0.0)


def test_every_attack_has_its_file_and_its_class(tmp_path: Path) -> None:
    assert sorted(groups()["attack"]) == sorted(["none", *ATTACKS])
    assert set(COLLUDING) < set(SPYING) < set(SCALED) < set(ATTACKS)
    assert all(isinstance(attacked(name).customer(LAST, tmp_path), Attacker) for name in ATTACKS)


@pytest.mark.parametrize("module", ["customer", "phone", "mec", "shelf", "wire", "task"])
def test_honest_code_knows_no_attack(module: str) -> None:
    source = (Path(app.customer.customer.__file__).parent / f"{module}.py").read_text()
    assert "attack" not in source.lower()


def test_an_honest_customers_modules_load_no_attacker() -> None:
    code = "import sys, app.customer.customer, app.mining.miner; sys.exit('app.customer.attacks' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("name", sorted(SPOILS))
def test_hostile_customers_break_what_their_name_says(tmp_path: Path, name: str) -> None:
    """They are worth something only if what they send is really wrong."""
    of = world(NONE)
    customer: Participant = hostile(of.customer(0, tmp_path), name)
    if name == "raises":
        with pytest.raises(RuntimeError):
            customer.participate(of.announcement(), *of.blobs())
        return
    contribution = customer.participate(of.announcement(), *of.blobs())
    receipt = contribution.receipt.receipt
    assert SignedReceipt.from_json(contribution.receipt.to_json()) == contribution.receipt
    checks = {
        "signer": contribution.receipt.signer(DOMAIN) == receipt.customer,
        "customer": receipt.customer == customer.address,
        "round": receipt.round == of.announcement().round,
        "bytes": receipt.update == sha256(contribution.update) and receipt.size == len(contribution.update),
        "shape": readable(of, contribution.update),
    }
    broken = {
        "wrong_round": "round",
        "another_key": "signer",
        "another_customer": "customer",
        "another_blob": "bytes",
    }
    assert [check for check, passed in checks.items() if not passed] == [broken.get(name, "shape")]


def readable(of: World, update: bytes) -> bool:
    try:
        unpack(update, of.policy.layout, UPDATE_DTYPE)
    except ProtocolError:
        return False
    return True
