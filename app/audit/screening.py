"""What is wrong with an update, judged again: from the sealed receipt, and from what the store holds now."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from app.audit.blobs import Blobs
from app.audit.robust import Vector
from app.protocol.errors import BlobMissingError, BlobTamperedError, ProtocolError
from app.protocol.policy import Policy
from app.protocol.receipt import SignedReceipt
from app.protocol.tensors import blob_limit, unpack

_UNREAD = ("excluded", "replay")
"""Reasons for which a blob is not read at all."""
UNAVAILABLE = ("missing", "tampered")
"""Reasons that depend on what the store gave when the miners asked."""


@dataclass(slots=True)
class Screened:
    """One participant.

    Attributes
    ----------
    signed : SignedReceipt
        Its sealed receipt.
    index : int
        Its index in the task.
    reason : str
        ``accepted``, or what is wrong.
    update : numpy.ndarray of int64 or None
        The update, where nothing is.
    """

    signed: SignedReceipt
    index: int
    reason: str
    update: Vector | None = None


def screen(
    policy: Policy,
    model: bytes,
    receipts: tuple[SignedReceipt, ...],
    index: dict[str, int],
    blobs: Blobs,
    claimed: dict[str, str],
    excluded: set[int],
    earlier: set[bytes],
) -> tuple[list[Screened], list[str]]:
    """Judge every sealed update.

    Parameters
    ----------
    policy : Policy
        The task's rules.
    model : bytes
        Digest of the model that the round started from.
    receipts : tuple of SignedReceipt
        As sealed: sorted by customer.
    index : dict
        Customers' indices by address.
    blobs : Blobs
        Where the updates are.
    claimed : dict
        The reason that the record gives for each customer.
    excluded : set of int
        Indices of the customers that have been evaluated L too often.
    earlier : set of bytes
        Digests of all updates that were sealed in finalised rounds before.

    Returns
    -------
    screened : list of Screened
        In the order of the receipts.
    unproven : list of str
        Customers that the miners found without a blob and that have one now: it may have come late. The miners' word
        is taken, since no evidence can tell.
    """
    screened, late = [], []
    for signed in receipts:
        item = _screen_one(policy, model, signed, index[signed.customer], blobs, excluded, earlier)
        stated = claimed.get(signed.customer, "")
        if (
            item.reason not in (*UNAVAILABLE, *_UNREAD)
            and stated in UNAVAILABLE
            and _was_fetched(policy, model, signed)
        ):
            late.append(signed.customer)
            item = Screened(signed, item.index, stated)
        screened.append(item)
    return screened, late


def _was_fetched(policy: Policy, model: bytes, signed: SignedReceipt) -> bool:
    receipt = signed.receipt
    return receipt.model == model and receipt.size <= blob_limit(policy.layout, policy.update_dtype)


def _screen_one(
    policy: Policy,
    model: bytes,
    signed: SignedReceipt,
    index: int,
    blobs: Blobs,
    excluded: set[int],
    earlier: set[bytes],
) -> Screened:
    most = blob_limit(policy.layout, policy.update_dtype)
    if index in excluded:
        return Screened(signed, index, "excluded")
    if signed.receipt.model != model:
        return Screened(signed, index, "wrong-model")
    if signed.receipt.size > most:
        return Screened(signed, index, "too-large")
    if signed.receipt.update in earlier:
        return Screened(signed, index, "replay")
    try:
        update = unpack(blobs.get(signed.receipt.blob, most), policy.layout, policy.update_dtype)
    except BlobMissingError:
        return Screened(signed, index, "missing")
    except BlobTamperedError:
        return Screened(signed, index, "tampered")
    except ProtocolError:
        return Screened(signed, index, "malformed")
    if not np.any(update):
        return Screened(signed, index, "zero")
    limits = np.iinfo(policy.update_dtype)
    if 16 * np.count_nonzero((update == limits.min) | (update == limits.max)) > len(update):
        return Screened(signed, index, "range")
    return Screened(signed, index, "accepted", update)
