"""A miner's seat in a task: what the contract knows of it."""

from __future__ import annotations

from typing import NamedTuple

MOST_STAKE = 2**16 - 1


class Seat(NamedTuple):
    """One miner, as the manufacturer admitted it.

    Attributes
    ----------
    miner : str
        Its checksum address.
    vrf_key : bytes
        The public key with which it proves what it drew (32 bytes).
    stake : int
        How many sub-users it holds in the election of a leader, where the policy weighs by stake; 0 to `MOST_STAKE`.
    """

    miner: str
    vrf_key: bytes
    stake: int = 1
