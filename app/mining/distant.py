"""The committee as its manufacturer sees it when every miner is a process of its own: it waits for what they finalise.

It trusts them no more than anybody else: it computes the round once more, and goes on only if that comes to the model
that the chain holds.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from eth_account.signers.local import LocalAccount

from app.ledger.task_ledger import TaskLedger
from app.ledger.task_records import Finalisation, Phase
from app.mining.committee import Decision
from app.mining.outcome import evaluate
from app.mining.recovery import record_of
from app.mining.round import SealedRound
from app.protocol.digest import hex32, sha256
from app.protocol.errors import LedgerError, RoundError
from app.protocol.verdict import Verdict
from app.store.base import BlobStore, pin_name


class DistantCommittee:
    """Miners that are elsewhere.

    Parameters
    ----------
    ledger : TaskLedger
        The task.
    store : BlobStore
        Where the round's blobs are.
    account : LocalAccount
        Ends a round whose deadline has passed.
    poll : float
        Seconds between two looks at the chain.
    sleep : callable, optional
        Pauses for a number of seconds.
    """

    def __init__(
        self,
        ledger: TaskLedger,
        store: BlobStore,
        account: LocalAccount,
        poll: float = 1.0,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._ledger, self._store, self._account, self._poll, self._sleep = ledger, store, account, poll, sleep

    def decide(self, sealed: SealedRound) -> Decision:
        """Wait until the miners have finalised a sealed round, and return what they agreed on.

        Raises
        ------
        RoundError
            If they have not within the task's ``finalise_window``: the round is then ended on chain; or if the round
            comes to another model than the one they finalised.
        LedgerError, StoreError
            If the chain or the store failed.
        """
        start = time.perf_counter()
        done = self._wait(sealed)
        waited = time.perf_counter() - start
        outcome = evaluate(sealed, self._store)
        if sha256(outcome.model) != done.model:
            made = hex32(sha256(outcome.model))
            raise RoundError(
                f"round {sealed.round}: the miners finalised model {hex32(done.model)}, and its updates make {made}"
            )
        record = record_of(self._store, done)
        model = self._store.put(outcome.model, pin_name(sealed.policy.digest, "model", sealed.round))
        silent = {seat.miner: "did not sign" for index, seat in enumerate(sealed.miners) if index not in done.signers}
        return Decision(
            verdict=_verdict(sealed, done),
            signatures=(),
            record=done.record,
            model=model,
            entries=record.evaluation.customers,
            void=record.evaluation.void,
            dissent=silent,
            gas=done.gas,
            tx=done.tx,
            chain_seconds=waited,
        )

    def _wait(self, sealed: SealedRound) -> Finalisation:
        window = self._ledger.terms().finalise_window
        while True:
            done = self._ledger.finalised(sealed.round)
            if done is not None:
                return done
            state = self._ledger.state()
            if state.phase is not Phase.SEALED or state.round != sealed.round:
                done = self._ledger.finalised(sealed.round)  # between the two questions
                if done is not None:
                    return done
                raise RoundError(f"round {sealed.round} ended without a verdict")
            if time.time() > state.since + window:
                self._expire(sealed.round)
            self._sleep(self._poll)

    def _expire(self, round_number: int) -> None:
        try:
            self._ledger.expire(self._account)
        except LedgerError:
            if self._ledger.finalised(round_number) is None:  # the miners were a moment faster
                raise
            return
        raise RoundError(f"round {round_number}: the miners found no verdict in time, and the round was ended on chain")


def _verdict(sealed: SealedRound, done: Finalisation) -> Verdict:
    return Verdict(
        task=sealed.policy.digest,
        round=sealed.round,
        root=done.root,
        model=done.model,
        record=done.record,
        participants=done.participants,
        honest=done.honest,
        customers=len(sealed.customers),
        leader=done.leader,
        rank=done.rank,
        seed=done.seed,
    )
