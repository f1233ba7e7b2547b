"""Following a task on chain: which model it is at, and the round that waits for its verdict.

The chain has the digest of the current model and no name of it. Whoever judged the last round knows the model; whoever
missed it computes it once more from what the chain binds. So it does not matter when a miner was started.
"""

from __future__ import annotations

from app.ledger.task_ledger import TaskLedger
from app.ledger.task_records import TaskState
from app.mining.history import History
from app.mining.recovery import model_after, recovered
from app.mining.round import SealedRound
from app.mining.sealed import current_round
from app.protocol.digest import BlobRef, hex32
from app.protocol.errors import RoundError
from app.protocol.policy import Policy
from app.store.base import BlobStore, reference


def policy_of(ledger: TaskLedger, store: BlobStore) -> Policy:
    """Return a task's policy: the chain has its digest, which is all that is needed to find it.

    Raises
    ------
    StoreError
        If the store does not have it.
    ProtocolError
        If it is none.
    """
    return Policy.from_bytes(store.get_block(ledger.state().policy))


class Follower:
    """One task as its miner sees it.

    Attributes
    ----------
    policy : Policy
        The task's rules.

    Parameters
    ----------
    ledger : TaskLedger
        The task on chain.
    store : BlobStore
        Where its blobs are.
    policy : Policy
        Its rules, as their digest on chain binds them.
    """

    def __init__(self, ledger: TaskLedger, store: BlobStore, policy: Policy) -> None:
        self.policy, self._ledger, self._store = policy, ledger, store
        self._history = History(ledger)
        self._models = {policy.model.sha256: policy.model}

    def learn(self, model: bytes) -> BlobRef:
        """Remember a model that a round may come to, and return its reference."""
        found = reference(model)
        self._models = {self.policy.model.sha256: self.policy.model, **self._models, found.sha256: found}
        return found

    def model(self, state: TaskState) -> BlobRef:
        """Return the model that the task is at.

        Raises
        ------
        RoundError
            If it cannot be found out: the updates of the last round, judged now, make another one.
        LedgerError, StoreError
            If the chain or the store failed.
        """
        if state.model not in self._models:
            rounds = list(recovered(self._ledger, self._store, self.policy))
            if rounds:
                found = model_after(rounds[-1], self._ledger, self._store, self.policy, self._history)
                self._models[found.sha256] = found
        if state.model not in self._models:
            raise RoundError(f"the chain is at model {hex32(state.model)}, which none of its rounds makes")
        # The others are of rounds that are over, or that came to something else.
        self._models = {digest: self._models[digest] for digest in (self.policy.model.sha256, state.model)}
        return self._models[state.model]

    def sealed(self, state: TaskState) -> SealedRound:
        """Return the round that waits for its verdict. Raises as `model`."""
        return current_round(self._ledger, self.policy, self._history, state.round, self.model(state))
