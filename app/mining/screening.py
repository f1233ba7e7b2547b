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
from app.protocol.errors import BlobMissingError, BlobTamperedError, ProtocolError, RoundError, StoreError
from app.protocol.fixed_point import MODEL_DTYPE, UPDATE_DTYPE
from app.protocol.manifest import MAX_ENTRY_BYTES, Manifest, ManifestEntry
from app.protocol.record import Reason
from app.protocol.tensors import blob_limit, unpack
from app.store.base import check_reference


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
    REFERENCE = "a receipt's CID cannot belong to the digest and size that the customer signed"


@dataclass(frozen=True, slots=True)
class Screened:
    """One participant after the screening.

    Attributes
    ----------
    entry : ManifestEntry
        Its receipt.
    index : int
        Its index in the task.
    reason : Reason
        `Reason.ACCEPTED`, or what is wrong with the update.
    update : numpy.ndarray of int16 or None
        Shape ``(d,)``; None unless accepted.
    """

    entry: ManifestEntry
    index: int
    reason: Reason
    update: npt.NDArray[np.int16] | None = None


def sealed_manifest(sealed: SealedRound, store: BlobReader) -> Manifest:
    """Return the sealed manifest once everything in it is known to be its customers' own word.

    Raises
    ------
    RoundError
        If the seal is void (`Forgery`): an honest miner refuses to sign anything about it.
    StoreUnavailableError
        If the store cannot be reached for now.
    """
    limit = (len(sealed.participants) + 1) * MAX_ENTRY_BYTES
    data = _fetch(sealed, store, "manifest", sealed.manifest, limit)
    try:
        manifest = Manifest.from_bytes(data)
    except ProtocolError as error:
        raise _void(sealed, Forgery.MANIFEST, str(error)) from error
    if manifest.round != sealed.round:
        raise _void(sealed, Forgery.ROUND, str(manifest.round))
    index = {address: i for i, address in enumerate(sealed.customers)}
    task = sealed.policy.digest
    for entry in manifest.entries:
        if entry.customer not in index:
            raise _void(sealed, Forgery.CUSTOMER, entry.customer)
        if entry.signed.receipt.task != task:
            raise _void(sealed, Forgery.TASK, entry.customer)
        _check_signature(sealed, entry)
        _check_reference(sealed, entry)
    if tuple(sorted(index[entry.customer] for entry in manifest.entries)) != sealed.participants:
        raise _void(sealed, Forgery.PARTICIPANTS, f"{len(manifest.entries)} receipts")
    if not manifest.entries or manifest.tree(sealed.domain).root != sealed.root:
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
    screened = [_screen_one(sealed, entry, index[entry.customer], store) for entry in manifest.entries]
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


def _check_signature(sealed: SealedRound, entry: ManifestEntry) -> None:
    try:
        signer = entry.signed.signer(sealed.domain)
    except ProtocolError as error:
        raise _void(sealed, Forgery.SIGNATURE, entry.customer) from error
    if signer != entry.customer:
        raise _void(sealed, Forgery.SIGNATURE, entry.customer)


def _check_reference(sealed: SealedRound, entry: ManifestEntry) -> None:
    """The CID is the one member of an entry that its customer does not sign."""
    try:
        check_reference(entry.blob, entry.blob.size)
    except (ProtocolError, StoreError) as error:
        raise _void(sealed, Forgery.REFERENCE, entry.customer) from error


def _screen_one(sealed: SealedRound, entry: ManifestEntry, index: int, store: BlobReader) -> Screened:
    layout, limit = sealed.policy.layout, blob_limit(sealed.policy.layout, UPDATE_DTYPE)
    if entry.signed.receipt.model != sealed.model.sha256:
        return Screened(entry, index, Reason.WRONG_MODEL)
    if entry.blob.size > limit:
        return Screened(entry, index, Reason.TOO_LARGE)
    try:
        update = unpack(store.get(entry.blob, limit), layout, UPDATE_DTYPE)
    except BlobMissingError:
        return Screened(entry, index, Reason.MISSING)
    except BlobTamperedError:
        return Screened(entry, index, Reason.TAMPERED)
    except ProtocolError:
        return Screened(entry, index, Reason.MALFORMED)
    if not update.any():
        return Screened(entry, index, Reason.ZERO)
    return Screened(entry, index, Reason.ACCEPTED, update.astype(UPDATE_DTYPE))


def _without_copies(screened: Sequence[Screened]) -> tuple[Screened, ...]:
    """Drop what is an exact copy; blobs are canonical, so equal updates are equal digests."""
    authors: set[bytes] = set()
    kept = []
    for item in screened:
        digest = item.entry.signed.receipt.update
        copied = item.reason is Reason.ACCEPTED and digest in authors
        kept.append(replace(item, reason=Reason.COPY, update=None) if copied else item)
        if item.reason is Reason.ACCEPTED:
            authors.add(digest)
    return tuple(kept)


def _void(sealed: SealedRound, forgery: Forgery, detail: str) -> RoundError:
    return RoundError(f"round {sealed.round} has a void seal: {forgery} ({detail})")
