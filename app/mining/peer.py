"""A distant miner, as the one that leads sees it."""

from __future__ import annotations

from collections.abc import Sequence

from app.mining.election import electorate
from app.mining.election import rank as ranking
from app.mining.messages import Question, ticket_from_json, vote_from_bytes
from app.mining.round import SealedRound
from app.mining.vote import Vote
from app.protocol.digest import parse_json
from app.protocol.errors import ProtocolError, RoundError
from app.protocol.record import Ticket
from app.service.client import Client

_TICKET_SECONDS = 10.0


class Peer:
    """Another miner's service; implements `app.mining.roles.Voter`.

    Parameters
    ----------
    miner : str
        The checksum address that its votes must be signed by.
    client : Client
        Its service.
    vote_seconds : float
        How long it may take to judge a round.
    """

    def __init__(self, miner: str, client: Client, vote_seconds: float) -> None:
        self.address, self._client, self._vote_seconds = miner, client, vote_seconds

    def ticket(self, sealed: SealedRound) -> Ticket:
        """Ask for its ticket; it is checked where candidates are ranked.

        Raises
        ------
        ServiceError
            If it does not answer, or with an error.
        ProtocolError
            If it shows another miner's ticket, or none.
        """
        data = self._client.call("Ticket", Question.about(sealed).to_bytes(), timeout=_TICKET_SECONDS)
        ticket = ticket_from_json(parse_json(data, "a ticket"))
        if ticket.miner != self.address:
            raise ProtocolError(f"it shows a ticket of {ticket.miner}")
        return ticket

    def vote(self, sealed: SealedRound, tickets: Sequence[Ticket], rank: int = 0) -> Vote:
        """Ask for its vote; its signature is checked where votes are counted. Raises as `ticket`."""
        ranked = ranking(tickets, electorate(sealed))
        if not 0 <= rank < len(ranked):
            raise RoundError(f"round {sealed.round} has {len(ranked)} valid tickets, none of rank {rank}")
        question = Question.about(sealed, tickets, rank).to_bytes()
        data = self._client.call("Vote", question, timeout=self._vote_seconds)
        return vote_from_bytes(data, sealed, ranked[rank], rank)
