"""The vote on one sealed round: who shows a ticket, who votes what, and whether a quorum agrees.

Whoever gathers a ballot, a committee in one process or the miner that leads, computes nothing of a round itself and is
trusted by nobody: a miner signs what it recomputed, and the contract counts the signatures.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from app.mining.election import electorate, next_seed, rank
from app.mining.equivocation import Statements
from app.mining.roles import Voter
from app.mining.round import SealedRound
from app.mining.vote import Vote
from app.protocol.digest import hex32
from app.protocol.errors import HearthError, ProtocolError, RoundError
from app.protocol.record import Candidate, Ticket
from app.protocol.verdict import SignedVerdict, quorum_of

_T = TypeVar("_T")


class Ballot:
    """Gathers tickets and votes on one sealed round.

    Attributes
    ----------
    dissent : dict of str to str
        Miners whose vote did not count, and why.
    statements : Statements
        What was signed, and by whom twice.

    Parameters
    ----------
    sealed : SealedRound
        The round.
    voters : sequence of Voter
        Who is asked; of them those that the chain knows, each once.
    barred : frozenset of str
        Miners whose signature the contract does not take.
    at_once : int, default 1
        How many are asked at the same time. One in one process, where each one's work is BLAS and uses all cores
        (threads were measured slower); all of them where they are far away.
    """

    def __init__(
        self, sealed: SealedRound, voters: Sequence[Voter], barred: frozenset[str] = frozenset(), at_once: int = 1
    ) -> None:
        self.sealed, self.dissent, self.statements = sealed, dict.fromkeys(barred, "has no deposit"), Statements()
        known = {voter.address: voter for voter in voters}
        seats = [seat.miner for seat in sealed.miners]
        self._voters = [known[miner] for miner in seats if miner in known and miner not in barred]
        self._at_once = at_once

    def tickets(self) -> list[Ticket]:
        """Ask everybody for a ticket."""
        return list(self._ask(lambda voter: voter.ticket(self.sealed)).values())

    def candidates(self, tickets: Sequence[Ticket]) -> tuple[Candidate, ...]:
        """Return who may lead, in the order of their turns."""
        return rank(tickets, electorate(self.sealed))

    def agreed(self, tickets: Sequence[Ticket], place: int, leader: Candidate) -> dict[str, Vote]:
        """Ask for votes under the leader of rank ``place``, and return those of a quorum that agrees, by miner.

        Raises
        ------
        RoundError
            If no quorum agrees.
        """
        votes = self._ask(lambda voter: self._checked(voter, tickets, place, leader))
        groups: dict[bytes, dict[str, Vote]] = {}
        for miner, vote in votes.items():
            groups.setdefault(vote.verdict.digest(self.sealed.domain), {})[miner] = vote
        needed, total = quorum_of(len(self.sealed.miners)), len(self.sealed.miners)
        largest = max(groups, key=lambda digest: (len(groups[digest]), digest), default=b"")
        if len(groups.get(largest, {})) < needed:
            counts = ", ".join(f"{len(group)} for {hex32(digest)}" for digest, group in sorted(groups.items()))
            raise RoundError(
                f"round {self.sealed.round}: no quorum, {needed} of {total} miners must agree; "
                f"votes: {counts or 'none'}. {told(self.dissent)}"
            )
        for digest in groups.keys() - {largest}:
            self.dissent |= {miner: f"voted for {hex32(digest)}" for miner in groups[digest]}
        return groups[largest]

    def _checked(self, voter: Voter, tickets: Sequence[Ticket], place: int, leader: Candidate) -> Vote:
        """Return a vote that is about this round under this leader; its blobs matter when a leader publishes them."""
        sealed, vote = self.sealed, voter.vote(self.sealed, tickets, place)
        verdict = vote.verdict
        if verdict.signer(vote.signature, sealed.domain) != voter.address:
            raise ProtocolError("the vote is not signed by its miner")
        self.statements.note(voter.address, SignedVerdict(verdict, vote.signature))
        question = (sealed.policy.digest, sealed.round, sealed.root, sealed.participants, len(sealed.customers))
        stated = (verdict.task, verdict.round, verdict.root, verdict.participants, verdict.customers)
        under = (verdict.leader, verdict.rank, verdict.seed) == (leader.miner, place, next_seed(leader.proof))
        if stated != question or not under or not {*verdict.honest} <= {*verdict.participants}:
            raise ProtocolError("the vote is about another round, or under another leader")
        return vote

    def _ask(self, question: Callable[[Voter], _T]) -> dict[str, _T]:
        """Ask everybody; who fails is noted and left out."""
        answers: dict[str, _T] = {}

        def ask(voter: Voter) -> None:
            try:
                answers[voter.address] = question(voter)
            except HearthError as error:
                self.dissent[voter.address] = str(error)

        if self._at_once == 1:
            for voter in self._voters:
                ask(voter)
        else:
            with ThreadPoolExecutor(self._at_once, thread_name_prefix="ballot") as pool:
                list(pool.map(ask, self._voters))
        return answers


def signatures_of(agreed: dict[str, Vote]) -> tuple[bytes, ...]:
    """Return the signatures of a quorum (65 bytes each) as the contract takes them: by signer, ascending."""
    return tuple(agreed[miner].signature for miner in sorted(agreed, key=lambda miner: int(miner, 16)))


def told(failed: dict[str, str]) -> str:
    """Return what went wrong with miners in one line, each reason once."""
    reasons = sorted(set(failed.values()))
    return f"{len(failed)} miners failed" + (": " + "; ".join(reasons) if reasons else "")
