"""The committee in one process: every miner votes on its own, a quorum of equal verdicts decides.

The committee carries tickets and votes and computes nothing itself, so that nobody has to trust it: a miner signs what
it recomputed, and the contract counts the signatures.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from eth_account.signers.local import LocalAccount

from app.mining.election import electorate, next_seed, rank
from app.mining.miner import Vote
from app.mining.round import SealedRound
from app.protocol.digest import BlobRef, hex32, sha256
from app.protocol.errors import HearthError, ProtocolError, RoundError
from app.protocol.record import Candidate, CustomerEntry, RoundRecord, Ticket
from app.protocol.verdict import Verdict, quorum_of
from app.store.base import reference

_T = TypeVar("_T")


class Voter(Protocol):
    """What the committee needs of a miner; `Miner` is one, and so is a proxy of a distant one.

    A voter that fails raises a `HearthError`.
    """

    @property
    def account(self) -> LocalAccount:
        """The account that signs, and that sends the transaction of a leader."""

    def ticket(self, sealed: SealedRound) -> Ticket:
        """Return the miner's ticket."""

    def vote(self, sealed: SealedRound, tickets: Sequence[Ticket], rank: int = 0) -> Vote:
        """Return the miner's vote under the leader of that rank."""

    def publish(self, vote: Vote) -> tuple[BlobRef, BlobRef]:
        """Put record and model of the miner's vote into the store."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What a quorum agreed on, ready to be finalised by its leader.

    Attributes
    ----------
    verdict : Verdict
        What was agreed.
    signatures : tuple of bytes
        The agreeing miners' signatures (65 bytes each), by signer address (as a number), ascending.
    leader : LocalAccount
        The account that sends the transaction.
    record, model : BlobRef
        The round record and the new global model, in the store by now.
    entries : tuple of CustomerEntry
        Every participant's mark, reason, score and weight.
    void : bool
        Whether the round had too few valid updates, so that the model is unchanged.
    dissent : dict of str to str
        Miners that are not part of the quorum, and why.
    store_seconds, compute_seconds : float
        Spent in the store, and in everything else, added up over the miners.
    """

    verdict: Verdict
    signatures: tuple[bytes, ...]
    leader: LocalAccount
    record: BlobRef
    model: BlobRef
    entries: tuple[CustomerEntry, ...]
    void: bool
    dissent: dict[str, str]
    store_seconds: float
    compute_seconds: float


