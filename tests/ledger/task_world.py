"""A task with all its parties, for tests of the contract and of its client; every party's key follows from its name."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
from eth_account import Account
from eth_account.signers.local import LocalAccount
from web3 import Web3

from app.ledger.chain import Chain
from app.ledger.task_ledger import FinaliseCall, TaskLedger, TaskTerms
from app.protocol.digest import BlobRef, sha256
from app.protocol.errors import ContractRevertedError
from app.protocol.receipt import ENCODING, Receipt, SignedReceipt
from app.protocol.seat import Seat

ETHER = 10**18
CID = "bafkreifzjut3te2nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e"
VERDICT = [
    ("task", "bytes32"),
    ("round", "uint256"),
    ("root", "bytes32"),
    ("model", "bytes32"),
    ("record", "bytes32"),
    ("recordSize", "uint64"),
    ("recordCid", "bytes"),
    ("participants", "uint256[]"),
    ("honest", "uint256[]"),
    ("leader", "address"),
    ("rank", "uint8"),
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


def set_time(chain: Chain, seconds: int) -> None:
    """Stop the clock of an embedded chain: its next block has this time, and every later one a second more."""
    chain.w3.provider._rpc._node._clock = lambda: float(seconds)  # type: ignore[attr-defined]


def now(chain: Chain) -> int:
    return int(chain.w3.eth.get_block("latest")["timestamp"])


@contextmanager
def reverts(error: str, *arguments: object) -> Iterator[None]:
    """The contract must refuse with exactly this error."""
    with pytest.raises(ContractRevertedError) as caught:
        yield
    assert (caught.value.error, caught.value.arguments) == (error, arguments)


class World:
    """A published task, and what its parties do."""

    def __init__(
        self, chain: Chain, n: int = 7, m: int = 4, batch: int = 200, members: Sequence[str] = (), **terms: Any
    ) -> None:
        """``members`` are addresses that take the places of the first customers."""
        self.n, self.miners = n, miners(m)
        self.terms = replace(TERMS, **terms)
        seats = [Seat(miner.address, digest("vrf", i), stake=i + 1) for i, miner in enumerate(self.miners)]
        self.addresses = [*members, *(who.address for who in customers(n)[len(members) :])]
        self.task = TaskLedger.publish(chain, MANUFACTURER, self.terms, self.addresses, seats, batch)

    def seal(self, round: int, participants: Sequence[int] | None = None) -> None:
        present = range(self.n) if participants is None else participants
        self.task.seal(MANUFACTURER, round, digest("root", round), blob("manifest", round), present)

    def receipt(
        self, index: int, round: int = 1, *, signer: LocalAccount | None = None, **changes: Any
    ) -> SignedReceipt:
        """The receipt of a customer for a round, signed by it; ``changes`` are made before the signing."""
        who = customers(self.n)[index]
        values = {
            "task": self.terms.policy,
            "round": round,
            "customer": who.address,
            "model": digest("model", round - 1),
            "update": digest("update", index, round),
            "size": 1000,
            "cid": CID,
            "encoding": ENCODING,
            "examples": 10,
            "epsilonMicros": 1_000_000,
            "deltaPicos": 10,
            "releases": 1,
        }
        return Receipt(**{**values, **changes}).sign(signer or who, self.task.domain)

    def submit(self, index: int, round: int = 1, **changes: Any) -> None:
        self.task.submit(STRANGER, self.receipt(index, round, **changes))

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
        message = dict(zip((name for name, _ in VERDICT), call.verdict(self.n), strict=True))
        types = {"Verdict": [{"name": name, "type": kind} for name, kind in VERDICT]}
        return bytes(who.sign_typed_data(full, types, message).signature)

    def finalise(
        self, round: int, participants: Iterable[int] | None = None, honest: Iterable[int] | None = None, **changes: Any
    ) -> None:
        self.task.finalise(self.miners[0], self.call(round, participants, honest, **changes))
