"""A sealed round: what the chain says about it, and all that a miner is told."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from app.protocol.digest import BlobRef, sha256
from app.protocol.errors import ProtocolError
from app.protocol.policy import Policy
from app.protocol.seat import Seat
from app.protocol.signing import Domain


@dataclass(frozen=True, slots=True)
class EarlierRound:
    """A finalised round before the current one, as the chain states it.

    Attributes
    ----------
    round : int
        Which.
    manifest, record : BlobRef
        Its sealed receipts, and what the miners found.
    participants, honest : tuple of int
        Indices of the customers who took part, and of those among them who were evaluated H, ascending.
    """

    round: int
    manifest: BlobRef
    record: BlobRef
    participants: tuple[int, ...]
    honest: tuple[int, ...]


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
    submitted : tuple of (int, bytes)
        Receipts that were handed in on chain before the seal, in the order of the chain: the customer's index and its
        update's digest. What is sealed of that customer may be another receipt.
    earlier : tuple of EarlierRound
        All finalised rounds of the task so far, ascending.
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
    submitted: tuple[tuple[int, bytes], ...]
    earlier: tuple[EarlierRound, ...]

    def __post_init__(self) -> None:
        if len(self.reputation) != len(self.customers) or len(set(self.customers)) != len(self.customers):
            raise ProtocolError("every customer of a task has one address and one reputation")
        in_range = all(0 <= index < len(self.customers) for index in self.participants)
        if not in_range or any(left >= right for left, right in pairwise(self.participants)):
            raise ProtocolError("a round's participants are customers of the task, ascending, each once")
        if not {index for index, _ in self.submitted} <= set(self.participants):
            raise ProtocolError("who handed in a receipt on chain takes part in the round")
        numbers = [past.round for past in self.earlier]
        if any(left >= right for left, right in pairwise([0, *numbers, self.round])):
            raise ProtocolError("earlier rounds are before this one, ascending, each once")

    def precedence(self, index: int, update: bytes) -> tuple[int, int, bytes]:
        """Return the key by which sealed updates are ordered where two are the same: the first one is the author's.

        What was handed in on chain has an order there. It comes before everything that was only relayed, because a
        relayer could have shown an update to anybody. Among relayed updates there is no order that a miner could
        trust: they follow the hash of sealed root and address. No customer knows that order before it has signed, so
        none can choose an address that always wins; but a copier is taken for the author every second time. A customer
        that wants to be sure hands in its receipt on chain before anybody has seen its update.
        """
        if (index, update) in self.submitted:
            return (0, self.submitted.index((index, update)), b"")
        return (1, 0, sha256(self.root + bytes.fromhex(self.customers[index].removeprefix("0x"))))

    def strikes(self, index: int) -> int:
        """Return in how many earlier rounds a customer was evaluated L."""
        return sum(index in past.participants and index not in past.honest for past in self.earlier)