class Committee:
    """Miners in one process.

    Parameters
    ----------
    miners : sequence of Voter
        Each with an account of its own.
    """

    def __init__(self, miners: Sequence[Voter]) -> None:
        self._miners = {str(miner.account.address): miner for miner in miners}
        if len(self._miners) != len(miners):
            raise ProtocolError("every miner of a committee has an account of its own")

    def decide(self, sealed: SealedRound) -> Decision:
        """Let the miners judge a sealed round, and the leader publish what they found.

        Miners that fail, are silent or vote otherwise are tolerated as long as a quorum of the miners that the chain
        knows agrees. A leader outside that quorum, or one that cannot publish, gives way to the next rank.

        Raises
        ------
        RoundError
            If no quorum agrees, or no leader is left.
        """
        dissent: dict[str, str] = {}
        tickets = list(self._ask(lambda miner: miner.ticket(sealed), sealed, dissent).values())
        ranked = rank(tickets, electorate(sealed))
        seconds = [0.0, 0.0]
        for place, leader in enumerate(ranked):
            votes = self._votes(sealed, tickets, place, leader, dissent)
            for vote in votes.values():
                seconds[0] += vote.fetch_seconds
                seconds[1] += vote.compute_seconds
            agreed = _quorum(sealed, votes, dissent)
            if leader.miner not in agreed:
                continue
            try:
                return self._publish(sealed, agreed, leader.miner, dissent, seconds)
            except HearthError as error:
                dissent[leader.miner] = f"could not publish: {error}"
        raise RoundError(f"round {sealed.round}: no leader is left. {_told(dissent)}")

    def _votes(
        self, sealed: SealedRound, tickets: Sequence[Ticket], place: int, leader: Candidate, dissent: dict[str, str]
    ) -> dict[str, Vote]:
        """Return the votes that are about this round under this leader, by miner."""
        question = (sealed.policy.digest, sealed.round, sealed.root, sealed.participants, len(sealed.customers))
        expected = (*question, leader.miner, place, next_seed(leader.proof))

        def checked(miner: Voter) -> Vote:
            vote = miner.vote(sealed, tickets, place)
            verdict = vote.verdict
            stated = (verdict.task, verdict.round, verdict.root, verdict.participants, verdict.customers)
            if (*stated, verdict.leader, verdict.rank, verdict.seed) != expected or not {*verdict.honest} <= {
                *verdict.participants
            }:
                raise ProtocolError("the vote is about another round, or under another leader")
            if (reference(vote.record), sha256(vote.model)) != (verdict.record, verdict.model):
                raise ProtocolError("the vote's blobs are not the ones that its verdict binds")
            if verdict.signer(vote.signature, sealed.domain) != miner.account.address:
                raise ProtocolError("the vote is not signed by its miner")
            return vote

        return self._ask(checked, sealed, dissent)

    def _ask(self, question: Callable[[Voter], _T], sealed: SealedRound, dissent: dict[str, str]) -> dict[str, _T]:
        """Ask the miners that the chain knows; who fails is noted and left out.

        One after the other: a miner's work is BLAS, which uses all cores already (threads were measured slower).
        """
        answers: dict[str, _T] = {}
        for seat in sealed.miners:
            if seat.miner not in self._miners:
                continue
            try:
                answers[seat.miner] = question(self._miners[seat.miner])
            except HearthError as error:
                dissent[seat.miner] = str(error)
        return answers

    def _publish(
        self,
        sealed: SealedRound,
        agreed: dict[str, Vote],
        leader: str,
        dissent: dict[str, str],
        seconds: Sequence[float],
    ) -> Decision:
        vote = agreed[leader]
        evaluation = RoundRecord.from_bytes(vote.record).evaluation
        start = time.perf_counter()
        record, model = self._miners[leader].publish(vote)
        if (record, model.sha256) != (vote.verdict.record, vote.verdict.model):
            raise ProtocolError("the published blobs are not the ones that the verdict binds")
        return Decision(
            verdict=vote.verdict,
            signatures=tuple(agreed[miner].signature for miner in sorted(agreed, key=lambda m: int(m, 16))),
            leader=self._miners[leader].account,
            record=record,
            model=model,
            entries=evaluation.customers,
            void=evaluation.void,
            dissent={miner: why for miner, why in dissent.items() if miner not in agreed},
            store_seconds=seconds[0] + time.perf_counter() - start,
            compute_seconds=seconds[1],
        )


def _quorum(sealed: SealedRound, votes: dict[str, Vote], dissent: dict[str, str]) -> dict[str, Vote]:
    """Return the votes of the largest agreement; raise `RoundError` if it is no quorum."""
    groups: dict[bytes, dict[str, Vote]] = {}
    for miner, vote in votes.items():
        groups.setdefault(vote.verdict.digest(sealed.domain), {})[miner] = vote
    needed, total = quorum_of(len(sealed.miners)), len(sealed.miners)
    largest = max(groups, key=lambda digest: (len(groups[digest]), digest), default=b"")
    if len(groups.get(largest, {})) < needed:
        counts = ", ".join(f"{len(group)} for {hex32(digest)}" for digest, group in sorted(groups.items()))
        raise RoundError(
            f"round {sealed.round}: no quorum, {needed} of {total} miners must agree; votes: {counts or 'none'}. "
            + _told(dissent)
        )
    for digest in groups.keys() - {largest}:
        dissent |= {miner: f"voted for {hex32(digest)}" for miner in groups[digest]}
    return groups[largest]


def _told(dissent: dict[str, str]) -> str:
    """Return what went wrong in one line, each reason once."""
    reasons = sorted(set(dissent.values()))
    return f"{len(dissent)} miners failed" + (": " + "; ".join(reasons) if reasons else "")
