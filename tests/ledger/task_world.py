"""A task with all its parties, for tests of the contract and of its client; every party's key follows from its name."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

from eth_account import Account
from eth_account.signers.local import LocalAccount
from web3 import Web3

from app.ledger.chain import Chain
from app.ledger.task_ledger import FinaliseCall, TaskLedger, TaskTerms
from app.protocol.bitmap import bitmap
from app.protocol.digest import BlobRef, sha256

ETHER = 10**18
CID = "bafkreifzjut3te2nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e"
VERDICT = [
    ("task", "bytes32"),
    ("round", "uint256"),
    ("root", "bytes32"),
    ("model", "bytes32"),
    ("record", "bytes32"),
    ("participants", "uint256[]"),
    ("honest", "uint256[]"),
    ("leader", "address"),
    ("seed", "bytes32"),
]


@cache
def account(name: str) -> LocalAccount:
    return Account.from_key(Web3.keccak(text=name))


def digest(*words: object) -> bytes:
    return sha256(" ".join(map(str, words)).encode())


def blob(*words: object) -> BlobRef:
    return BlobRef(digest(*words), 1000, CID)


MANUFACTURER = account("manufacturer")
STRANGER = account("stranger")
TERMS = TaskTerms(digest("policy"), digest("model"), digest("seed"), rounds=3, f=2, gamma_initial=3, gamma_max=5)


def customers(n: int) -> list[LocalAccount]:
    return [account(f"customer {i}") for i in range(n)]


def miners(m: int) -> list[LocalAccount]:
    return [account(f"miner {i}") for i in range(m)]


def funded(n: int, m: int) -> dict[str, int]:
    return {who.address: 100 * ETHER for who in [MANUFACTURER, STRANGER, *customers(n), *miners(m)]}


class World:
    """A published task, and what its parties do."""

    def __init__(self, chain: Chain, n: int = 7, m: int = 4, batch: int = 200, **terms: Any) -> None:
        self.n, self.miners = n, miners(m)
        self.terms = replace(TERMS, **terms)
        keys = [(miner.address, digest("vrf", i)) for i, miner in enumerate(self.miners)]
        self.addresses = [who.address for who in customers(n)]
        self.task = TaskLedger.publish(chain, MANUFACTURER, self.terms, self.addresses, keys, batch)

    def seal(self, round: int, participants: Sequence[int] | None = None) -> None:
        present = range(self.n) if participants is None else participants
        self.task.seal(MANUFACTURER, round, digest("root", round), blob("manifest", round), present)

    def call(
        self, round: int, participants: Iterable[int] | None = None, honest: Iterable[int] | None = None, **changes: Any
    ) -> FinaliseCall:
        """What the leader would send for a round, signed by a quorum; ``changes`` are made before the signing."""
        present = tuple(range(self.n) if participants is None else participants)
        call = FinaliseCall(
            task=self.terms.policy,
            round=round,
            root=digest("root", round),
            manifest=blob("manifest", round).sha256,
            model=digest("model", round),
            record=blob("record", round),
            participants=present,
            honest=present if honest is None else tuple(honest),
            leader=self.miners[0].address,
            seed=digest("seed", round),
            signatures=(),
        )
        call = replace(call, **changes)
        return replace(call, signatures=self.sign(call, self.miners[: 2 * len(self.miners) // 3 + 1]))

    def sign(self, call: FinaliseCall, signers: Sequence[LocalAccount], **domain: Any) -> tuple[bytes, ...]:
        """Signatures of the verdict, by ascending signer."""
        ordered = sorted(signers, key=lambda who: int(who.address, 16))
        return tuple(self.signature(call, who, **domain) for who in ordered)

    def signature(self, call: FinaliseCall, who: LocalAccount, **domain: Any) -> bytes:
        full = {
            "name": "Hearth",
            "version": "1",
            "chainId": self.task.chain_id,
            "verifyingContract": self.task.address,
            **domain,
        }
        message = {
            "task": call.task,
            "round": call.round,
            "root": call.root,
            "model": call.model,
            "record": call.record.sha256,
            "participants": bitmap(call.participants, self.n),
            "honest": bitmap(call.honest, self.n),
            "leader": call.leader,
            "seed": call.seed,
        }
        types = {"Verdict": [{"name": name, "type": kind} for name, kind in VERDICT]}
        return bytes(who.sign_typed_data(full, types, message).signature)

    def finalise(
        self, round: int, participants: Iterable[int] | None = None, honest: Iterable[int] | None = None
    ) -> None:
        self.task.finalise(self.miners[0], self.call(round, participants, honest))
