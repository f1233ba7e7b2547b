"""The round record: what the miners found, with reasons, so that anybody can recompute it.

Its digest is in the verdict that a quorum signs. It has two parts. The *evaluation* follows from the sealed round
alone; the *election* follows from the miners' tickets.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise
from typing import Any

from eth_utils import is_checksum_address

from app.protocol.digest import BlobRef, bytes32, canonical_json, hex32, parse_json
from app.protocol.errors import ProtocolError

PROOF_HEX = 2 + 2 * 80  # a VRF proof has 80 bytes


class Mark(StrEnum):
    """A customer's evaluation of one round."""

    H = "H"
    L = "L"


class Reason(StrEnum):
    """Why a customer got its mark."""

    ACCEPTED = "accepted"
    """H: the update is valid, and no outlier."""
    DISSIMILAR = "dissimilar"
    """L: the update is valid, but too far from the others for the task's evaluation rule."""
    WRONG_MODEL = "wrong-model"
    """L: trained on another model than the one that the chain announced."""
    TOO_LARGE = "too-large"
    """L: the declared size is more than any update of this task has; the blob was not read."""
    MISSING = "missing"
    """L: the store does not have the blob."""
    TAMPERED = "tampered"
    """L: the store's bytes are not the ones that the receipt binds."""
    MALFORMED = "malformed"
    """L: the blob is not an update of this task: names, shapes, types, canonical form."""
    ZERO = "zero"
    """L: the update changes nothing."""
    RANGE = "range"
    """L: too many entries lie at the ends of the update's range."""
    COPY = "copy"
    """L: the update equals that of a customer who came first (`SealedRound.precedence`)."""
    NEAR_COPY = "near-copy"
    """L: the update points the same way as that of a customer who came first."""
    STALE = "stale"
    """L: the update points the same way as what the last round changed in the model."""
    REPLAY = "replay"
    """L: the same update was sealed in an earlier round."""
    EXCLUDED = "excluded"
    """L: the customer was evaluated L so often that the task's rule takes nothing from it any more."""


@dataclass(frozen=True, slots=True)
class CustomerEntry:
    """What a round found about one participant.

    Attributes
    ----------
    customer : str
        Checksum address.
    index : int
        The customer's index in the task, its bit in the contract's bitmaps.
    gamma : int
        Reputation before the round.
    mark : Mark
        H or L.
    reason : Reason
        Why.
    score : int or None
        Krum score in squared grid steps, under every aggregation rule; None where the update is not valid, or the round
        is void.
    selected : bool
        Whether the task's aggregation rule took the update.
    isolated : bool
        Whether gamma is below the round's threshold: neither aggregated nor paid.
    weight : int
        With how much the update went into the model; 0 where it did not.
    saturated : int or None
        How many entries lie at the ends of the update's range; None where the update is not valid.
    """

    customer: str
    index: int
    gamma: int
    mark: Mark
    reason: Reason
    score: int | None
    selected: bool
    isolated: bool
    weight: int
    saturated: int | None

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form; the score as decimal text, since it may exceed 64 bits."""
        return {name: getattr(self, name) for name in _ENTRY} | {
            "score": None if self.score is None else str(self.score)
        }

    @classmethod
    def from_json(cls, value: Any) -> CustomerEntry:
        """Read what `to_json` wrote; raise `ProtocolError` on anything else."""
        _check(value, _ENTRY, "a customer's entry")
        score = None if value["score"] is None else int(value["score"])
        return cls(**value | {"mark": Mark(value["mark"]), "reason": Reason(value["reason"]), "score": score})


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The part of a record that follows from the sealed round alone.

    Attributes
    ----------
    task : bytes
        Digest of the task's policy (32 bytes).
    round : int
        The round, from 1.
    threshold : int
        h, the participants' mean reputation rounded down.
    f : int
        How many hostile updates the round was to withstand.
    rule : str
        Which evaluation rule gave the marks.
    aggregator : str
        Which rule made the new model of the updates.
    buckets : int
        Through how many buckets the updates were scored; 0 where each was compared with each.
    void : bool
        Whether too few valid updates were left for f, so that the model stays as it was.
    model : BlobRef
        The global model that the round started from.
    customers : tuple of CustomerEntry
        One a participant, sorted by address (as a number).
    """

    task: bytes
    round: int
    threshold: int
    f: int
    rule: str
    aggregator: str
    buckets: int
    void: bool
    model: BlobRef
    customers: tuple[CustomerEntry, ...]

    def __post_init__(self) -> None:
        addresses = [int(entry.customer, 16) for entry in self.customers]
        if any(left >= right for left, right in pairwise(addresses)):
            raise ProtocolError("an evaluation holds each participant once, sorted by address")

    @property
    def participants(self) -> tuple[int, ...]:
        """Indices of all participants, ascending."""
        return tuple(sorted(entry.index for entry in self.customers))

    @property
    def honest(self) -> tuple[int, ...]:
        """Indices of the participants that were evaluated H, ascending."""
        return tuple(sorted(entry.index for entry in self.customers if entry.mark is Mark.H))

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        plain = {
            name: getattr(self, name) for name in ("round", "threshold", "f", "rule", "aggregator", "buckets", "void")
        }
        customers = [entry.to_json() for entry in self.customers]
        return plain | {"task": hex32(self.task), "model": self.model.to_json(), "customers": customers}

    @classmethod
    def from_json(cls, value: Any) -> Evaluation:
        """Read what `to_json` wrote; raise `ProtocolError` on anything else."""
        _check(value, _EVALUATION, "an evaluation")
        customers = tuple(CustomerEntry.from_json(item) for item in value["customers"])
        parts = {"task": bytes32(value["task"]), "model": BlobRef.from_json(value["model"]), "customers": customers}
        return cls(**value | parts)


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
        _check(value, _CANDIDATE, "a candidate")
        return cls(**value | {"proof": _proof(value["proof"])})


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
        _check(value, _ELECTION, "an election")
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


