"""Which way updates point, compared with the sum of those that Multi-Krum kept, in exact integers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from strategies.exact import Exact, Update, gram

MILLION = 1_000_000


@dataclass(frozen=True, slots=True)
class Bearings:
    """Which way a round's updates point.

    Attributes
    ----------
    cosines : tuple of int
        By position: the cosine between update u and M, the sum of the kept updates, in millionths.
    reach : int
        ``|M|^2``, in squared grid steps: how far the kept updates go together. Near zero they have no common way.
    """

    cosines: tuple[int, ...]
    reach: int


def from_products(products: Exact, kept: Sequence[int]) -> Bearings:
    """Return the bearings that follow from all inner products, shape ``(n, n)``."""
    chosen = list(kept)
    reach = int(products[np.ix_(chosen, chosen)].sum(dtype=object))
    along = products[:, chosen].sum(axis=1, dtype=object)
    return Bearings(
        tuple(cosine(int(a), int(u), reach) for a, u in zip(along, products.diagonal(), strict=True)), reach
    )


def from_updates(updates: Sequence[Update], kept: Sequence[int]) -> Bearings:
    """Return the bearings of n updates of shape ``(d,)`` that are too many for all inner products."""
    total = np.zeros_like(updates[0], dtype=np.int64)
    for position in kept:
        total += updates[position]
    pairs = [gram([update, total]) for update in updates]
    reach = int(pairs[0][1, 1])
    return Bearings(tuple(cosine(int(pair[0, 1]), int(pair[0, 0]), reach) for pair in pairs), reach)


def cosine(inner: int, one: int, other: int) -> int:
    """Return a cosine in millionths, rounded towards zero, from an inner product and two squared lengths.

    Exactly ``sign(inner) * min(10^6, floor(10^6 |inner| / isqrt(one * other)))``; 0 where a length is 0.
    """
    lengths = math.isqrt(one * other)
    size = min(MILLION, MILLION * abs(inner) // lengths) if lengths else 0
    return size if inner > 0 else -size
