"""A sealed round: what the chain says about it, and all that a miner is told."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from app.protocol.digest import BlobRef
from app.protocol.errors import ProtocolError
from app.protocol.policy import Policy
from app.protocol.seat import Seat
from app.protocol.signing import Domain


@dataclass(frozen=True, slots=True)
class SealedRound:
    """One sealed round of one task.

    Attributes
    ----------
    domain : Domain
        Chain id and contract.
    policy : Policy
        The task's rules; their digest is the task's identity.
    round : int
        The round, from 1.
    root : bytes
        The sealed Merkle root (32 bytes).
    manifest : BlobRef
        The blob with the round's receipts.
    participants : tuple of int
        Indices of the customers whose receipts are sealed, ascending.
    customers : tuple of str
        The task's customers, checksum addresses by index.
    reputation : tuple of int
        Reputation before the round, by index.
    model : BlobRef
        The current global model.
    seed : bytes
        The round's seed for the election (32 bytes).
    miners : tuple of Seat
        The task's miners, by index.
    """

    domain: Domain
    policy: Policy
    round: int
    root: bytes
    manifest: BlobRef
    participants: tuple[int, ...]
    customers: tuple[str, ...]
    reputation: tuple[int, ...]
    model: BlobRef
    seed: bytes
    miners: tuple[Seat, ...]

    def __post_init__(self) -> None:
        if len(self.reputation) != len(self.customers) or len(set(self.customers)) != len(self.customers):
            raise ProtocolError("every customer of a task has one address and one reputation")
        in_range = all(0 <= index < len(self.customers) for index in self.participants)
        if not in_range or any(left >= right for left, right in pairwise(self.participants)):
            raise ProtocolError("a round's participants are customers of the task, ascending, each once")