def _count(value: object) -> bool:
    return type(value) is int and 0 <= value < 2**63


def _optional_count(value: object) -> bool:
    return value is None or _count(value)


def _flag(value: object) -> bool:
    return type(value) is bool


def _text(value: object) -> bool:
    return type(value) is str


def _list(value: object) -> bool:
    return type(value) is list


def _json_object(value: object) -> bool:
    return type(value) is dict


def _address(value: object) -> bool:
    return isinstance(value, str) and is_checksum_address(value)


def _mark(value: object) -> bool:
    return value in list(Mark)


def _reason(value: object) -> bool:
    return value in list(Reason)


def _score(value: object) -> bool:
    return value is None or (isinstance(value, str) and len(value) <= 40 and value.isascii() and value.isdecimal())


Shape = dict[str, Callable[[object], bool]]
"""The members of a JSON object, and what holds of each."""

_ENTRY: Shape = {
    "customer": _address,
    "index": _count,
    "gamma": _count,
    "mark": _mark,
    "reason": _reason,
    "score": _score,
    "selected": _flag,
    "isolated": _flag,
    "weight": _count,
    "saturated": _optional_count,
}
_EVALUATION: Shape = {
    "task": _text,
    "round": _count,
    "threshold": _count,
    "f": _count,
    "rule": _text,
    "aggregator": _text,
    "buckets": _count,
    "void": _flag,
    "model": _json_object,
    "customers": _list,
}
_ELECTION: Shape = {"candidates": _list, "leader": _address, "seed": _text}
_CANDIDATE: Shape = {"miner": _address, "proof": _text, "weight": _count, "selected": _count}


def _check(value: Any, shape: Shape, what: str) -> None:
    if not isinstance(value, dict) or set(value) != set(shape):
        raise ProtocolError(f"{what} has exactly these members: " + ", ".join(sorted(shape)))
    for name, holds in shape.items():
        if not holds(value[name]):
            raise ProtocolError(f"{what} has a bad {name}: {value[name]!r:.60}")


def _proof(text: str) -> bytes:
    if len(text) != PROOF_HEX or not text.startswith("0x"):
        raise ProtocolError("a candidate's proof has 80 bytes in hexadecimal")
    try:
        return bytes.fromhex(text[2:])
    except ValueError as error:
        raise ProtocolError("a candidate's proof has 80 bytes in hexadecimal") from error
