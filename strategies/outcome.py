"""What one round came to, for whoever reports it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypedDict

from app.protocol.digest import BlobRef
from app.protocol.evaluation import CustomerEntry, Mark


@dataclass(frozen=True, slots=True)
class RoundOutcome:
    """What one round came to.

    Attributes
    ----------
    round : int
        The round, from 1.
    leader : str
        Address of the miner that finalised it.
    model, manifest, record : BlobRef
        The new global model, the sealed receipts, the miners' evaluations and reasons.
    void : bool
        Whether there were too few valid updates for Multi-Krum, so that the model is the old one.
    participants, aggregated : tuple of str
        Addresses whose receipts were sealed, and whose updates went into the model.
    rejected : dict of str to str
        Participants that were evaluated L, and why.
    isolated : tuple of str
        Participants whose reputation was below the threshold.
    absent : dict of str to str
        Customers that sent nothing that could be sealed, and why.
    saturated : dict of str to int
        Participants with entries at the ends of the grid's range, and how many.
    dissent : dict of str to str
        Miners that are not part of the quorum, and why.
    reputation : dict of str to int
        Everyone's reputation after the round.
    gas_seal, gas_finalise : int
        Gas used.
    tx_seal, tx_finalise : str
        Hashes of the two transactions (0x...).
    seconds : float
        Wall time from the first message to the finalised round.
    """

    round: int
    leader: str
    model: BlobRef
    manifest: BlobRef
    record: BlobRef
    void: bool
    participants: tuple[str, ...]
    aggregated: tuple[str, ...]
    rejected: dict[str, str]
    isolated: tuple[str, ...]
    absent: dict[str, str]
    saturated: dict[str, int]
    dissent: dict[str, str]
    reputation: dict[str, int]
    gas_seal: int
    gas_finalise: int
    tx_seal: str
    tx_finalise: str
    seconds: float


class OfEntries(TypedDict):
    """What a round's outcome says of its participants; see `RoundOutcome`."""

    participants: tuple[str, ...]
    aggregated: tuple[str, ...]
    rejected: dict[str, str]
    isolated: tuple[str, ...]
    saturated: dict[str, int]


def of_entries(entries: Sequence[CustomerEntry]) -> OfEntries:
    """Return what the miners' entries say of a round's participants."""
    return {
        "participants": tuple(entry.customer for entry in entries),
        "aggregated": tuple(entry.customer for entry in entries if entry.weight > 0),
        "rejected": {entry.customer: entry.reason for entry in entries if entry.mark is Mark.L},
        "isolated": tuple(entry.customer for entry in entries if entry.isolated),
        "saturated": {entry.customer: entry.saturated for entry in entries if entry.saturated},
    }
