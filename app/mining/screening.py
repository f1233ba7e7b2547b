"""Screening: what is checked about every receipt and update before Multi-Krum sees it.

Two kinds of fault are kept apart. A *forgery* is something that the customer did not sign for this round: only the
relayer can have put it under the seal, so it voids the seal and costs no customer anything. A *fault* is in what the
customer did sign: it costs that customer its H and nobody else anything. A store that cannot be reached is neither;
its error ends the attempt.

What the screening cannot tell: whether a blob that the store does not have was never uploaded or was withheld by
whoever relays it. Who of two customers with the same update copied the other is `app.mining.copies`' part.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from app.mining.reading import BlobReader, fetch
from app.mining.round import SealedRound
from app.protocol.errors import BlobMissingError, BlobTamperedError, ProtocolError, RoundError
from app.protocol.evaluation import Reason
from app.protocol.manifest import MAX_RECEIPT_BYTES, Manifest
from app.protocol.receipt import SignedReceipt
from app.protocol.tensors import blob_limit, unpack

SATURATED_PART = 16
"""An update with more than one in so many entries at the ends of its type's range says nothing that was learnt."""


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

    def precedence(self, sealed: SealedRound) -> tuple[int, int, bytes]:
        """Return the key by which updates are ordered, see `SealedRound.precedence`."""
        return sealed.precedence(self.index, self.signed.receipt.update)


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
    data = fetch(sealed, store, "manifest", sealed.manifest, limit)
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


def screen(
    sealed: SealedRound, manifest: Manifest, store: BlobReader, earlier: frozenset[bytes]
) -> tuple[Screened, ...]:
    """Fetch and check every update of a manifest that `sealed_manifest` returned; in its order, by address.

    Parameters
    ----------
    sealed : SealedRound
        The round.
    manifest : Manifest
        Its receipts.
    store : BlobReader
        Where the updates are.
    earlier : frozenset of bytes
        Digests of the updates that earlier rounds sealed: none of them counts again.

    Raises
    ------
    StoreError
        If the store failed in any other way than not having, or not rightly having, a blob.
    """
    index = {address: i for i, address in enumerate(sealed.customers)}
    screened = [_screen_one(sealed, signed, index[signed.customer], store, earlier) for signed in manifest.receipts]
    return _without_copies(sealed, screened)


def _check_signature(sealed: SealedRound, signed: SignedReceipt) -> None:
    try:
        signer = signed.signer(sealed.domain)
    except ProtocolError as error:
        raise _void(sealed, Forgery.SIGNATURE, signed.customer) from error
    if signer != signed.customer:
        raise _void(sealed, Forgery.SIGNATURE, signed.customer)


def _screen_one(
    sealed: SealedRound, signed: SignedReceipt, index: int, store: BlobReader, earlier: frozenset[bytes]
) -> Screened:
    layout, dtype = sealed.policy.layout, sealed.policy.update_dtype
    limit = blob_limit(layout, dtype)
    if 0 < sealed.policy.strikes <= sealed.strikes(index):
        return Screened(signed, index, Reason.EXCLUDED)
    if signed.receipt.model != sealed.model.sha256:
        return Screened(signed, index, Reason.WRONG_MODEL)
    if signed.receipt.blob.size > limit:
        return Screened(signed, index, Reason.TOO_LARGE)
    if signed.receipt.update in earlier:
        return Screened(signed, index, Reason.REPLAY)
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
    ends = (np.iinfo(dtype).min, np.iinfo(dtype).max)
    if SATURATED_PART * np.isin(update, ends).sum() > update.size:
        return Screened(signed, index, Reason.RANGE)
    return Screened(signed, index, Reason.ACCEPTED, update.astype(dtype))


def _without_copies(sealed: SealedRound, screened: Sequence[Screened]) -> tuple[Screened, ...]:
    """Drop what is an exact copy of its predecessor's; blobs are canonical, so equal updates are equal digests."""
    authors: dict[bytes, int] = {}
    for item in sorted(screened, key=lambda item: item.precedence(sealed)):
        if item.reason is Reason.ACCEPTED:
            authors.setdefault(item.signed.receipt.update, item.index)
    return tuple(
        replace(item, reason=Reason.COPY, update=None)
        if item.reason is Reason.ACCEPTED and authors[item.signed.receipt.update] != item.index
        else item
        for item in screened
    )


def _void(sealed: SealedRound, forgery: Forgery, detail: str) -> RoundError:
    return RoundError(f"round {sealed.round} has a void seal: {forgery} ({detail})")
