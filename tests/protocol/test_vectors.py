"""docs/vectors.json: what another implementation compares itself with; it must be what this one computes.

python -m tests.protocol.test_vectors > docs/vectors.json
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from eth_account import Account
from eth_account.messages import encode_typed_data
from eth_utils import keccak

from app.mining.election import draw, electorate, next_seed, rank
from app.mining.round import SealedRound
from app.protocol import vrf
from app.protocol.bitmap import bitmap
from app.protocol.card import MINER, Card
from app.protocol.cid import cid_to_bytes
from app.protocol.digest import canonical_json, hex32, sha256
from app.protocol.fixed_point import MODEL_DTYPE, UPDATE_DTYPES, Grid, divide_rounded
from app.protocol.keys import simulation_account, simulation_secret
from app.protocol.manifest import Manifest
from app.protocol.policy import Policy
from app.protocol.presence import Presence
from app.protocol.receipt import ENCODING, Receipt, SignedReceipt
from app.protocol.request import MecRequest
from app.protocol.seat import Seat
from app.protocol.signing import Domain
from app.protocol.tensors import pack
from app.protocol.verdict import Verdict
from app.store.base import reference
from strategies.reputation import next_reputation, threshold

FILE = Path(__file__).resolve().parent.parent.parent / "docs" / "vectors.json"
SEED = 2020
DOMAIN = Domain(31337, "0x5FbDB2315678afecb367f032d93F642f64180aa3")
LAYOUT = (("layers.0.weight", (2, 3)), ("layers.0.bias", (2,)))


def customers(count: int = 3) -> list[Any]:
    return [simulation_account(SEED, "customer", index) for index in range(count)]


def policy() -> Policy:
    model = pack(np.arange(8), LAYOUT, MODEL_DTYPE)
    return Policy(
        rounds=3,
        f=0,
        aggregator="multi_krum",
        evaluation="outlier",
        gamma_initial=5,
        gamma_max=10,
        examples_cap=1000,
        fractional_bits=14,
        weighting="equal",
        tau=3,
        cohort=256,
        precision="int16",
        copy_cosine=999_000,
        strikes=0,
        layout=LAYOUT,
        model=reference(model),
        frozen=reference(b"frozen"),
        config={"seed": SEED},
    )


def update(index: int) -> bytes:
    return pack(np.array([1, -2, 3, -4, 5, -6, 7, 8 + index]), LAYOUT, UPDATE_DTYPES["int16"])


def receipt(index: int) -> SignedReceipt:
    blob = reference(update(index))
    values = Receipt(
        task=policy().digest,
        round=1,
        customer=customers()[index].address,
        model=policy().model.sha256,
        update=blob.sha256,
        size=blob.size,
        cid=blob.cid,
        encoding=ENCODING,
        examples=100 + index,
        epsilonMicros=8_000_000,
        deltaPicos=10_000_000,
        releases=1,
    )
    return values.sign(customers()[index], DOMAIN)


def sealed() -> SealedRound:
    manifest = Manifest.of(1, [receipt(index) for index in range(3)])
    miners = [simulation_account(SEED, "miner", index) for index in range(4)]
    secrets = [simulation_secret(SEED, "vrf", index) for index in range(4)]
    return SealedRound(
        domain=DOMAIN,
        policy=policy(),
        round=1,
        root=manifest.tree(DOMAIN).root,
        manifest=reference(manifest.to_bytes()),
        participants=(0, 1, 2),
        customers=tuple(who.address for who in customers()),
        reputation=(5, 5, 5),
        model=policy().model,
        seed=sha256(b"hearth first seed" + policy().digest),
        miners=tuple(Seat(who.address, vrf.public_key(s)) for who, s in zip(miners, secrets, strict=True)),
        submitted=(),
        earlier=(),
    )


def vectors() -> dict[str, Any]:
    """Compute all vectors."""
    rules, round_ = policy(), sealed()
    signed = [receipt(index) for index in range(3)]
    manifest = Manifest.of(1, signed)
    tree = manifest.tree(DOMAIN)
    voters = electorate(round_)
    tickets = [
        draw(seat.miner, simulation_secret(SEED, "vrf", i), voters.message) for i, seat in enumerate(round_.miners)
    ]
    candidates = rank(tickets, voters)
    record = reference(b"a record")
    miner = simulation_account(SEED, "miner", 0)
    verdict = Verdict(
        rules.digest,
        1,
        tree.root,
        sha256(b"model"),
        record,
        (0, 1, 2),
        (0, 2),
        3,
        candidates[0].miner,
        0,
        next_seed(candidates[0].proof),
    )
    secret = simulation_secret(SEED, "vrf", 0)
    presence = Presence(rules.digest, 1, 2**63 + 5)
    request = MecRequest("mec.example.org:7800", "Holds", b"body", 1_600_000_000_000_000)
    card = Card(MINER, miner.address, vrf.public_key(secret), "10.0.0.1:7700").signed(miner)
    values = {"b": [1, 2.5, True, None], "a": "ä\n"}
    return {
        "about": "docs/protocol.md explains each; keys are a simulation's with seed 2020 and protect nothing",
        "domain": {"chainId": DOMAIN.chain_id, "verifyingContract": DOMAIN.contract},
        "keys": {
            "customers": [who.key.hex() for who in customers()],
            "miners": [simulation_account(SEED, "miner", index).key.hex() for index in range(4)],
            "vrf secrets": [simulation_secret(SEED, "vrf", index).hex() for index in range(4)],
        },
        "canonical json": {
            "value": values,
            "bytes": canonical_json(values).hex(),
            "sha256": sha256(canonical_json(values)).hex(),
        },
        "grid": {
            "fractional bits": 14,
            "reals": [0.1, -0.1, 1.5 * 2**-14, 2.5 * 2**-14, 3.0, -3.0],
            "int16": Grid(14)
            .encode([0.1, -0.1, 1.5 * 2**-14, 2.5 * 2**-14, 3.0, -3.0], UPDATE_DTYPES["int16"])[0]
            .tolist(),
        },
        "division": [
            [a, b, int(divide_rounded(np.array([a]), b)[0])] for a, b in ((7, 2), (-7, 2), (5, 3), (-5, 3), (0, 9))
        ],
        "update": {"blob": update(0).hex(), **reference(update(0)).to_json()},
        "cid in binary": cid_to_bytes(reference(update(0)).cid).hex(),
        "policy": {"bytes": rules.to_bytes().decode(), "digest": hex32(rules.digest)},
        "receipts": [
            {**one.to_json(), "digest": hex32(one.receipt.digest(DOMAIN)), "leaf": hex32(one.leaf(DOMAIN))}
            for one in signed
        ],
        "manifest": {
            "sha256": sha256(manifest.to_bytes()).hex(),
            "root": hex32(tree.root),
            "proof of the first by address": [hex32(sibling) for sibling in tree.proof(0)],
        },
        "vrf": {
            "public key": vrf.public_key(secret).hex(),
            "message": voters.message.hex(),
            "proof": vrf.prove(secret, voters.message).hex(),
            "output": vrf.proof_to_hash(vrf.prove(secret, voters.message)).hex(),
        },
        "election": [
            {"miner": one.miner, "weight": one.weight, "selected": one.selected, "proof": one.proof.hex()}
            for one in candidates
        ],
        "next seed": hex32(next_seed(candidates[0].proof)),
        "verdict": {
            "digest": hex32(verdict.digest(DOMAIN)),
            "participants": [hex(word) for word in bitmap(verdict.participants, 3)],
            "honest": [hex(word) for word in bitmap(verdict.honest, 3)],
            "record": record.to_json(),
            "signature": verdict.sign(miner, DOMAIN).hex(),
        },
        "reputation": {
            "before": [5, 5, 1, 10],
            "participants": [0, 1, 2, 3],
            "honest": [0, 2, 3],
            "threshold": threshold([5, 5, 1, 10]),
            "after": list(next_reputation((5, 5, 1, 10), (0, 1, 2, 3), (0, 2, 3), 10)),
        },
        "presence": {"node": str(presence.node), "signature": presence.sign(customers()[0], DOMAIN).hex()},
        "mec request": {"time": request.time, "signature": request.sign(customers()[0]).hex()},
        "card": json.loads(card.to_bytes()),
    }


def test_the_file_is_what_this_implementation_computes() -> None:
    assert json.loads(FILE.read_text()) == json.loads(json.dumps(vectors()))


@pytest.mark.parametrize("index", range(3))
def test_a_receipt_by_eip_712s_own_reference(index: int) -> None:
    """Not our code: eth-account encodes the typed data from the types that docs/protocol.md states."""
    types = [
        *(("task", "bytes32"), ("round", "uint256"), ("customer", "address"), ("model", "bytes32")),
        *(("update", "bytes32"), ("size", "uint64"), ("cid", "string"), ("encoding", "string")),
        *(("examples", "uint64"), ("epsilonMicros", "uint64"), ("deltaPicos", "uint64"), ("releases", "uint64")),
    ]
    told = json.loads(FILE.read_text())
    stated = told["receipts"][index]
    domain = {"name": "Hearth", "version": "1", **told["domain"]}
    message = {name: stated[name] for name, _ in types}
    full = {"Receipt": [{"name": name, "type": kind} for name, kind in types]}
    encoded = encode_typed_data(domain, full, message)
    assert "0x" + keccak(b"\x19" + encoded.version + encoded.header + encoded.body).hex() == stated["digest"]
    assert Account.recover_message(encoded, signature=stated["signature"]) == stated["customer"]
    assert asdict(receipt(index).receipt)["examples"] == stated["examples"]


if __name__ == "__main__":
    print(json.dumps(vectors(), indent=1, ensure_ascii=True))
