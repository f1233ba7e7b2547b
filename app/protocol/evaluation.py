"""An evaluation: what every participant's update of a round came to, with the reason."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise
from typing import Any

from app.protocol.digest import BlobRef, bytes32, hex32
from app.protocol.errors import ProtocolError
from app.protocol.shapes import (
    Shape,
    address,
    check,
    count,
    flag,
    mapping,
    optional_count,
    optional_whole,
    sequence,
    text,
    whole,
)

MILLION = 1_000_000
"""Cosines are stated in millionths."""


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
    cosine : int or None
        Between the update and the sum of those that Multi-Krum kept, in millionths, rounded towards zero; None where
        there is no score.
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
    cosine: int | None
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
        check(value, _ENTRY, "a customer's entry")
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
    usual : int
        What the scores were compared with (`strategies.evaluation`), in squared grid steps; 0 in a void round.
    reach : int
        Squared length of the sum of the updates that Multi-Krum kept, in squared grid steps; 0 in a void round.
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
    usual: int
    reach: int
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
        """Return the JSON form; what may exceed 64 bits as decimal text."""
        return {name: getattr(self, name) for name in _EVALUATION} | {
            "task": hex32(self.task),
            "usual": str(self.usual),
            "reach": str(self.reach),
            "model": self.model.to_json(),
            "customers": [entry.to_json() for entry in self.customers],
        }

    @classmethod
    def from_json(cls, value: Any) -> Evaluation:
        """Read what `to_json` wrote; raise `ProtocolError` on anything else."""
        check(value, _EVALUATION, "an evaluation")
        customers = tuple(CustomerEntry.from_json(item) for item in value["customers"])
        parts = {"task": bytes32(value["task"]), "model": BlobRef.from_json(value["model"]), "customers": customers}
        numbers = {name: int(value[name]) for name in ("usual", "reach")}
        return cls(**value | parts | numbers)


def _mark(value: object) -> bool:
    return value in list(Mark)


def _reason(value: object) -> bool:
    return value in list(Reason)


def _cosine(value: object) -> bool:
    return value is None or (type(value) is int and -MILLION <= value <= MILLION)


_ENTRY: Shape = {
    "customer": address,
    "index": count,
    "gamma": count,
    "mark": _mark,
    "reason": _reason,
    "score": optional_whole,
    "cosine": _cosine,
    "selected": flag,
    "isolated": flag,
    "weight": count,
    "saturated": optional_count,
}
_EVALUATION: Shape = {
    "task": text,
    "round": count,
    "threshold": count,
    "f": count,
    "rule": text,
    "aggregator": text,
    "buckets": count,
    "void": flag,
    "usual": whole,
    "reach": whole,
    "model": mapping,
    "customers": sequence,
}
