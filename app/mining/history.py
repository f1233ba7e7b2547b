"""The rounds of a task that are over, as the chain tells them."""

from __future__ import annotations

from app.ledger.task_ledger import TaskLedger
from app.mining.round import EarlierRound
from app.protocol.errors import RoundError


class History:
    """Reads each finalised round from the chain once: what is final does not change.

    Parameters
    ----------
    ledger : TaskLedger
        The task.
    """

    def __init__(self, ledger: TaskLedger) -> None:
        self._ledger = ledger
        self._rounds: dict[int, EarlierRound | None] = {}

    def before(self, round_number: int) -> tuple[EarlierRound, ...]:
        """Return the finalised rounds before ``round_number``, ascending; rounds that expired are left out.

        Raises
        ------
        RoundError
            If the chain has no seal for a finalised round.
        LedgerError
            If the chain cannot be read.
        """
        for number in range(1, round_number):
            if number not in self._rounds:
                self._rounds[number] = self._read(number)
        rounds = (self._rounds[number] for number in range(1, round_number))
        return tuple(past for past in rounds if past is not None)

    def _read(self, number: int) -> EarlierRound | None:
        found, seal = self._ledger.finalised(number), self._ledger.sealed(number)
        if found is None:
            return None
        if seal is None:
            raise RoundError(f"round {number} is finalised on chain, and not sealed")
        return EarlierRound(number, seal.manifest, found.record, found.participants, found.honest)
