"""Who takes part in a run, and the keys of those whom this process plays.

A simulation plays everybody: keys are derived from the seed, or come from encrypted key files. In a deployment this
process is the manufacturer alone, and knows of the others what their cards say.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from eth_account.signers.local import LocalAccount

from app.ledger.keystore import key_path, keys_home, load
from app.ledger.password import password
from app.members import read_members
from app.protocol.errors import ConfigError
from app.protocol.keys import simulation_account, simulation_secret
from app.protocol.seat import Seat
from app.protocol.vrf import public_key
from app.settings import Config


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys of miners and customers that this process plays.

    Attributes
    ----------
    miners : tuple of LocalAccount
        By index. Where reputation weighs the election they are the first of the customers.
    secrets : tuple of bytes
        Each miner's VRF secret (32 bytes).
    customers : tuple of LocalAccount
        By index.
    """

    miners: tuple[LocalAccount, ...]
    secrets: tuple[bytes, ...]
    customers: tuple[LocalAccount, ...]


@dataclass(frozen=True, slots=True)
class Parties:
    """The parties of one task.

    Attributes
    ----------
    manufacturer : LocalAccount
        Publishes and seals.
    seats : tuple of Seat
        The miners, by index.
    customers : tuple of str
        Their checksum addresses, by index.
    keys : Keys or None
        Miners' and customers' keys; None where they are processes of their own.
    """

    manufacturer: LocalAccount
    seats: tuple[Seat, ...]
    customers: tuple[str, ...]
    keys: Keys | None

    @property
    def miners(self) -> tuple[str, ...]:
        """The miners' checksum addresses, by index."""
        return tuple(seat.miner for seat in self.seats)

    @property
    def names(self) -> dict[str, str]:
        """What each address is called, for messages."""
        named = [(str(self.manufacturer.address), "manufacturer")]
        named += [(who, f"miner {index}") for index, who in enumerate(self.miners)]
        named += [(who, f"customer {index}") for index, who in enumerate(self.customers)]
        return dict(named)


def parties_of(config: Config) -> Parties:
    """Return the parties of a run; where keys are in files, a password is asked for.

    Raises
    ------
    ConfigError
        If a key file is missing, does not open, or holds a key that another party has; or the file of the members does
        not fit the configuration.
    """
    if config.members.elsewhere:
        return _from_cards(config)
    role = "customer" if config.miners.weighting == "reputation" else "miner"
    if config.wallet.name == "simulation":
        keys = _simulated(config.seed, role, config.miners.count, config.customers)
        return _played(simulation_account(config.seed, "manufacturer"), keys, config.miners.stakes)
    miners, customers = _numbered(role, config.miners.count), _numbered("customer", config.customers)
    accounts = _opened(_folder(config), list(dict.fromkeys(["manufacturer", *miners, *customers])))
    signing = tuple(accounts[name] for name in miners)
    keys = Keys(signing, tuple(map(vrf_secret, signing)), tuple(accounts[name] for name in customers))
    return _played(accounts["manufacturer"], keys, config.miners.stakes)


def _played(manufacturer: LocalAccount, keys: Keys, stakes: Sequence[int] | None) -> Parties:
    seats = tuple(
        Seat(account.address, public_key(secret), stake)
        for account, secret, stake in zip(keys.miners, keys.secrets, stakes or [1] * len(keys.miners), strict=True)
    )
    return Parties(manufacturer, seats, tuple(account.address for account in keys.customers), keys)


def _simulated(seed: int, role: str, miners: int, customers: int) -> Keys:
    return Keys(
        tuple(simulation_account(seed, role, index) for index in range(miners)),
        tuple(simulation_secret(seed, "vrf", index) for index in range(miners)),
        tuple(simulation_account(seed, "customer", index) for index in range(customers)),
    )


def _from_cards(config: Config) -> Parties:
    members = read_members(config.members.path or "")
    for key, given, found in (
        ("customers", config.customers, members.customers),
        ("miners.count", config.miners.count, members.miners),
    ):
        if given != len(found):
            raise ConfigError(key, f"{given} are not the {len(found)} of {config.members.path}", f"{key}={len(found)}")
    stakes = config.miners.stakes or [1] * len(members.miners)
    seats = tuple(Seat(card.member, card.vrf_key, stake) for card, stake in zip(members.miners, stakes, strict=True))
    manufacturer = _opened(_folder(config), ["manufacturer"])["manufacturer"]
    return Parties(manufacturer, seats, tuple(card.member for card in members.customers), None)


def _folder(config: Config) -> Path:
    return Path(config.wallet.folder).expanduser().absolute() if config.wallet.folder else keys_home()


def _opened(folder: Path, names: Sequence[str]) -> dict[str, LocalAccount]:
    """Return the accounts in the key files of these names, by name."""
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
    return accounts


def vrf_secret(account: LocalAccount) -> bytes:
    """Return the VRF secret (32 bytes) that belongs to a miner's key: HMAC-SHA-256 of a fixed text, keyed by it.

    One file a miner then holds both, and neither tells the other: an election's proof gives nothing away of a secret
    that is only ever the key of a pseudorandom function.
    """
    return hmac.new(bytes(account.key), b"hearth miner's VRF secret 1", hashlib.sha256).digest()


def _numbered(role: str, count: int) -> Sequence[str]:
    return [f"{role}-{index}" for index in range(count)]
