"""Keys of a simulation, derived from its seed so that a run can be repeated bit for bit.

Anyone who knows the seed knows these keys. They exist for simulation only: a deployment's keys come from encrypted
keystores, and the parties refuse these.
"""

from __future__ import annotations

import hashlib
import hmac

from eth_account import Account
from eth_account.signers.local import LocalAccount


def simulation_secret(seed: int, role: str, index: int = 0) -> bytes:
    """Return 32 bytes for one party: HMAC-SHA-256 of role and index, keyed by the seed.

    Parameters
    ----------
    seed : int
        The run's seed.
    role : str
        ``manufacturer``, ``customer``, ``miner``, ``vrf``, ...; separates the parties' keys from each other.
    index : int, default 0
        Which one of them.
    """
    return hmac.new(
        f"hearth simulation, insecure, seed {seed}".encode(), f"{role}/{index}".encode(), hashlib.sha256
    ).digest()


def simulation_account(seed: int, role: str, index: int = 0) -> LocalAccount:
    """Return the Ethereum account of one party of a simulation."""
    account: LocalAccount = Account.from_key(simulation_secret(seed, role, index))
    return account
