"""Copies: updates that were not learnt but taken from another customer, or from the round before.

Two updates are near copies if the cosine of the angle between them is at least the task's bound, so that neither
scaling a stolen update nor adding a little noise to it helps. All inner products are exact integers, and the bound is
a ratio of integers, so no rounding decides: ``<u, v> / (|u| |v|) >= p / q`` is ``<u, v> > 0`` and
``q^2 <u, v>^2 >= p^2 |u|^2 |v|^2``.

Honest updates can be near copies too: where every customer has many records of the same distribution and nothing is
noised, or a round's loss is linear, all updates point the same way. At most f customers are hostile; so if more than f
updates of a round are that alike, some of them are honest, likeness is no evidence, and none is dropped for it. (Exact
copies are: honest updates that are equal bit for bit do not happen.) Measured cosines of honest updates, the largest
with one another and with the last round's change: MNIST, IID, 6,000 records each, epsilon 8: 0.970 and 0.984; PLAID,
epsilon 8: 0.29 and 0.56; digits in the clear, Dirichlet(0.5): 0.68 and 0.79. The default bound is 0.999.

Of two near copies the one that came first is its author's, by the order of `SealedRound.precedence`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from app.mining.round import SealedRound
from app.mining.screening import Screened
from app.protocol.evaluation import Reason
from strategies.exact import Exact, Update, gram

MILLION = 1_000_000
"""The denominator of a bound on cosines: policies state it in millionths."""
_SLACK = 1e-9
"""How far below the bound float64 looks; what it finds is decided in integers."""


def without_near_copies(
    sealed: SealedRound, screened: Sequence[Screened], step: npt.NDArray[np.int64] | None
) -> tuple[tuple[Screened, ...], Exact | None]:
    """Drop near copies of other updates and of what the last round changed in the model.

    Parameters
    ----------
    sealed : SealedRound
        The round; its policy has the bound.
    screened : sequence of Screened
        What `app.mining.screening.screen` returned.
    step : numpy.ndarray of int64 or None
        What the last round changed, shape ``(d,)``, not zero.

    Returns
    -------
    screened : tuple of Screened
        The same, in the same order, with what was dropped.
    products : numpy.ndarray or None
        Exact inner products of the updates that are left, in their order: what Krum's distances follow from. None
        where the valid updates are more than the policy's cohort: then no two of them are compared.
    """
    valid = [item for item in screened if item.update is not None]
    vectors = [item.update for item in valid if item.update is not None]
    if not vectors:
        return tuple(screened), np.zeros((0, 0), np.int64)
    pairwise = len(valid) <= sealed.policy.cohort
    products = gram(vectors if step is None else [*vectors, step]) if pairwise else None
    reasons = _stale(sealed, vectors, step, products)
    if products is not None:
        order = sorted(set(range(len(valid))) - set(reasons), key=lambda i: valid[i].precedence(sealed))
        copies = near_copies(products, order, sealed.policy.copy_cosine)
        if len(copies) <= sealed.policy.f:
            reasons |= dict.fromkeys(copies, Reason.NEAR_COPY)
    kept = [i for i in range(len(valid)) if i not in reasons]
    dropped = {valid[i].index: reason for i, reason in reasons.items()}
    return (
        tuple(
            replace(item, reason=dropped[item.index], update=None) if item.index in dropped else item
            for item in screened
        ),
        None if products is None else products[np.ix_(kept, kept)],
    )


def _stale(
    sealed: SealedRound, vectors: Sequence[Update], step: npt.NDArray[np.int64] | None, products: Exact | None
) -> dict[int, Reason]:
    """Return the positions that are near copies of what the last round changed; none if they are more than f."""
    if step is None:
        return {}
    bound = sealed.policy.copy_cosine
    if products is not None:
        stale = [i for i in range(len(vectors)) if near(products, i, len(vectors), bound)]
    else:
        stale = [i for i, vector in enumerate(vectors) if near(gram([vector, step]), 0, 1, bound)]
    return dict.fromkeys(stale, Reason.STALE) if len(stale) <= sealed.policy.f else {}


def near_copies(products: Exact, order: Sequence[int], bound: int) -> frozenset[int]:
    """Return the positions that are near copies of one that comes before them and is none itself.

    Parameters
    ----------
    products : numpy.ndarray
        Exact inner products of vectors, none of them zero.
    order : sequence of int
        The positions that are compared, the first author first.
    bound : int
        The cosine from which two are copies, in millionths, above 0.
    """
    norms = np.sqrt(np.diagonal(products).astype(np.float64))
    rank = {position: place for place, position in enumerate(order)}
    copies: set[int] = set()
    for position in order:
        cosines = products[position].astype(np.float64) / (norms[position] * norms)
        suspects = np.flatnonzero(cosines >= bound / MILLION - _SLACK).tolist()
        authors = (i for i in suspects if rank.get(i, len(rank)) < rank[position] and i not in copies)
        if any(near(products, position, author, bound) for author in authors):
            copies.add(position)
    return frozenset(copies)


def near(products: Exact, one: int, other: int, bound: int) -> bool:
    """Tell whether two vectors are near copies, from their exact inner products; see `near_copies`."""
    inner, left, right = int(products[one, other]), int(products[one, one]), int(products[other, other])
    return inner > 0 and inner**2 * MILLION**2 >= bound**2 * left * right
