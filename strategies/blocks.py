"""Blocks of columns, shared out among threads.

Every rule here goes through its updates one block of columns at a time, and no block depends on another: results are
exact integers, so neither their order nor the number of threads can change a bit. NumPy lets go of the interpreter in
casts, sorts and products. BLAS gets one thread in each of ours: its own threads would wait for one another wherever
something else wants a core, and whole blocks need not.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TypeVar

from threadpoolctl import ThreadpoolController

_MOST_WORKERS = 8  # each has a block of its own: this bounds the memory
_T = TypeVar("_T")


def over_blocks(work: Callable[[range], _T], dimension: int, width: int) -> list[_T]:
    """Share the blocks of ``dimension`` columns out among threads, and return what each thread's work gave.

    Parameters
    ----------
    work : callable
        Called once in each thread with the starts of its blocks, ascending; a block ends ``width`` later, or at the
        last column.
    dimension, width : int
        How many columns there are, and in a block.

    Returns
    -------
    list
        One result a thread; at least one, also where there are no columns.
    """
    blocks = -(-dimension // width)
    workers = max(1, min(_MOST_WORKERS, _cores(), blocks))
    shares = [range(first * width, dimension, workers * width) for first in range(workers)]
    with _libraries().limit(limits=1, user_api="blas"):
        if workers == 1:
            return [work(shares[0])]
        with ThreadPoolExecutor(workers, thread_name_prefix="blocks") as pool:
            return list(pool.map(work, shares))


@cache
def _libraries() -> ThreadpoolController:
    """Look once for the libraries that NumPy has loaded: it takes a millisecond."""
    return ThreadpoolController()


def _cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
