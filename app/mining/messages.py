"""What one miner asks another, and how it answers: canonical JSON, read without trusting who wrote it.

Nothing in it needs a secret channel or a proof of who asks. A ticket proves itself by its VRF proof, a vote by its
signature; and whoever leads must be told them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from app.mining.election import next_seed
from app.mining.round import SealedRound
from app.mining.vote import Vote
from app.protocol.digest import BlobRef, bytes32, canonical_json, hex32, parse_json, unhex
from app.protocol.errors import ProtocolError
from app.protocol.record import Candidate, Ticket
from app.protocol.shapes import Shape, address, check, count, mapping, sequence, text
from app.protocol.signing import SIGNATURE_BYTES
from app.protocol.verdict import Verdict
from app.protocol.vrf import PROOF_BYTES

SERVICE = "hearth.Miner"
MOST_MINERS = 255


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked: a ticket for a sealed round, or a vote on it.

    Attributes
    ----------
    task, root : bytes
        Digest of the policy, and the sealed Merkle root (32 bytes each): the round as the one who asks sees it.
    round : int
        The round, from 1.
    tickets : tuple of Ticket
        For a vote: all that were shown.
    rank : int
        For a vote: who leads.
    """

    task: bytes
    round: int
    root: bytes
    tickets: tuple[Ticket, ...] = ()
    rank: int = 0

    @classmethod
    def about(cls, sealed: SealedRound, tickets: Sequence[Ticket] = (), rank: int = 0) -> Question:
        """Return the question about a sealed round."""
        return cls(sealed.policy.digest, sealed.round, sealed.root, tuple(tickets), rank)

    def to_bytes(self) -> bytes:
        """Return the message."""
        tickets = [ticket_to_json(ticket) for ticket in self.tickets]
        told = {"task": hex32(self.task), "round": self.round, "root": hex32(self.root)}
        return canonical_json(told | {"tickets": tickets, "rank": self.rank})

    @classmethod
    def from_bytes(cls, data: bytes) -> Question:
        """Read what `to_bytes` wrote; raise `ProtocolError` on anything else."""
        value = parse_json(data, "a miner's question")
        check(value, _QUESTION, "a miner's question")
        if len(value["tickets"]) > MOST_MINERS:
            raise ProtocolError(f"a miner's question has at most {MOST_MINERS} tickets")
        tickets = tuple(ticket_from_json(item) for item in value["tickets"])
        return cls(bytes32(value["task"]), value["round"], bytes32(value["root"]), tickets, value["rank"])


def ticket_to_json(ticket: Ticket) -> dict[str, Any]:
    """Return a ticket's JSON form."""
    return {"miner": ticket.miner, "proof": hex32(ticket.proof)}


def ticket_from_json(value: Any) -> Ticket:
    """Read what `ticket_to_json` wrote; raise `ProtocolError` on anything else."""
    check(value, _TICKET, "a ticket")
    return Ticket(value["miner"], unhex(value["proof"], PROOF_BYTES, "a ticket's proof"))


def vote_to_bytes(vote: Vote) -> bytes:
    """Return what a vote says beyond the question: the outcome, and the signature."""
    verdict = vote.verdict
    return canonical_json(
        {
            "model": hex32(verdict.model),
            "record": verdict.record.to_json(),
            "honest": list(verdict.honest),
            "signature": hex32(vote.signature),
        }
    )


def vote_from_bytes(data: bytes, sealed: SealedRound, leader: Candidate, rank: int) -> Vote:
    """Return the vote that `vote_to_bytes` wrote, as one on this round under this leader: its signature tells.

    Raises
    ------
    ProtocolError
        If it is no vote's form.
    """
    value = parse_json(data, "a vote")
    check(value, _VOTE, "a vote")
    honest = value["honest"]
    if not all(map(count, honest)) or not {*honest} <= {*sealed.participants} or sorted({*honest}) != honest:
        raise ProtocolError("a vote's honest customers are participants of the round, ascending")
    verdict = Verdict(
        task=sealed.policy.digest,
        round=sealed.round,
        root=sealed.root,
        model=bytes32(value["model"]),
        record=BlobRef.from_json(value["record"]),
        participants=sealed.participants,
        honest=tuple(honest),
        customers=len(sealed.customers),
        leader=leader.miner,
        rank=rank,
        seed=next_seed(leader.proof),
    )
    return Vote(verdict, unhex(value["signature"], SIGNATURE_BYTES, "a vote's signature"))


_QUESTION: Shape = {"task": text, "round": count, "root": text, "tickets": sequence, "rank": count}
_TICKET: Shape = {"miner": address, "proof": text}
_VOTE: Shape = {"model": text, "record": mapping, "honest": sequence, "signature": text}
