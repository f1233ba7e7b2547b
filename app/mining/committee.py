"""The committee in one process: every miner votes on its own, a quorum of equal verdicts decides, a leader finalises.

The committee carries tickets, votes and signatures and computes nothing itself, so that nobody has to trust it: a miner
signs what it recomputed, and the contract counts the signatures. Leaders have their turns by rank, each a
``leader_window`` after the one before; what counts in the end is what the chain says, not what a leader says of itself.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from app.ledger.task_records import Finalisation
from app.mining.election import electorate, next_seed, rank
from app.mining.equivocation import Statements
from app.mining.roles import Docket, Voter
from app.mining.round import SealedRound
from app.mining.vote import Vote
from app.protocol.digest import BlobRef, hex32, sha256
from app.protocol.errors import HearthError, ProtocolError, RoundError
from app.protocol.evaluation import CustomerEntry
from app.protocol.record import Candidate, RoundRecord, Ticket
from app.protocol.verdict import SignedVerdict, Verdict, quorum_of
from app.store.base import reference

_LOG = logging.getLogger(__name__)
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Decision:
    """What a quorum agreed on and its leader finalised.

    Attributes
    ----------
    verdict : Verdict
        What was agreed.
    signatures : tuple of bytes
        The agreeing miners' signatures (65 bytes each), by signer address (as a number), ascending.
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
    chain_seconds: float


@dataclass(slots=True)
class _Session:
    """What one decision gathers on its way.

    ``dissent`` says why a miner's vote did not count, ``faults`` what it did wrong besides. ``offers`` are what leaders
    were asked to finalise, by their addresses: a transaction that was given up may still arrive.
    """

    sealed: SealedRound
    barred: frozenset[str]
    dissent: dict[str, str] = field(default_factory=dict)
    faults: dict[str, str] = field(default_factory=dict)
    statements: Statements = field(default_factory=Statements)
    offers: dict[str, tuple[dict[str, Vote], BlobRef, BlobRef]] = field(default_factory=dict)
    chain_seconds: float = 0.0

    def on_chain(self, call: Callable[[], _T]) -> _T:
        """Return what a call returns, its time counted."""
        start = time.perf_counter()
        try:
            return call()
        finally:
            self.chain_seconds += time.perf_counter() - start

    def told(self) -> str:
        """Return what went wrong in one line, each reason once."""
        failed = self.dissent | self.faults
        reasons = sorted(set(failed.values()))
        return f"{len(failed)} miners failed" + (": " + "; ".join(reasons) if reasons else "")


