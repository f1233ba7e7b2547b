"""The round record: what the miners found, with reasons, so that anybody can recompute it.

Its digest is in the verdict that a quorum signs. It has two parts. The *evaluation* follows from the sealed round
alone; the *election* follows from the miners' tickets.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from app.protocol.digest import bytes32, canonical_json, hex32, parse_json, unhex
from app.protocol.errors import ProtocolError
from app.protocol.evaluation import Evaluation
from app.protocol.shapes import Shape, address, check, count, sequence, text
from app.protocol.vrf import PROOF_BYTES


@dataclass(frozen=True, slots=True)
class Ticket:
    """A miner's entry in the election: its address, and its VRF proof on the round's seed (80 bytes)."""

    miner: str
    proof: bytes


@dataclass(frozen=True, slots=True)
class Candidate:
    """A miner with a valid ticket, and what the election made of it.

    Attributes
    ----------
    miner : str
        Its checksum address.
    proof : bytes
        Its VRF proof on the round's seed (80 bytes), which decides all the rest.
    weight : int
        How many sub-users it has: what the policy's weighting makes of what the chain says about it.
    selected : int
        How many of them the sortition selected.
    """

    miner: str
    proof: bytes
    weight: int
    selected: int

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form, the proof in hexadecimal."""
        return {name: getattr(self, name) for name in _CANDIDATE} | {"proof": hex32(self.proof)}

    @classmethod
    def from_json(cls, value: Any) -> Candidate:
        """Read what `to_json` wrote; raise `ProtocolError` on anything else."""
        check(value, _CANDIDATE, "a candidate")
        return cls(**value | {"proof": unhex(value["proof"], PROOF_BYTES, "a candidate's proof")})


@dataclass(frozen=True, slots=True)
class Election:
    """The part of a record that follows from the miners' tickets.

    Attributes
    ----------
    candidates : tuple of Candidate
        Every miner with a valid ticket, by rank: see `app.mining.election`.
    leader : str
        The miner that finalises the round: the first, or the next one where those before it fail.
    seed : bytes
        The next round's seed: the first 32 bytes of the leader's VRF output.
    """

    candidates: tuple[Candidate, ...]
    leader: str
    seed: bytes

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form, bytes in hexadecimal."""
        candidates = [candidate.to_json() for candidate in self.candidates]
        return {"candidates": candidates, "leader": self.leader, "seed": hex32(self.seed)}

    @classmethod
    def from_json(cls, value: Any) -> Election:
        """Read what `to_json` wrote; raise `ProtocolError` on anything else."""
        check(value, _ELECTION, "an election")
        candidates = tuple(Candidate.from_json(item) for item in value["candidates"])
        return cls(candidates, value["leader"], bytes32(value["seed"]))


@dataclass(frozen=True, slots=True)
class RoundRecord:
    """Evaluation and election of one round: the blob whose digest the verdict binds."""

    evaluation: Evaluation
    election: Election

    def to_bytes(self) -> bytes:
        """Return the canonical JSON text."""
        return canonical_json({"evaluation": self.evaluation.to_json(), "election": self.election.to_json()})

    @classmethod
    def from_bytes(cls, data: bytes) -> RoundRecord:
        """Read what `to_bytes` wrote; raise `ProtocolError` on anything else, also on another text of the same."""
        value = parse_json(data, "a round record")
        if set(value) != {"evaluation", "election"}:
            raise ProtocolError("a round record has the members evaluation and election")
        record = cls(Evaluation.from_json(value["evaluation"]), Election.from_json(value["election"]))
        if record.to_bytes() != data:
            raise ProtocolError("the round record is not in canonical form")
        return record


_ELECTION: Shape = {"candidates": sequence, "leader": address, "seed": text}
_CANDIDATE: Shape = {"miner": address, "proof": text, "weight": count, "selected": count}
