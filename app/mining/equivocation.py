"""Who signed two things about one round: kept as evidence, for which the contract takes a deposit."""

from __future__ import annotations

from app.protocol.verdict import SignedVerdict, contradict


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
