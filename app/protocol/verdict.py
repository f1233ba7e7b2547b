"""The verdict: what every miner signs about a round, and what the contract finalises with a quorum."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from eth_account.signers.local import LocalAccount

from app.protocol.bitmap import bitmap
from app.protocol.cid import cid_to_bytes
from app.protocol.digest import BlobRef
from app.protocol.signing import Domain, Fields, recover, sign, struct_digest

_TYPE = "Verdict"
_FIELDS: Fields = (
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
)


@dataclass(frozen=True, slots=True)
class Verdict:
    """The outcome of a round.

    Attributes
    ----------
    task : bytes
        Digest of the task's policy (32 bytes).
    round : int
        The round, from 1.
    root : bytes
        The sealed Merkle root that was evaluated (32 bytes).
    model : bytes
        Digest of the new global model's blob (32 bytes).
    record : BlobRef
        The round's record: the evaluations and their reasons.
    participants, honest : tuple of int
        Indices of the customers whose receipts are sealed, and of those among them who were evaluated H; ascending.
    customers : int
        How many customers the task has: the bitmaps' length.
    leader : str
        Checksum address of the miner elected for the round.
    rank : int
        Its rank in the election, from 0: the contract takes its verdict once that rank's turn has come.
    seed : bytes
        The next round's seed: the leader's VRF output (32 bytes).
    """

    task: bytes
    round: int
    root: bytes
    model: bytes
    record: BlobRef
    participants: tuple[int, ...]
    honest: tuple[int, ...]
    customers: int
    leader: str
    rank: int
    seed: bytes

    def values(self) -> dict[str, Any]:
        """Return the struct's members as they are signed, customers as bitmaps."""
        return {
            "task": self.task,
            "round": self.round,
            "root": self.root,
            "model": self.model,
            "record": self.record.sha256,
            "recordSize": self.record.size,
            "recordCid": cid_to_bytes(self.record.cid),
            "participants": bitmap(self.participants, self.customers),
            "honest": bitmap(self.honest, self.customers),
            "leader": self.leader,
            "rank": self.rank,
            "seed": self.seed,
        }

    def digest(self, domain: Domain) -> bytes:
        """Return the EIP-712 digest (32 bytes)."""
        return struct_digest(domain, _TYPE, _FIELDS, self.values())

    def sign(self, account: LocalAccount, domain: Domain) -> bytes:
        """Return a miner's signature (65 bytes)."""
        return sign(account, domain, _TYPE, _FIELDS, self.values())

    def signer(self, signature: bytes, domain: Domain) -> str:
        """Return the address that made ``signature``; raise `ProtocolError` if it is malformed."""
        return recover(domain, _TYPE, _FIELDS, self.values(), signature)


class SignedVerdict(NamedTuple):
    """A verdict and a signature of it (65 bytes)."""

    verdict: Verdict
    signature: bytes


def contradict(one: Verdict, two: Verdict) -> bool:
    """Return whether nobody can honestly sign both; the same rule as the contract's, which takes a deposit for it.

    They must be on one sealed round. Evaluation and model are functions of the seal. Leader, record and seed are
    not: ranks take turns, and after a reorganisation of the chain the same seal may meet another election.
    """
    if (one.task, one.round, one.root) != (two.task, two.round, two.root):
        return False
    evaluations = [(said.participants, said.honest, said.customers) for said in (one, two)]
    return one.model != two.model or evaluations[0] != evaluations[1]


def quorum_of(miners: int) -> int:
    """Return how many of ``miners`` must sign: ``floor(2 m / 3) + 1``, which is 2f+1 of 3f+1."""
    return 2 * miners // 3 + 1
