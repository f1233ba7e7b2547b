"""Screening: what is checked about every receipt and update before Multi-Krum sees it.

Two kinds of fault are kept apart. A *forgery* is something that the customer did not sign for this round: only the
relayer can have put it under the seal, so it voids the seal and costs no customer anything. A *fault* is in what the
customer did sign: it costs that customer its H and nobody else anything. A store that cannot be reached is neither;
its error ends the attempt.

What the screening cannot tell: whether a blob that the store does not have was never uploaded or was withheld by
whoever relays it, and who of two customers with the same update copied the other. For now the earlier in the order of
addresses counts as the author; the order in which the customers commit to their digests on chain is to replace it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Protocol

import numpy as np
import numpy.typing as npt

from app.mining.round import SealedRound
from app.protocol.digest import BlobRef
from app.protocol.errors import BlobMissingError, BlobTamperedError, ProtocolError, RoundError
from app.protocol.fixed_point import MODEL_DTYPE
from app.protocol.manifest import MAX_RECEIPT_BYTES, Manifest
from app.protocol.receipt import SignedReceipt
from app.protocol.record import Reason
from app.protocol.tensors import blob_limit, unpack


class BlobReader(Protocol):
    """As much of a `BlobStore` as is needed to verify a round."""

    def get(self, ref: BlobRef, max_bytes: int) -> bytes:
        """Return the blob, verified; see `BlobStore.get`."""


class Forgery(StrEnum):
    """Why a seal is void: what no customer can be blamed for."""

    MANIFEST = "the manifest is not the one that the root binds"
    PARTICIPANTS = "its customers are not the sealed participants"
    CUSTOMER = "a receipt names nobody of this task"
    SIGNATURE = "a receipt is not signed by the customer it names"
    TASK = "a receipt is for another task"
    ROUND = "the receipts are for another round"


@dataclass(frozen=True, slots=True)
class Screened:
    """One participant after the screening.

    Attributes
    ----------
    signed : SignedReceipt
        Its receipt.
    index : int
        Its index in the task.
    reason : Reason
        `Reason.ACCEPTED`, or what is wrong with the update.
    update : numpy.ndarray or None
        In the task's precision, shape ``(d,)``; None unless accepted.
    """

    signed: SignedReceipt
    index: int
    reason: Reason
    update: npt.NDArray[np.signedinteger] | None = None


def sealed_manifest(sealed: SealedRound, store: BlobReader) -> Manifest:
    """Return the sealed manifest once everything in it is known to be its customers' own word.

    Raises
    ------
    RoundError
        If the seal is void (`Forgery`): an honest miner refuses to sign anything about it.
    StoreUnavailableError
        If the store cannot be reached for now.
    """
    limit = (len(sealed.participants) + 1) * MAX_RECEIPT_BYTES
    data = _fetch(sealed, store, "manifest", sealed.manifest, limit)
    try:
        manifest = Manifest.from_bytes(data)
    except ProtocolError as error:
        raise _void(sealed, Forgery.MANIFEST, str(error)) from error
    if manifest.round != sealed.round:
        raise _void(sealed, Forgery.ROUND, str(manifest.round))
    index = {address: i for i, address in enumerate(sealed.customers)}
    task = sealed.policy.digest
    for signed in manifest.receipts:
        if signed.customer not in index:
            raise _void(sealed, Forgery.CUSTOMER, signed.customer)
        if signed.receipt.task != task:
            raise _void(sealed, Forgery.TASK, signed.customer)
        _check_signature(sealed, signed)
    if tuple(sorted(index[signed.customer] for signed in manifest.receipts)) != sealed.participants:
        raise _void(sealed, Forgery.PARTICIPANTS, f"{len(manifest.receipts)} receipts")
    if not manifest.receipts or manifest.tree(sealed.domain).root != sealed.root:
        raise _void(sealed, Forgery.MANIFEST, "the Merkle root differs")
    return manifest


def screen(sealed: SealedRound, manifest: Manifest, store: BlobReader) -> tuple[Screened, ...]:
    """Fetch and check every update of a manifest that `sealed_manifest` returned; in its order, by address.

    Raises
    ------
    StoreError
        If the store failed in any other way than not having, or not rightly having, a blob.
    """
    index = {address: i for i, address in enumerate(sealed.customers)}
    screened = [_screen_one(sealed, signed, index[signed.customer], store) for signed in manifest.receipts]
    return _without_copies(screened)


def fetch_model(sealed: SealedRound, store: BlobReader) -> bytes:
    """Return the bytes of the global model that the round starts from.

    Raises
    ------
    RoundError
        If the store does not have them, or other ones.
    """
    return _fetch(sealed, store, "model", sealed.model, blob_limit(sealed.policy.layout, MODEL_DTYPE))


def _fetch(sealed: SealedRound, store: BlobReader, what: str, ref: BlobRef, limit: int) -> bytes:
    if ref.size > limit:
        raise RoundError(f"round {sealed.round}: its {what} has {ref.size} bytes (allowed: up to {limit})")
    try:
        return store.get(ref, limit)
    except (BlobMissingError, BlobTamperedError, ProtocolError) as error:
        raise RoundError(f"round {sealed.round}: its {what} cannot be had: {error}") from error


def _check_signature(sealed: SealedRound, signed: SignedReceipt) -> None:
    try:
        signer = signed.signer(sealed.domain)
    except ProtocolError as error:
        raise _void(sealed, Forgery.SIGNATURE, signed.customer) from error
    if signer != signed.customer:
        raise _void(sealed, Forgery.SIGNATURE, signed.customer)


def _screen_one(sealed: SealedRound, signed: SignedReceipt, index: int, store: BlobReader) -> Screened:
    layout, dtype = sealed.policy.layout, sealed.policy.update_dtype
    limit = blob_limit(layout, dtype)
    if signed.receipt.model != sealed.model.sha256:
        return Screened(signed, index, Reason.WRONG_MODEL)
    if signed.receipt.blob.size > limit:
        return Screened(signed, index, Reason.TOO_LARGE)
    try:
        update = unpack(store.get(signed.receipt.blob, limit), layout, dtype)
    except BlobMissingError:
        return Screened(signed, index, Reason.MISSING)
    except BlobTamperedError:
        return Screened(signed, index, Reason.TAMPERED)
    except ProtocolError:
        return Screened(signed, index, Reason.MALFORMED)
    if not update.any():
        return Screened(signed, index, Reason.ZERO)
    return Screened(signed, index, Reason.ACCEPTED, update.astype(dtype))


def _without_copies(screened: Sequence[Screened]) -> tuple[Screened, ...]:
    """Drop what is an exact copy; blobs are canonical, so equal updates are equal digests."""
    authors: set[bytes] = set()
    kept = []
    for item in screened:
        digest = item.signed.receipt.update
        copied = item.reason is Reason.ACCEPTED and digest in authors
        kept.append(replace(item, reason=Reason.COPY, update=None) if copied else item)
        if item.reason is Reason.ACCEPTED:
            authors.add(digest)
    return tuple(kept)


def _void(sealed: SealedRound, forgery: Forgery, detail: str) -> RoundError:
    return RoundError(f"round {sealed.round} has a void seal: {forgery} ({detail})")
