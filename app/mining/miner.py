"""One miner: it recomputes a sealed round on its own and signs what it found."""

from __future__ import annotations

from collections.abc import Sequence

from eth_account.signers.local import LocalAccount

from app.mining.election import draw, electorate, next_seed, rank
from app.mining.outcome import Outcome, evaluate
from app.mining.promises import Promises
from app.mining.roles import Docket
from app.mining.round import SealedRound
from app.mining.vote import Vote
from app.protocol.digest import BlobRef, sha256
from app.protocol.errors import RoundError
from app.protocol.record import Election, RoundRecord, Ticket
from app.protocol.verdict import Verdict
from app.store.base import BlobStore, pin_name, reference


class Miner:
    """A miner with its keys and its own access to the blobs.

    Parameters
    ----------
    account : LocalAccount
        Signs verdicts and, as leader, sends the transaction.
    vrf_secret : bytes
        32 bytes; the public key is registered on chain.
    store : BlobStore
        Where this miner reads blobs and, as leader, publishes them.
    docket : Docket
        Where it brings verdicts as leader.
    promises : Promises, optional
        What it stands by, also after a restart; a miner that ends with its task needs none.
    """

    def __init__(
        self,
        account: LocalAccount,
        vrf_secret: bytes,
        store: BlobStore,
        docket: Docket,
        promises: Promises | None = None,
    ) -> None:
        self.account, self._vrf_secret, self._store, self._docket = account, vrf_secret, store, docket
        self._promises = promises
        self._last: tuple[SealedRound, Outcome] | None = None

    @property
    def address(self) -> str:
        """The miner's checksum address."""
        return str(self.account.address)

    def ticket(self, sealed: SealedRound) -> Ticket:
        """Return this miner's entry in the election of the round's leader."""
        return draw(self.address, self._vrf_secret, electorate(sealed).message)

    def vote(self, sealed: SealedRound, tickets: Sequence[Ticket], rank: int = 0) -> Vote:
        """Recompute the round and sign the outcome.

        Parameters
        ----------
        sealed : SealedRound
            The round, as the chain states it.
        tickets : sequence of Ticket
            All miners' tickets, in any order. This miner's own must be among them: a quorum's verdict can then leave
            out no ticket of the quorum.
        rank : int, default 0
            Who leads: the first in the order of `app.mining.election`, or a later one after those before it failed.

        Raises
        ------
        RoundError
            If the round cannot be judged, the election is not one that this miner can stand for, or it promised
            another outcome.
        StoreError
            If the store failed.
        """
        election = self._election(sealed, tickets, rank)
        cached = self._last is not None and self._last[0] == sealed
        outcome = self.outcome(sealed)
        record = RoundRecord(outcome.evaluation, election).to_bytes()
        verdict = Verdict(
            task=outcome.evaluation.task,
            round=sealed.round,
            root=sealed.root,
            model=sha256(outcome.model),
            record=reference(record),
            participants=sealed.participants,
            honest=outcome.evaluation.honest,
            customers=len(sealed.customers),
            leader=election.leader,
            rank=rank,
            seed=election.seed,
        )
        if self._promises is not None:
            self._promises.keep(verdict)
        signature = verdict.sign(self.account, sealed.domain)
        seconds = (0.0, 0.0) if cached else (outcome.fetch_seconds, outcome.compute_seconds)
        return Vote(verdict, signature, record, outcome.model, *seconds)

    def publish(self, vote: Vote) -> tuple[BlobRef, BlobRef]:
        """Put a vote's record and model into the store, as the leader does; return where they are."""
        task, number = vote.verdict.task, vote.verdict.round
        record = self._store.put(vote.record, pin_name(task, "record", number))
        return record, self._store.put(vote.model, pin_name(task, "model", number))

    def finalise(self, sealed: SealedRound, verdict: Verdict, signatures: Sequence[bytes]) -> None:
        """Send a verdict with its quorum's signatures as leader, in the turn of its rank, and wait for its block.

        Raises
        ------
        LedgerError
            If the contract refuses it, or the chain does not take it in time.
        """
        self._docket.finalise(self.account, verdict, sealed.manifest.sha256, signatures)

    def outcome(self, sealed: SealedRound) -> Outcome:
        """Evaluate a round, once: the outcome is a pure function of it. Raises as `vote`."""
        if self._last is None or self._last[0] != sealed:
            self._last = sealed, evaluate(sealed, self._store)
        return self._last[1]

    def _election(self, sealed: SealedRound, tickets: Sequence[Ticket], place: int) -> Election:
        ranked = rank(tickets, electorate(sealed))
        if self.address not in {candidate.miner for candidate in ranked}:
            raise RoundError(f"round {sealed.round}: the ticket of miner {self.address} is missing or not valid")
        if not 0 <= place < len(ranked):
            raise RoundError(f"round {sealed.round} has {len(ranked)} valid tickets, none of rank {place}")
        return Election(ranked, ranked[place].miner, next_seed(ranked[place].proof))
