"""Which way an update points, compared with the sum of the updates that were selected, in exact integers."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from strategies.exact import Exact, Update, gram

Direction = Callable[[int], tuple[int, int, int]]
"""From the position of an update u to ``<u, M>``, ``|u|^2`` and ``|M|^2``, with M the sum of the selected updates."""


def from_products(products: Exact, selected: Sequence[int]) -> Direction:
    """Return the directions that follow from all inner products, shape ``(n, n)``."""
    chosen = list(selected)
    size = int(products[np.ix_(chosen, chosen)].sum(dtype=object))

    def direction(position: int) -> tuple[int, int, int]:
        return int(products[position, chosen].sum(dtype=object)), int(products[position, position]), size

    return direction


def from_updates(updates: Sequence[Update], selected: Sequence[int]) -> Direction:
    """Return the directions of n updates of shape ``(d,)`` that are too many for all inner products."""
    total = np.zeros_like(updates[0], dtype=np.int64)
    for position in selected:
        total += updates[position]

    def direction(position: int) -> tuple[int, int, int]:
        pair = gram([updates[position], total])
        return int(pair[0, 1]), int(pair[0, 0]), int(pair[1, 1])

    return direction
