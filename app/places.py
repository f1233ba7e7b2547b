"""Where a chain is, as people say it: a run directory, the file of an embedded chain, or a node's address."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eth_account.signers.local import LocalAccount

from app.ledger.chain import Chain, open_chain, rpc_chain
from app.ledger.config import ChainConfig
from app.ledger.transaction import Waiting
from app.protocol.errors import ConfigError
from app.run_directory import RunDirectory

if TYPE_CHECKING:
    from app.settings import Config


def is_url(place: str) -> bool:
    """Return whether a place is the address of a node, or names the environment variable that holds it."""
    return place.startswith(("http://", "https://", "env:"))


def chain_file(place: str) -> Path:
    """Return the file of the embedded chain at ``place``, a run directory or the file itself.

    Raises
    ------
    ConfigError
        If there is none.
    """
    path = Path(place).expanduser().absolute()
    if path.is_dir():
        path = RunDirectory(path).chain_path
    if not path.is_file():
        raise ConfigError("chain", f"there is no {path}", "a run directory with an embedded chain, or a chain's file")
    return path


def open_place(place: str, *, readonly: bool = True, journal: Path | None = None) -> Chain:
    """Connect to the chain at ``place``; an embedded one is only read, unless ``readonly`` is False.

    A run directory leads to the chain that the run used, wherever that is.

    Raises
    ------
    ConfigError
        If there is no chain there.
    LedgerError
        If it cannot be reached or opened.
    """
    if is_url(place):
        node = ChainConfig("rpc", place, None, None)
        return rpc_chain(node.address, where=place, journal=journal, waiting=Waiting(confirmations=node.depth))
    folder = RunDirectory(Path(place).expanduser().absolute())
    if folder.path.is_dir() and not folder.chain_path.exists():
        used, chain_id = _remote(folder)
        waiting, journal = Waiting(confirmations=used.depth), journal or folder.journal_path
        return rpc_chain(used.address, chain_id, where=used.url, journal=journal, waiting=waiting)
    path = chain_file(place)
    return open_chain(path, readonly=readonly, journal=journal)


def contract_of(place: str) -> str | None:
    """Return the task's contract that a run's result names; None where there is no result."""
    if is_url(place):
        return None
    found = _read_json(RunDirectory(Path(place).expanduser().absolute()).result_path).get("contract")
    return found if isinstance(found, str) else None


def simulated_account(place: str, party: str) -> LocalAccount:
    """Return the account of a party of a simulated run, whose key follows from the run's seed.

    Parameters
    ----------
    place : str
        The run directory.
    party : str
        ``manufacturer``, or ``customer/I`` or ``miner/I`` with an index from 0.

    Raises
    ------
    ConfigError
        If there is no such party, or the run used key files.
    """
    if is_url(place) or not Path(place).expanduser().is_dir():
        raise ConfigError("--as", f"{place} is not a run directory", "--key, or the folder of a simulated run")
    from app.parties import parties_of

    config = _config(RunDirectory(Path(place).expanduser().absolute()))
    if config.wallet.name != "simulation":
        raise ConfigError("--as", f"the run used wallet={config.wallet.name}", "--key")
    parties = parties_of(config)
    role, _, index = party.partition("/")
    keys = parties.keys
    found = {"customer": keys.customers, "miner": keys.miners}.get(role, ()) if keys else ()
    if party == "manufacturer":
        return parties.manufacturer
    if not (index.isascii() and index.isdecimal() and int(index) < len(found)):
        allowed = f"customer/0..{len(parties.customers) - 1}, miner/0..{len(parties.miners) - 1}"
        raise ConfigError("--as", f"'{party}' is no party of this run", f"manufacturer, {allowed}")
    return found[int(index)]


def _remote(folder: RunDirectory) -> tuple[ChainConfig, int | None]:
    """Return where the node is that a run used, and the chain id that it had."""
    chain = _config(folder).chain
    if chain.url is None:
        raise ConfigError("run directory", f"{folder.path} has no chain yet", "a run that has begun")
    found = _read_json(folder.result_path).get("chain_id", chain.chain_id)
    return chain, found if isinstance(found, int) else None


def _config(folder: RunDirectory) -> Config:
    """Return the configuration that a run was started with."""
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    from app.config import from_plain

    try:
        plain = OmegaConf.to_container(OmegaConf.load(folder.config_path))
    except FileNotFoundError:
        raise ConfigError("run directory", f"{folder.path} has no config.yaml", "the folder of a run") from None
    except (OSError, ValueError, OmegaConfBaseException, YAMLError) as error:
        raise ConfigError("run directory", f"{folder.config_path} cannot be read ({type(error).__name__})") from error
    if not isinstance(plain, dict):
        raise ConfigError("run directory", f"{folder.config_path} is not a run's configuration")
    try:
        return from_plain({str(key): value for key, value in plain.items()})
    except ConfigError as error:
        problem = f"{folder.config_path} is not this version's: {error}"
        raise ConfigError("run directory", problem, "a run of this version") from error


def _read_json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}  # a run that is on its way has no result
    return found if isinstance(found, dict) else {}
