"""Copies, judged again: exact ones, and those that only point the same way."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from app.audit.robust import Vector, inner
from app.audit.screening import Screened
from app.protocol.digest import sha256
from app.protocol.receipt import SignedReceipt

_MILLION = 10**6


def first_come(root: bytes, submissions: Sequence[SignedReceipt], items: Sequence[Screened]) -> list[Screened]:
    """Return the participants in the order of authorship: on chain first, in its order, then by root and address.

    A submission counts for its customer only if it is for the update that is sealed.
    """
    order = [(signed.customer, signed.receipt.update) for signed in submissions]

    def key(item: Screened) -> tuple[int, bytes]:
        mine = (item.signed.customer, item.signed.receipt.update)
        if mine in order:
            return order.index(mine), b""
        return len(order), sha256(root + bytes.fromhex(item.signed.customer[2:]))

    return sorted(items, key=key)


def mark_copies(ordered: Sequence[Screened], step: Vector | None, f: int, bound: int, cohort: int) -> None:
    """Refuse what is copied, in place.

    Parameters
    ----------
    ordered : sequence of Screened
        All participants, the first author first.
    step : numpy.ndarray of int64 or None
        What the last finalised round changed in the model, if anything.
    f : int
        Of more than f near copies some are honest: then none is one.
    bound : int
        The cosine from which two are near copies, in millionths.
    cohort : int
        With more valid updates than this, no two of them are compared.
    """
    authors = set()
    for item in ordered:
        if item.update is not None and item.signed.receipt.update in authors:
            _refuse(item, "copy")
        elif item.update is not None:
            authors.add(item.signed.receipt.update)
    valid = [item for item in ordered if item.update is not None]
    crowded = len(valid) > cohort
    if step is not None and np.any(step):
        stale = [item for item in valid if _alike(item.update, step, bound)]
        if len(stale) <= f:
            for item in stale:
                _refuse(item, "stale")
    if crowded:
        return
    near: list[Screened] = []
    originals: list[Screened] = []
    for item in valid:
        if item.update is not None:
            copied = any(_alike(item.update, other.update, bound) for other in originals)
            (near if copied else originals).append(item)
    if len(near) <= f:
        for item in near:
            _refuse(item, "near-copy")


def _alike(one: Vector | None, other: Vector | None, bound: int) -> bool:
    assert one is not None
    assert other is not None
    product = inner(one, other)
    return product > 0 and (product * _MILLION) ** 2 >= bound**2 * inner(one, one) * inner(other, other)


def _refuse(item: Screened, reason: str) -> None:
    item.reason, item.update = reason, None
