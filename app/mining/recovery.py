"""Rounds that a coordinator or a miner finds finalised when it starts: what the chain remembers for one that died.

Everything is read from the chain and from the blobs that it binds, so it does not matter which process, or which
machine, began the task. What was never written there, such as why a customer sent nothing, is gone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from app.ledger.task_ledger import TaskLedger
from app.ledger.task_records import Finalisation, Seal
from app.mining.history import History
from app.mining.outcome import evaluate
from app.mining.sealed import sealed_round
from app.protocol.digest import BlobRef, hex32
from app.protocol.errors import ProtocolError, RoundError
from app.protocol.evaluation import CustomerEntry
from app.protocol.manifest import MAX_RECEIPT_BYTES, Manifest
from app.protocol.policy import Policy
from app.protocol.record import RoundRecord
from app.store.base import BlobStore, reference
from strategies.reputation import next_reputation

UNKNOWN = "not known: the coordinator was restarted"
"""Why somebody was absent, or not part of a quorum, where the process that knew it has died."""
_MAX_ENTRY_BYTES = 2**10
_MAX_RECORD_BYTES = 2**16


@dataclass(frozen=True, slots=True)
class Recovered:
    """A finalised round, as the chain and the store have it.

    Attributes
    ----------
    seal, finalisation : Seal, Finalisation
        What the chain says.
    manifest : Manifest
        The sealed receipts.
    entries : tuple of CustomerEntry
        What the miners found.
    void : bool
        Whether the model stayed as it was.
    start : BlobRef
        The model that the round started from.
    before, after : tuple of int
        Everybody's reputation, by index.
    seed : bytes
        The round's seed (32 bytes).
    """

    seal: Seal
    finalisation: Finalisation
    manifest: Manifest
    entries: tuple[CustomerEntry, ...]
    void: bool
    start: BlobRef
    before: tuple[int, ...]
    after: tuple[int, ...]
    seed: bytes


def recovered(ledger: TaskLedger, store: BlobStore, policy: Policy) -> Iterator[Recovered]:
    """Yield the task's finalised rounds, ascending; rounds that expired are left out.

    Raises
    ------
    RoundError
        If a manifest or a record is not what the chain binds.
    LedgerError, StoreError
        If the chain or the store failed.
    """
    gammas, seed = (policy.gamma_initial,) * len(ledger.customers()), ledger.terms().seed
    for number in range(1, ledger.state().over + 1):
        final, seal = ledger.finalised(number), ledger.sealed(number)
        if final is None or seal is None:
            continue
        manifest, evaluation = manifest_of(store, seal), record_of(store, final).evaluation
        after = next_reputation(gammas, final.participants, final.honest, policy.gamma_max)
        yield Recovered(
            seal, final, manifest, evaluation.customers, evaluation.void, evaluation.model, gammas, after, seed
        )
        gammas, seed = after, final.seed


def model_after(last: Recovered, ledger: TaskLedger, store: BlobStore, policy: Policy, history: History) -> BlobRef:
    """Return the model that a finalised round came to, computed once more: the chain has its digest, no name of it.

    Raises
    ------
    RoundError
        If it is not the one that the chain finalised.
    """
    number = last.seal.round
    sealed = sealed_round(ledger, policy, history, last.seal, reputation=last.before, seed=last.seed, model=last.start)
    model = evaluate(sealed, store).model
    found = reference(model)
    if found.sha256 != last.finalisation.model:
        raise RoundError(
            f"round {number}: the chain finalised model {hex32(last.finalisation.model)}, and its updates make "
            f"{hex32(found.sha256)}"
        )
    return found


def record_of(store: BlobStore, final: Finalisation) -> RoundRecord:
    """Return the record of a finalised round.

    Raises
    ------
    RoundError
        If it is not what the chain binds.
    StoreError
        If the store failed.
    """
    return read_record(store, final.record, len(final.participants) * _MAX_ENTRY_BYTES + _MAX_RECORD_BYTES)


def read_record(store: BlobStore, ref: BlobRef, max_bytes: int | None = None) -> RoundRecord:
    """Return a record that the chain binds; raises as `record_of`."""
    try:
        return RoundRecord.from_bytes(store.get(ref, ref.size if max_bytes is None else max_bytes))
    except ProtocolError as error:
        raise RoundError(f"the record {ref.cid} that the chain binds is none: {error}") from error


def manifest_of(store: BlobStore, seal: Seal) -> Manifest:
    """Return the manifest of a sealed round; raises as `record_of`."""
    return read_manifest(store, seal.manifest, (len(seal.participants) + 1) * MAX_RECEIPT_BYTES)


def read_manifest(store: BlobStore, ref: BlobRef, max_bytes: int | None = None) -> Manifest:
    """Return a manifest that the chain binds; raises as `record_of`."""
    try:
        return Manifest.from_bytes(store.get(ref, ref.size if max_bytes is None else max_bytes))
    except ProtocolError as error:
        raise RoundError(f"the manifest {ref.cid} that the chain binds is none: {error}") from error
