"""What a miner knows of earlier rounds, from the chain and the store alone.

The chain names manifest and record of every finalised round. The manifests say which updates were sealed before, so
that none counts twice; the last record says which model its round started from, and so what that round changed.
Everything is fetched by digest: whoever serves it cannot change it.
"""

from __future__ import annotations

from threading import Lock

import numpy as np
import numpy.typing as npt

from app.mining.reading import BlobReader, fetch, load_model
from app.mining.round import EarlierRound, SealedRound
from app.protocol.errors import ProtocolError, RoundError
from app.protocol.manifest import MAX_RECEIPT_BYTES, Manifest
from app.protocol.record import RoundRecord

_MAX_ENTRY_BYTES = 2**10
_MAX_RECORD_BYTES = 2**16
"""What a record may have beside one entry a participant: 255 tickets, each with an address and a proof."""
_MANY = 2**20

_lock = Lock()
_digests: dict[bytes, frozenset[bytes]] = {}
"""Digests of the updates in a manifest, by the manifest's own digest: what it holds never changes."""


def earlier_updates(sealed: SealedRound, store: BlobReader) -> frozenset[bytes]:
    """Return the digests of all updates that earlier finalised rounds sealed, whoever signed for them.

    Raises
    ------
    RoundError
        If a manifest cannot be had. A miner that judged without it might come to another outcome than the others.
    """
    return frozenset().union(*(_updates_of(sealed, store, past) for past in sealed.earlier))


def last_step(sealed: SealedRound, store: BlobReader, model: npt.NDArray[np.int64]) -> npt.NDArray[np.int64] | None:
    """Return what the last finalised round changed in the global model, shape ``(d,)``; None if it changed nothing.

    Parameters
    ----------
    sealed : SealedRound
        The round.
    store : BlobReader
        Where the last record, and the model before it, are.
    model : numpy.ndarray of int64
        The model that the round starts from.

    Raises
    ------
    RoundError
        If the record or the model cannot be had.
    """
    if not sealed.earlier:
        return None
    past = sealed.earlier[-1]
    limit = len(past.participants) * _MAX_ENTRY_BYTES + _MAX_RECORD_BYTES
    try:
        record = RoundRecord.from_bytes(fetch(sealed, store, f"record of round {past.round}", past.record, limit))
    except ProtocolError as error:
        raise RoundError(f"round {sealed.round}: the record of round {past.round} is none: {error}") from error
    if record.evaluation.model == sealed.model:
        return None
    step = model - load_model(sealed, store, f"model before round {past.round}", record.evaluation.model)
    return step if step.any() else None


def _updates_of(sealed: SealedRound, store: BlobReader, past: EarlierRound) -> frozenset[bytes]:
    with _lock:
        known = _digests.get(past.manifest.sha256)
    if known is not None:
        return known
    limit = (len(past.participants) + 1) * MAX_RECEIPT_BYTES
    try:
        manifest = Manifest.from_bytes(fetch(sealed, store, f"manifest of round {past.round}", past.manifest, limit))
    except ProtocolError as error:
        raise RoundError(f"round {sealed.round}: the manifest of round {past.round} is none: {error}") from error
    found = frozenset(signed.receipt.update for signed in manifest.receipts)
    with _lock:
        if sum(map(len, _digests.values())) + len(found) > _MANY:
            _digests.clear()
        _digests[past.manifest.sha256] = found
    return found
