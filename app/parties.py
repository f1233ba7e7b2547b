"""Who takes part in a run, with the keys that they sign with: derived from the seed, or from encrypted key files."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from eth_account.signers.local import LocalAccount

from app.ledger.keystore import key_path, keys_home, load
from app.ledger.password import password
from app.protocol.errors import ConfigError
from app.protocol.keys import simulation_account, simulation_secret
from app.settings import Config


@dataclass(frozen=True, slots=True)
class Parties:
    """The parties of one task.

    Attributes
    ----------
    manufacturer : LocalAccount
        Publishes and seals.
    miners : tuple of LocalAccount
        By index. Where reputation weighs the election they are the first of the customers.
    secrets : tuple of bytes
        Each miner's VRF secret (32 bytes).
    customers : tuple of LocalAccount
        By index.
    """

    manufacturer: LocalAccount
    miners: tuple[LocalAccount, ...]
    secrets: tuple[bytes, ...]
    customers: tuple[LocalAccount, ...]

    @property
    def names(self) -> dict[str, str]:
        """What each address is called, for messages."""
        named = [(self.manufacturer, "manufacturer")]
        named += [(who, f"miner {index}") for index, who in enumerate(self.miners)]
        named += [(who, f"customer {index}") for index, who in enumerate(self.customers)]
        return {str(who.address): name for who, name in named}


def parties_of(config: Config) -> Parties:
    """Return the parties of a run; where their keys are in files, a password is asked for.

    Raises
    ------
    ConfigError
        If a key file is missing, does not open, or holds a key that another party has.
    """
    role = "customer" if config.miners.weighting == "reputation" else "miner"
    if config.wallet.name == "simulation":
        return _simulated(config.seed, role, config.miners.count, config.customers)
    folder = Path(config.wallet.folder).expanduser().absolute() if config.wallet.folder else keys_home()
    return _from_files(folder, _numbered(role, config.miners.count), _numbered("customer", config.customers))


def _simulated(seed: int, role: str, miners: int, customers: int) -> Parties:
    return Parties(
        simulation_account(seed, "manufacturer"),
        tuple(simulation_account(seed, role, index) for index in range(miners)),
        tuple(simulation_secret(seed, "vrf", index) for index in range(miners)),
        tuple(simulation_account(seed, "customer", index) for index in range(customers)),
    )


def _from_files(folder: Path, miners: Sequence[str], customers: Sequence[str]) -> Parties:
    names = list(dict.fromkeys(["manufacturer", *miners, *customers]))
    missing = [name for name in names if not key_path(name, folder).exists()]
    if missing:
        problem = f"{folder} has no key file for {', '.join(missing)}"
        raise ConfigError("wallet.folder", problem, f"hearth wallet new {' '.join(missing)}")
    secret = password(None)
    accounts = {name: load(key_path(name, folder), secret) for name in names}
    owner: dict[str, str] = {}
    for name, account in accounts.items():
        first = owner.setdefault(account.address, name)
        if first != name:
            raise ConfigError("wallet.folder", f"{name} has the same key as {first}", "a key of its own for each party")
    signing = tuple(accounts[name] for name in miners)
    return Parties(
        accounts["manufacturer"],
        signing,
        tuple(vrf_secret(account) for account in signing),
        tuple(accounts[name] for name in customers),
    )


def vrf_secret(account: LocalAccount) -> bytes:
    """Return the VRF secret (32 bytes) that belongs to a miner's key: HMAC-SHA-256 of a fixed text, keyed by it.

    One file a miner then holds both, and neither tells the other: an election's proof gives nothing away of a secret
    that is only ever the key of a pseudorandom function.
    """
    return hmac.new(bytes(account.key), b"hearth miner's VRF secret 1", hashlib.sha256).digest()


def _numbered(role: str, count: int) -> Sequence[str]:
    return [f"{role}-{index}" for index in range(count)]
