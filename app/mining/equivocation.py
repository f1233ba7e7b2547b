"""Who signed two things about one round: kept as evidence, for which the contract takes a deposit."""

from __future__ import annotations

import logging

from app.mining.roles import Docket
from app.protocol.errors import HearthError
from app.protocol.verdict import SignedVerdict, contradict

_LOG = logging.getLogger(__name__)


class Statements:
    """The verdicts that miners signed on one sealed round, as far as somebody saw them.

    A miner signs one verdict for each leader whose turn comes, and all of them must agree in what the round comes to. A
    pair that does not is proof that it tells different things to different parties, whatever it meant by it.
    """

    def __init__(self) -> None:
        self._seen: dict[str, list[SignedVerdict]] = {}
        self._proofs: dict[str, tuple[SignedVerdict, SignedVerdict]] = {}

    def note(self, miner: str, statement: SignedVerdict) -> None:
        """Take down what ``miner`` signed; the signature must have been checked."""
        seen = self._seen.setdefault(miner, [])
        for earlier in seen:
            if contradict(earlier.verdict, statement.verdict):
                self._proofs.setdefault(miner, (earlier, statement))
        seen.append(statement)

    @property
    def proofs(self) -> dict[str, tuple[SignedVerdict, SignedVerdict]]:
        """Two contradicting statements of each miner that made such."""
        return dict(self._proofs)


def charge(docket: Docket, one: SignedVerdict, two: SignedVerdict) -> str:
    """Bring a contradiction to the contract, and return what became of it in a few words; it never raises.

    A round counts for more than a fine: call it once the round no longer needs the miner's signature.
    """
    told = "signed two contradicting verdicts"
    try:
        if docket.accuse(one, two):
            told += ", which cost it its deposit"
    except HearthError as error:
        told += f", and was not charged: {error}"
    _LOG.warning("round %d: a miner %s", one.verdict.round, told)
    return told
