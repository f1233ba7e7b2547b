"""What a miner knows of earlier rounds, from the chain and the store alone.

The chain names manifest and record of every finalised round. The manifests say which updates were sealed before, so
that none counts twice; the last record says which model its round started from, and so what that round changed; all
records together say how far apart updates were, and whether each customer's pointed where the others went.
Everything is fetched by digest: whoever serves it cannot change it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from threading import Lock

import numpy as np
import numpy.typing as npt

from app.mining.reading import BlobReader, fetch, load_model
from app.mining.round import EarlierRound, SealedRound
from app.protocol.errors import ProtocolError, RoundError
from app.protocol.evaluation import Evaluation
from app.protocol.manifest import MAX_RECEIPT_BYTES, Manifest
from app.protocol.record import RoundRecord
from strategies.evaluation import Past

_MAX_ENTRY_BYTES = 2**10
_MAX_RECORD_BYTES = 2**16
"""What a record may have beside one entry a participant: 255 tickets, each with an address and a proof."""
_MANY = 2**20

_lock = Lock()
_digests: dict[bytes, frozenset[bytes]] = {}
"""Digests of the updates in a manifest, by the manifest's own digest: what it holds never changes."""
_evaluations: dict[bytes, tuple[int, int, dict[int, int]]] = {}
"""Usual score, reach, and cosines by customer index in a record, by the record's own digest."""


@dataclass(frozen=True, slots=True)
class Standing:
    """What the records of the earlier rounds say of a task's customers.

    Attributes
    ----------
    usual : int
        The largest usual score of any round; 0 where there is none.
    aligned, reach : Counter of int
        By customer index: over the rounds in which it was scored, the sums of cosine times reach, and of reach.
    """

    usual: int
    aligned: Counter[int]
    reach: Counter[int]

    def past(self, indices: Sequence[int]) -> Past:
        """Return the same of the customers with these indices, by position."""
        return Past(self.usual, tuple(self.aligned[i] for i in indices), tuple(self.reach[i] for i in indices))


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
    before = _evaluation_of(sealed, store, past).model
    if before == sealed.model:
        return None
    step = model - load_model(sealed, store, f"model before round {past.round}", before)
    return step if step.any() else None


def standing(sealed: SealedRound, store: BlobReader) -> Standing:
    """Return what the records of all earlier rounds say of the task's customers.

    Raises
    ------
    RoundError
        If a record cannot be had.
    """
    found = Standing(0, Counter(), Counter())
    for past in sealed.earlier:
        usual, reach, cosines = _bearings_of(sealed, store, past)
        found = replace(found, usual=max(found.usual, usual))
        for index, cosine in cosines.items():
            found.aligned[index] += cosine * reach
            found.reach[index] += reach
    return found


def _bearings_of(sealed: SealedRound, store: BlobReader, past: EarlierRound) -> tuple[int, int, dict[int, int]]:
    with _lock:
        known = _evaluations.get(past.record.sha256)
    if known is not None:
        return known
    stated = _evaluation_of(sealed, store, past)
    cosines = {entry.index: entry.cosine for entry in stated.customers if entry.cosine is not None}
    found = stated.usual, stated.reach, cosines
    with _lock:
        if sum(len(kept) for _, _, kept in _evaluations.values()) + len(cosines) > _MANY:
            _evaluations.clear()
        _evaluations[past.record.sha256] = found
    return found


def _evaluation_of(sealed: SealedRound, store: BlobReader, past: EarlierRound) -> Evaluation:
    limit = len(past.participants) * _MAX_ENTRY_BYTES + _MAX_RECORD_BYTES
    try:
        data = fetch(sealed, store, f"record of round {past.round}", past.record, limit)
        return RoundRecord.from_bytes(data).evaluation
    except ProtocolError as error:
        raise RoundError(f"round {sealed.round}: the record of round {past.round} is none: {error}") from error


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
