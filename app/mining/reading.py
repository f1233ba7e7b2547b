"""Reading what a sealed round stands on: without its manifest or its model a round cannot be judged."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt

from app.mining.round import SealedRound
from app.protocol.digest import BlobRef
from app.protocol.errors import BlobMissingError, BlobTamperedError, ProtocolError, RoundError
from app.protocol.fixed_point import MODEL_DTYPE
from app.protocol.tensors import blob_limit, unpack


class BlobReader(Protocol):
    """As much of a `BlobStore` as is needed to verify a round."""

    def get(self, ref: BlobRef, max_bytes: int) -> bytes:
        """Return the blob, verified; see `BlobStore.get`."""


def fetch(sealed: SealedRound, store: BlobReader, what: str, ref: BlobRef, limit: int) -> bytes:
    """Return a blob that the round cannot do without.

    Raises
    ------
    RoundError
        If it is larger than ``limit``, or the store does not have it, or has other bytes.
    """
    if ref.size > limit:
        raise RoundError(f"round {sealed.round}: its {what} has {ref.size} bytes (allowed: up to {limit})")
    try:
        return store.get(ref, limit)
    except (BlobMissingError, BlobTamperedError, ProtocolError) as error:
        raise RoundError(f"round {sealed.round}: its {what} cannot be had: {error}") from error


def load_model(sealed: SealedRound, store: BlobReader, what: str, ref: BlobRef) -> npt.NDArray[np.int64]:
    """Return a global model of the task on the grid, shape ``(d,)``; raise `RoundError` if it cannot be had."""
    layout = sealed.policy.layout
    data = fetch(sealed, store, what, ref, blob_limit(layout, MODEL_DTYPE))
    try:
        return unpack(data, layout, MODEL_DTYPE)
    except ProtocolError as error:
        raise RoundError(f"round {sealed.round}: its {what} is not this task's: {error}") from error
