"""The verdicts of a task, as its miners bring them to the contract."""

from __future__ import annotations

from collections.abc import Sequence

from eth_account.signers.local import LocalAccount

from app.ledger.deposits import Role
from app.ledger.task_ledger import TaskLedger
from app.ledger.task_records import Finalisation, FinaliseCall
from app.protocol.verdict import SignedVerdict, Verdict


class TaskDocket:
    """What leaders and a committee do on chain; implements `app.mining.roles.Docket`.

    Parameters
    ----------
    ledger : TaskLedger
        The open task.
    accuser : LocalAccount
        Who sends the proof of an equivocation, and gets half of the deposit.
    """

    def __init__(self, ledger: TaskLedger, accuser: LocalAccount) -> None:
        self._ledger, self._accuser = ledger, accuser

    def finalise(self, leader: LocalAccount, verdict: Verdict, manifest: bytes, signatures: Sequence[bytes]) -> None:
        """Send a verdict with its quorum, in the turn of its rank; wait for its block."""
        self._ledger.finalise(leader, _call(verdict, manifest, signatures))

    def finalised(self, round_number: int) -> Finalisation | None:
        """Return what finalised a round, or None where nothing has yet."""
        return self._ledger.finalised(round_number)

    def barred(self) -> frozenset[str]:
        """Return the addresses of the miners without the deposit that the terms ask for."""
        return self._ledger.deposits.missing(Role.MINER, (seat.miner for seat in self._ledger.miners()))

    def accuse(self, one: SignedVerdict, two: SignedVerdict) -> bool:
        """Have the deposit taken of the miner who signed both verdicts; False where it has none."""
        miner = one.verdict.signer(one.signature, self._ledger.domain)
        deposits = self._ledger.deposits
        if not deposits.has(Role.MINER, miner):
            return False
        first, second = (_call(said.verdict, bytes(32), [said.signature]) for said in (one, two))
        deposits.slash_miner(self._accuser, first, second, one.verdict.customers)
        return True


def _call(verdict: Verdict, manifest: bytes, signatures: Sequence[bytes]) -> FinaliseCall:
    return FinaliseCall(
        task=verdict.task,
        round=verdict.round,
        root=verdict.root,
        manifest=manifest,
        model=verdict.model,
        record=verdict.record,
        rank=verdict.rank,
        participants=verdict.participants,
        honest=verdict.honest,
        leader=verdict.leader,
        seed=verdict.seed,
        signatures=tuple(signatures),
    )
