"""Adversaries of simulations: who they are, what they send, and that honest code knows nothing of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import app.customer.customer
from app.customer.attacks import ATTACKS, AttackConfig, SignFlip
from app.customer.customer import Customer
from app.protocol.digest import sha256
from app.protocol.errors import ConfigError, ProtocolError
from app.protocol.fixed_point import UPDATE_DTYPE
from app.protocol.receipt import SignedReceipt
from app.protocol.tensors import unpack
from tests.customer.hostile_customers import SPOILS, hostile
from tests.customer.world import CUSTOMERS, DOMAIN, NONE, World, world


def attacked(scale: float = 2.0, count: int = 2) -> World:
    return world(NONE).with_config(attack={"name": "sign_flip", "count": count, "scale": scale})


def test_the_last_customers_are_hostile(tmp_path: Path) -> None:
    kinds = [type(attacked().customer(index, tmp_path)) for index in range(CUSTOMERS)]
    assert kinds == [Customer, Customer, Customer, SignFlip, SignFlip]
    assert {type(world(NONE).customer(index, tmp_path)) for index in range(CUSTOMERS)} == {Customer}
    assert {type(attacked(count=0).customer(index, tmp_path)) for index in range(CUSTOMERS)} == {Customer}


@pytest.mark.parametrize("scale", [1.0, 2.5])
def test_a_flipped_update_points_back_and_is_validly_signed(tmp_path: Path, scale: float) -> None:
    of, index = attacked(scale), CUSTOMERS - 1
    adversary = of.customer(index, tmp_path / "a")
    sent = adversary.participate(of.announcement(), *of.blobs())
    quiet = replace(of, policy=of.policy)  # the same task, so the same seed and the same honest update
    honest = Customer(adversary._customer._phone, adversary._customer._mec, index, adversary._customer._split_model)  # type: ignore[attr-defined]
    learnt = honest.learn(quiet.announcement(), *quiet.blobs())
    expected, saturated = of.policy.grid.encode(-scale * learnt.delta, UPDATE_DTYPE)
    assert np.array_equal(unpack(sent.update, of.policy.layout, UPDATE_DTYPE), expected)
    assert sent.saturated == saturated
    assert sent.receipt.signer(DOMAIN) == adversary.address == sent.receipt.receipt.customer
    assert sent.receipt.receipt.update == sha256(sent.update)
    lines = (tmp_path / "a" / f"{index:05d}" / "phone" / "receipts.jsonl").read_bytes().splitlines()
    assert len(lines) == 1  # it never signed the honest one


def test_a_strong_attack_saturates(tmp_path: Path) -> None:
    of = attacked(1e6)
    sent = of.customer(CUSTOMERS - 1, tmp_path).participate(of.announcement(), *of.blobs())
    assert sent.saturated > 0
    assert np.abs(unpack(sent.update, of.policy.layout, UPDATE_DTYPE)).max() == 32768


@pytest.mark.parametrize(
    ("name", "count", "scale", "key"),
    [
        ("krum_breaker", 1, 1.0, "attack.name"),
        ("sign_flip", -1, 1.0, "attack.count"),
        ("sign_flip", 1, 0.0, "attack.scale"),
        ("sign_flip", 1, float("nan"), "attack.scale"),
    ],
)
def test_impossible_attacks_name_their_key(name: str, count: int, scale: float, key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        AttackConfig(name, count, scale)
    assert caught.value.key == key


def test_an_unknown_attack_says_which_there_are() -> None:
    with pytest.raises(ConfigError, match=", ".join(["none", *ATTACKS])):
        AttackConfig("krum_breaker", 1, 1.0)


@pytest.mark.parametrize("module", ["customer", "phone", "mec", "shelf", "wire", "task"])
def test_honest_code_knows_no_attack(module: str) -> None:
    source = (Path(app.customer.customer.__file__).parent / f"{module}.py").read_text()
    assert "attack" not in source.lower()


@pytest.mark.parametrize("name", sorted(SPOILS))
def test_hostile_customers_break_what_their_name_says(tmp_path: Path, name: str) -> None:
    """They are worth something only if what they send is really wrong."""
    of = world(NONE)
    customer = hostile(of.customer(0, tmp_path), name)
    if name == "raises":
        with pytest.raises(RuntimeError):
            customer.participate(of.announcement(), *of.blobs())
        return
    sent = customer.participate(of.announcement(), *of.blobs())
    receipt = sent.receipt.receipt
    assert SignedReceipt.from_json(sent.receipt.to_json()) == sent.receipt
    checks = {
        "signer": sent.receipt.signer(DOMAIN) == receipt.customer,
        "customer": receipt.customer == customer.address,
        "round": receipt.round == of.announcement().round,
        "bytes": receipt.update == sha256(sent.update) and receipt.size == len(sent.update),
        "shape": readable(of, sent.update),
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
