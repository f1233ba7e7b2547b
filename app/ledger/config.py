"""The configuration of the ledger: the terms of a task's contract, the chain it is on, and whose keys sign."""

from __future__ import annotations

import os
from dataclasses import dataclass
from decimal import Decimal
from urllib.parse import urlsplit

from app.checks import check_url, in_range, no_password, one_of
from app.protocol.errors import ConfigError

THIS_MACHINE = ("127.0.0.1", "localhost", "::1")
_MOST_SECONDS = 2**32 - 1
"""Of a window: the contract counts them in 32 bits."""
_MOST_SKIPS = 10_000


@dataclass(frozen=True, slots=True)
class TermsConfig:
    """What the task's contract fixes besides the rules of `StrategyConfig`; see `app.ledger.task_records.TaskTerms`.

    Attributes
    ----------
    name : str
        ``simulation`` or ``deployment``: the file of conf/ that the values come from.
    reward, deposit : float
        Ether: what the manufacturer escrows for the customers, and what each member deposits.
    submission_window, seal_window, leader_window, finalise_window : int
        Seconds.
    skips : int
        Rounds that may expire before the task fails.
    """

    name: str
    reward: float
    deposit: float
    submission_window: int
    seal_window: int
    leader_window: int
    finalise_window: int
    skips: int

    @property
    def reward_wei(self) -> int:
        """The reward in wei, exactly as it is written."""
        return wei(self.reward)

    @property
    def deposit_wei(self) -> int:
        """The deposit in wei, exactly as it is written."""
        return wei(self.deposit)

    def __post_init__(self) -> None:
        one_of("terms.name", self.name, ("simulation", "deployment"))
        for key in ("reward", "deposit"):
            if not 0 <= getattr(self, key) <= 1e6:
                raise ConfigError(f"terms.{key}", f"{getattr(self, key)} is out of range", "0 to 1000000 ether")
        in_range("terms.submission_window", self.submission_window, 0, _MOST_SECONDS)
        in_range("terms.seal_window", self.seal_window, 1, _MOST_SECONDS)
        in_range("terms.leader_window", self.leader_window, 0, _MOST_SECONDS)
        in_range("terms.finalise_window", self.finalise_window, 1, _MOST_SECONDS)
        in_range("terms.skips", self.skips, 0, _MOST_SKIPS)
        if self.submission_window >= self.seal_window:
            problem = f"{self.submission_window} s would last as long as terms.seal_window={self.seal_window}"
            raise ConfigError("terms.submission_window", problem, f"0..{self.seal_window - 1}")


@dataclass(frozen=True, slots=True)
class ChainConfig:
    """Where the rounds are committed: an ``embedded`` chain in the run directory, or a node behind ``rpc``.

    Attributes
    ----------
    name : str
        ``embedded`` or ``rpc``.
    url : str or None
        For ``rpc`` alone: the node's JSON-RPC address, or ``env:NAME`` where that environment variable holds it.
    chain_id : int or None
        The chain's identity, bound into every signature. With ``rpc`` it is the one that is expected there; None takes
        what the node says.
    confirmations : int or None
        Blocks upon a transaction's own before it counts; for ``rpc`` alone. None: 0 on this machine, else 2.
    """

    name: str
    url: str | None
    chain_id: int | None
    confirmations: int | None

    @property
    def address(self) -> str:
        """The node's address itself, which may hold a secret: it goes into no file and no message.

        Raises
        ------
        ConfigError
            If the environment variable does not hold one.
        """
        kind, _, name = (self.url or "").partition(":")
        if kind != "env":
            return self.url or ""
        address = os.environ.get(name, "")
        if not address.startswith(("http://", "https://")) or not urlsplit(address).hostname:
            problem = f"the environment variable {name} holds no address"
            raise ConfigError("chain.url", problem, "one that starts with http:// or https://")
        return address

    @property
    def is_here(self) -> bool:
        """Whether the chain is on this machine."""
        return self.name == "embedded" or urlsplit(self.address).hostname in THIS_MACHINE

    @property
    def depth(self) -> int:
        """The number of confirmations, resolved."""
        return (0 if self.is_here else 2) if self.confirmations is None else self.confirmations

    def __post_init__(self) -> None:
        one_of("chain.name", self.name, ("embedded", "rpc"))
        in_range("chain.chain_id", self.chain_id, 1, 2**53 - 1)
        if self.name == "embedded" and self.chain_id is None:
            raise ConfigError("chain.chain_id", "the embedded chain needs one", f"1..{2**53 - 1}")
        no_password("chain.url", self.url)
        if self.name != "rpc" or not (self.url or "").startswith("env:"):
            check_url("chain.url", self.url, ("http", "https"), wanted=self.name == "rpc")
        in_range("chain.confirmations", self.confirmations, 0, 1000)
        if self.name == "embedded" and self.confirmations is not None:
            raise ConfigError("chain.confirmations", "is not used by chain=embedded", "null, or another chain")


@dataclass(frozen=True, slots=True)
class WalletConfig:
    """Whose keys sign: those of a ``simulation``, derived from the seed, or key files (``keystore``) in ``folder``."""

    name: str
    folder: str | None

    def __post_init__(self) -> None:
        one_of("wallet.name", self.name, ("simulation", "keystore"))
        if self.name == "simulation" and self.folder is not None:
            raise ConfigError("wallet.folder", "is not used by wallet=simulation", "null, or wallet=keystore")


def wei(ether: float) -> int:
    """Return an amount of ether in wei, exactly as it is written."""
    return int(Decimal(str(ether)) * 10**18)
