"""What a ballot asks of others: of a miner, and of the chain. Both may be far away."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from eth_account.signers.local import LocalAccount

from app.ledger.task_records import Finalisation
from app.mining.round import SealedRound
from app.mining.vote import Vote
from app.protocol.digest import BlobRef
from app.protocol.record import Ticket
from app.protocol.verdict import SignedVerdict, Verdict

if TYPE_CHECKING:
    from app.mining.committee import Decision


class Voter(Protocol):
    """A miner; `app.mining.miner.Miner` is one, and so is a distant one, `app.mining.peer.Peer`.

    A voter that fails raises a `HearthError`.
    """

    @property
    def address(self) -> str:
        """The checksum address that signs and, as leader, sends."""

    def ticket(self, sealed: SealedRound) -> Ticket:
        """Return the miner's ticket."""

    def vote(self, sealed: SealedRound, tickets: Sequence[Ticket], rank: int = 0) -> Vote:
        """Return the miner's vote under the leader of that rank."""


class Leader(Voter, Protocol):
    """A miner that can lead: one whose key is in this process."""

    def publish(self, vote: Vote) -> tuple[BlobRef, BlobRef]:
        """Put record and model of the miner's vote into the store."""

    def finalise(self, sealed: SealedRound, verdict: Verdict, signatures: Sequence[bytes]) -> None:
        """Send the transaction that finalises the round, once the leader's turn has come, and wait for its block."""


class Judges(Protocol):
    """Whoever decides sealed rounds: a committee in this process, or miners that are elsewhere."""

    def decide(self, sealed: SealedRound) -> Decision:
        """Return what a quorum of the task's miners agreed on and a leader finalised.

        Raises
        ------
        RoundError
            If there is no such thing.
        LedgerError, StoreError
            If the chain or the store failed.
        """


class Docket(Protocol):
    """The verdicts of a task on chain; `app.ledger.docket.TaskDocket` is one.

    One that fails raises a `LedgerError`.
    """

    def finalise(self, leader: LocalAccount, verdict: Verdict, manifest: bytes, signatures: Sequence[bytes]) -> None:
        """Send a verdict with its quorum, in the turn of its rank; ``manifest`` is the sealed manifest's digest."""

    def finalised(self, round_number: int) -> Finalisation | None:
        """Return what finalised a round, or None where nothing has yet."""

    def barred(self) -> frozenset[str]:
        """Return the addresses of miners whose signature the contract does not take: without a deposit they need."""

    def accuse(self, one: SignedVerdict, two: SignedVerdict) -> bool:
        """Prove that one miner signed both; return whether that cost it a deposit."""
