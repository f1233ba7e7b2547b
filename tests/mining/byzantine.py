"""Miners that do not what they should, for tests of the committee."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from app.mining.miner import Miner
from app.mining.round import SealedRound
from app.mining.vote import Vote
from app.protocol.digest import BlobRef, sha256
from app.protocol.errors import LedgerError, StoreError, StoreUnavailableError
from app.protocol.record import RoundRecord, Ticket
from app.protocol.verdict import Verdict


class Silent(Miner):
    """Shows its ticket and then says nothing."""

    def vote(self, sealed: SealedRound, tickets: Sequence[Ticket], rank: int = 0) -> Vote:
        raise StoreUnavailableError("the miner does not answer")


class Absent(Silent):
    """Does not even show a ticket."""

    def ticket(self, sealed: SealedRound) -> Ticket:
        raise StoreUnavailableError("the miner does not answer")


class Lying(Miner):
    """Votes for another model, consistently and well signed."""

    def vote(self, sealed: SealedRound, tickets: Sequence[Ticket], rank: int = 0) -> Vote:
        vote = super().vote(sealed, tickets, rank)
        verdict = replace(vote.verdict, model=sha256(b"mine"))
        return replace(vote, verdict=verdict, model=b"mine", signature=verdict.sign(self.account, sealed.domain))


class Equivocating(Lying):
    """Votes for something else each time it is asked."""

    asked = 0

    def vote(self, sealed: SealedRound, tickets: Sequence[Ticket], rank: int = 0) -> Vote:
        self.asked += 1
        return super().vote(sealed, tickets, rank) if self.asked % 2 else Miner.vote(self, sealed, tickets, rank)


class Thief(Miner):
    """Shows another miner's vote as its own."""

    victim: Miner

    def vote(self, sealed: SealedRound, tickets: Sequence[Ticket], rank: int = 0) -> Vote:
        return self.victim.vote(sealed, tickets, rank)


class Swapping(Miner):
    """Signs what it should and hands out other blobs."""

    def vote(self, sealed: SealedRound, tickets: Sequence[Ticket], rank: int = 0) -> Vote:
        return replace(super().vote(sealed, tickets, rank), model=b"other")


class Usurper(Miner):
    """Always names itself the leader."""

    def vote(self, sealed: SealedRound, tickets: Sequence[Ticket], rank: int = 0) -> Vote:
        vote = super().vote(sealed, tickets, rank)
        verdict = replace(vote.verdict, leader=self.address)
        return replace(vote, verdict=verdict, signature=verdict.sign(self.account, sealed.domain))


class Broken(Miner):
    """Votes with members that no verdict can have."""

    def vote(self, sealed: SealedRound, tickets: Sequence[Ticket], rank: int = 0) -> Vote:
        vote = super().vote(sealed, tickets, rank)
        return replace(vote, verdict=replace(vote.verdict, honest=(0, 10**6)))


class Withholding(Miner):
    """Agrees, but publishes nothing."""

    def publish(self, vote: Vote) -> tuple[BlobRef, BlobRef]:
        raise StoreError("the disk is full")


class Misplacing(Miner):
    """Agrees, but publishes something else."""

    def publish(self, vote: Vote) -> tuple[BlobRef, BlobRef]:
        record, _ = super().publish(vote)
        return record, record


class Idle(Miner):
    """Agrees and publishes, and never sends the transaction."""

    def finalise(self, sealed: SealedRound, verdict: Verdict, signatures: Sequence[bytes]) -> None:
        pass


class Broke(Miner):
    """Agrees and publishes, and cannot pay for the transaction."""

    def finalise(self, sealed: SealedRound, verdict: Verdict, signatures: Sequence[bytes]) -> None:
        raise LedgerError("insufficient funds")


class Slow(Miner):
    """Its transaction is given up, and is in a block only when the next leader comes."""

    def finalise(self, sealed: SealedRound, verdict: Verdict, signatures: Sequence[bytes]) -> None:
        Overtaken.before = lambda: Miner.finalise(self, sealed, verdict, signatures)
        raise LedgerError("not in a block in time")


class Overtaken(Miner):
    """The next leader, which the slow one is a moment ahead of."""

    before: Callable[[], None]

    def finalise(self, sealed: SealedRound, verdict: Verdict, signatures: Sequence[bytes]) -> None:
        Overtaken.before()
        super().finalise(sealed, verdict, signatures)


def with_byzantine(world, sealed: SealedRound, *kinds: type[Miner], places: Sequence[int]) -> list[Miner]:
    """Return the miners, those at the given places of the ranking replaced."""
    miners = world.miners()
    reference = miners[0].vote(sealed, [miner.ticket(sealed) for miner in miners])
    ranking = [candidate.miner for candidate in RoundRecord.from_bytes(reference.record).election.candidates]
    for kind, place in zip(kinds, places, strict=True):
        index = next(i for i, miner in enumerate(miners) if miner.address == ranking[place])
        miners[index] = kind(world.miner_accounts[index], world.secrets[index], world.store, world.docket)
        if isinstance(miners[index], Thief):
            miners[index].victim = miners[index - 1]
    return miners