class Committee:
    """Miners in one process.

    Parameters
    ----------
    miners : sequence of Voter
        Each with an account of its own.
    docket : Docket
        The task's verdicts on chain.
    """

    def __init__(self, miners: Sequence[Voter], docket: Docket) -> None:
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
        session = _Session(sealed, self._docket.barred())
        session.dissent |= dict.fromkeys(session.barred, "has no deposit")
        try:
            done = self._finalised(session)
        finally:
            self._accuse(session)
        return self._decision(session, done)

    def _finalised(self, session: _Session) -> Finalisation:
        """Go through the leaders until the chain says that the round is finalised."""
        sealed = session.sealed
        tickets = list(self._ask(lambda miner: miner.ticket(sealed), session).values())
        for place, leader in enumerate(rank(tickets, electorate(sealed))):
            agreed = _quorum(session, self._votes(session, tickets, place, leader))
            if leader.miner not in agreed:
                continue
            try:
                self._offer(session, agreed, leader.miner)
                fault = "says that it finalised, and the chain knows nothing of it"
            except HearthError as error:
                fault = f"did not finalise as leader: {error}"
            done = session.on_chain(lambda: self._docket.finalised(sealed.round))
            if done is not None:
                session.faults.pop(done.leader, None)  # its transaction came late
                return done
            session.faults[leader.miner] = fault
        raise RoundError(f"round {sealed.round}: no leader is left. {session.told()}")

    def _votes(self, session: _Session, tickets: Sequence[Ticket], place: int, leader: Candidate) -> dict[str, Vote]:
        """Return the votes that are about this round under this leader, by miner."""
        sealed = session.sealed
        question = (sealed.policy.digest, sealed.round, sealed.root, sealed.participants, len(sealed.customers))
        expected = (*question, leader.miner, place, next_seed(leader.proof))

        def checked(miner: Voter) -> Vote:
            vote = miner.vote(sealed, tickets, place)
            verdict = vote.verdict
            if verdict.signer(vote.signature, sealed.domain) != miner.address:
                raise ProtocolError("the vote is not signed by its miner")
            session.statements.note(miner.address, SignedVerdict(verdict, vote.signature))
            stated = (verdict.task, verdict.round, verdict.root, verdict.participants, verdict.customers)
            if (*stated, verdict.leader, verdict.rank, verdict.seed) != expected or not {*verdict.honest} <= {
                *verdict.participants
            }:
                raise ProtocolError("the vote is about another round, or under another leader")
            if (reference(vote.record), sha256(vote.model)) != (verdict.record, verdict.model):
                raise ProtocolError("the vote's blobs are not the ones that its verdict binds")
            return vote

        return self._ask(checked, session)

    def _ask(self, question: Callable[[Voter], _T], session: _Session) -> dict[str, _T]:
        """Ask the miners that the chain knows and lets sign; who fails is noted and left out.

        One after the other: a miner's work is BLAS, which uses all cores already (threads were measured slower).
        """
        answers: dict[str, _T] = {}
        for seat in session.sealed.miners:
            if seat.miner not in self._miners or seat.miner in session.barred:
                continue
            try:
                answers[seat.miner] = question(self._miners[seat.miner])
            except HearthError as error:
                session.dissent[seat.miner] = str(error)
        return answers

    def _offer(self, session: _Session, agreed: dict[str, Vote], leader: str) -> None:
        """Have the leader publish what was agreed, and then finalise it."""
        vote, miner = agreed[leader], self._miners[leader]
        record, model = miner.publish(vote)
        if (record, model.sha256) != (vote.verdict.record, vote.verdict.model):
            raise ProtocolError("the published blobs are not the ones that the verdict binds")
        session.offers[leader] = (agreed, record, model)
        session.on_chain(lambda: miner.finalise(session.sealed, vote.verdict, _signatures(agreed)))

    def _decision(self, session: _Session, done: Finalisation) -> Decision:
        """Return the decision that the chain has: the offer of whichever leader was first."""
        sealed, (agreed, record, model) = session.sealed, session.offers.get(done.leader, ({}, None, None))
        if record is None or model is None or (done.record, done.model) != (record, model.sha256):
            raise RoundError(f"round {sealed.round}: the chain holds a verdict that is not this committee's")
        evaluation = RoundRecord.from_bytes(agreed[done.leader].record).evaluation
        return Decision(
            verdict=agreed[done.leader].verdict,
            signatures=_signatures(agreed),
            record=record,
            model=model,
            entries=evaluation.customers,
            void=evaluation.void,
            dissent={miner: why for miner, why in session.dissent.items() if miner not in agreed} | session.faults,
            gas=done.gas,
            chain_seconds=session.chain_seconds,
        )

    def _accuse(self, session: _Session) -> None:
        """Report who signed two things, once the round no longer needs their signatures."""
        for miner, (one, two) in session.statements.proofs.items():
            fault = "signed two contradicting verdicts"
            try:
                if self._docket.accuse(one, two):
                    fault += ", which cost it its deposit"
            except HearthError as error:  # the round counts for more than the fine
                fault += f", and was not charged: {error}"
            session.faults[miner] = fault
            _LOG.warning("round %d: miner %s %s", session.sealed.round, miner, fault)


def _signatures(agreed: dict[str, Vote]) -> tuple[bytes, ...]:
    return tuple(agreed[miner].signature for miner in sorted(agreed, key=lambda m: int(m, 16)))


def _quorum(session: _Session, votes: dict[str, Vote]) -> dict[str, Vote]:
    """Return the votes of the largest agreement; raise `RoundError` if it is no quorum."""
    sealed = session.sealed
    groups: dict[bytes, dict[str, Vote]] = {}
    for miner, vote in votes.items():
        groups.setdefault(vote.verdict.digest(sealed.domain), {})[miner] = vote
    needed, total = quorum_of(len(sealed.miners)), len(sealed.miners)
    largest = max(groups, key=lambda digest: (len(groups[digest]), digest), default=b"")
    if len(groups.get(largest, {})) < needed:
        counts = ", ".join(f"{len(group)} for {hex32(digest)}" for digest, group in sorted(groups.items()))
        raise RoundError(
            f"round {sealed.round}: no quorum, {needed} of {total} miners must agree; votes: {counts or 'none'}. "
            + session.told()
        )
    for digest in groups.keys() - {largest}:
        session.dissent |= {miner: f"voted for {hex32(digest)}" for miner in groups[digest]}
    return groups[largest]
