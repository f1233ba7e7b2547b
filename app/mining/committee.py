"""The committee in one process: every miner votes on its own, a quorum of equal verdicts decides, a leader finalises.

Leaders have their turns by rank, each a ``leader_window`` after the one before; what counts in the end is what the
chain says, not what a leader says of itself. Miners that are processes of their own need no committee: each of them
leads when it is elected (`app.mining.daemon`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from app.ledger.task_records import Finalisation
from app.mining.ballot import Ballot, signatures_of, told
from app.mining.equivocation import charge
from app.mining.roles import Docket, Leader
from app.mining.round import SealedRound
from app.mining.vote import Vote
from app.protocol.digest import BlobRef
from app.protocol.errors import HearthError, ProtocolError, RoundError
from app.protocol.evaluation import CustomerEntry
from app.protocol.record import RoundRecord
from app.protocol.verdict import Verdict

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Decision:
    """What a quorum agreed on and its leader finalised.

    Attributes
    ----------
    verdict : Verdict
        What was agreed.
    signatures : tuple of bytes
        The agreeing miners' signatures (65 bytes each), by signer address (as a number), ascending; none of miners
        that are elsewhere: the contract has counted them.
    record, model : BlobRef
        The round record and the new global model, in the store by now.
    entries : tuple of CustomerEntry
        Every participant's mark, reason, score and weight.
    void : bool
        Whether the round had too few valid updates, so that the model is unchanged.
    dissent : dict of str to str
        Miners that are not part of the quorum, or failed as leaders, or signed two things; and why.
    gas : int
        What the finalising transaction used.
    tx : bytes
        Its hash (32 bytes).
    chain_seconds : float
        Wall time spent on chain.
    """

    verdict: Verdict
    signatures: tuple[bytes, ...]
    record: BlobRef
    model: BlobRef
    entries: tuple[CustomerEntry, ...]
    void: bool
    dissent: dict[str, str]
    gas: int
    tx: bytes
    chain_seconds: float


@dataclass(slots=True)
class _Session:
    """What one decision gathers on its way.

    ``faults`` says what a miner did wrong besides its vote. ``offers`` are what leaders were asked to finalise, by
    their addresses: a transaction that was given up may still arrive.
    """

    ballot: Ballot
    faults: dict[str, str] = field(default_factory=dict)
    offers: dict[str, tuple[dict[str, Vote], BlobRef, BlobRef]] = field(default_factory=dict)
    chain_seconds: float = 0.0

    def on_chain(self, call: Callable[[], _T]) -> _T:
        """Return what a call returns, its time counted."""
        start = time.perf_counter()
        try:
            return call()
        finally:
            self.chain_seconds += time.perf_counter() - start


class Committee:
    """Miners in one process.

    Parameters
    ----------
    miners : sequence of Leader
        Each with an account of its own.
    docket : Docket
        The task's verdicts on chain.
    """

    def __init__(self, miners: Sequence[Leader], docket: Docket) -> None:
        self._miners, self._docket = {miner.address: miner for miner in miners}, docket
        if len(self._miners) != len(miners):
            raise ProtocolError("every miner of a committee has an account of its own")

    def decide(self, sealed: SealedRound) -> Decision:
        """Let the miners judge a sealed round, and the leaders, one after the other, finalise what they found.

        Miners that fail, are silent or vote otherwise are tolerated as long as a quorum of the miners that the chain
        knows agrees. A leader outside that quorum, one that does not publish or one that does not finalise gives way to
        the next rank, whose turn comes a ``leader_window`` later. Who signed two contradicting verdicts is reported.

        Raises
        ------
        RoundError
            If no quorum agrees, no leader is left, or the chain finalised a verdict that is not this committee's.
        LedgerError
            If the chain cannot be read.
        """
        session = _Session(Ballot(sealed, list(self._miners.values()), self._docket.barred()))
        try:
            done = self._finalised(session)
        finally:
            self._accuse(session)
        return _decision(session, done)

    def _finalised(self, session: _Session) -> Finalisation:
        """Go through the leaders until the chain says that the round is finalised."""
        ballot, number = session.ballot, session.ballot.sealed.round
        tickets = ballot.tickets()
        for place, leader in enumerate(ballot.candidates(tickets)):
            agreed = ballot.agreed(tickets, place, leader)
            if leader.miner not in agreed:
                continue
            try:
                self._offer(session, agreed, leader.miner)
                fault = "says that it finalised, and the chain knows nothing of it"
            except HearthError as error:
                fault = f"did not finalise as leader: {error}"
            done = session.on_chain(lambda: self._docket.finalised(number))
            if done is not None:
                session.faults.pop(done.leader, None)  # its transaction came late
                return done
            session.faults[leader.miner] = fault
        raise RoundError(f"round {number}: no leader is left. {told(ballot.dissent | session.faults)}")

    def _offer(self, session: _Session, agreed: dict[str, Vote], leader: str) -> None:
        """Have the leader publish what was agreed, and then finalise it."""
        vote, miner = agreed[leader], self._miners[leader]
        record, model = miner.publish(vote)
        if (record, model.sha256) != (vote.verdict.record, vote.verdict.model):
            raise ProtocolError("the published blobs are not the ones that the verdict binds")
        session.offers[leader] = (agreed, record, model)
        session.on_chain(lambda: miner.finalise(session.ballot.sealed, vote.verdict, signatures_of(agreed)))

    def _accuse(self, session: _Session) -> None:
        """Report who signed two things, once the round no longer needs their signatures."""
        for miner, (one, two) in session.ballot.statements.proofs.items():
            session.faults[miner] = charge(self._docket, one, two)


def _decision(session: _Session, done: Finalisation) -> Decision:
    """Return the decision that the chain has: the offer of whichever leader was first."""
    ballot, (agreed, record, model) = session.ballot, session.offers.get(done.leader, ({}, None, None))
    if record is None or model is None or (done.record, done.model) != (record, model.sha256):
        raise RoundError(f"round {ballot.sealed.round}: the chain holds a verdict that is not this committee's")
    evaluation = RoundRecord.from_bytes(agreed[done.leader].record).evaluation
    return Decision(
        verdict=agreed[done.leader].verdict,
        signatures=signatures_of(agreed),
        record=record,
        model=model,
        entries=evaluation.customers,
        void=evaluation.void,
        dissent={miner: why for miner, why in ballot.dissent.items() if miner not in agreed} | session.faults,
        gas=done.gas,
        tx=done.tx,
        chain_seconds=session.chain_seconds,
    )
