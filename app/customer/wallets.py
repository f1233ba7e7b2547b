"""The keys of the customers that this process plays: derived from the seed, unless the run brought others."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from eth_account.signers.local import LocalAccount

from app.protocol.keys import simulation_account

_brought: Sequence[LocalAccount] = ()


@contextmanager
def brought(accounts: Sequence[LocalAccount]) -> Iterator[None]:
    """Let the customers of this process sign with these keys, by index, inside the ``with`` block."""
    global _brought
    before, _brought = _brought, accounts
    try:
        yield
    finally:
        _brought = before


def wallet(seed: int, index: int) -> LocalAccount:
    """Return the account of customer ``index``."""
    return _brought[index] if _brought else simulation_account(seed, "customer", index)
