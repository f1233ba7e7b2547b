"""A sealed round as the chain states it: everything that a miner is told, read by whoever needs it."""

from __future__ import annotations

from collections.abc import Sequence

from app.ledger.task_ledger import TaskLedger
from app.ledger.task_records import Seal
from app.mining.history import History
from app.mining.round import SealedRound
from app.protocol.digest import BlobRef
from app.protocol.errors import RoundError
from app.protocol.policy import Policy


def current_round(
    ledger: TaskLedger, policy: Policy, history: History, round_number: int, model: BlobRef
) -> SealedRound:
    """Return the round that waits for its verdict.

    Parameters
    ----------
    ledger : TaskLedger
        The task.
    policy : Policy
        Its rules.
    history : History
        Its earlier rounds.
    round_number : int
        Which round it must be.
    model : BlobRef
        The global model that it starts from; the chain has its digest alone.

    Raises
    ------
    RoundError
        If the chain has no seal for the round, or another model.
    LedgerError
        If the chain cannot be read.
    """
    seal, state = ledger.sealed(round_number), ledger.state()
    if seal is None:
        raise RoundError(f"round {round_number} is not sealed on chain")
    if state.round == round_number and state.model != model.sha256:
        raise RoundError(f"round {round_number} starts from model 0x{state.model.hex()}, not 0x{model.sha256.hex()}")
    return sealed_round(ledger, policy, history, seal, reputation=ledger.reputation(), seed=state.seed, model=model)


def sealed_round(
    ledger: TaskLedger,
    policy: Policy,
    history: History,
    seal: Seal,
    *,
    reputation: Sequence[int],
    seed: bytes,
    model: BlobRef,
) -> SealedRound:
    """Return a round, also one that is over, from its seal and from what was before it.

    Parameters
    ----------
    ledger, policy, history
        As for `current_round`.
    seal : Seal
        The round's.
    reputation : sequence of int
        Everybody's before the round, by index.
    seed : bytes
        The round's seed (32 bytes).
    model : BlobRef
        The model that it starts from.
    """
    customers = ledger.customers()
    return SealedRound(
        domain=ledger.domain,
        policy=policy,
        round=seal.round,
        root=seal.root,
        manifest=seal.manifest,
        participants=seal.participants,
        customers=customers,
        reputation=tuple(reputation),
        model=model,
        seed=seed,
        miners=ledger.miners(),
        submitted=tuple(
            (customers.index(signed.customer), signed.receipt.update) for signed in ledger.submissions(seal.round)
        ),
        earlier=history.before(seal.round),
    )
