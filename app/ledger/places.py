"""Where a chain is, as people say it: a run directory, the file of an embedded chain, or a node's address."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from app.ledger.chain import Chain, open_chain, rpc_chain
from app.protocol.errors import ConfigError
from app.run_directory import RunDirectory


def is_url(place: str) -> bool:
    """Return whether a place is the address of a node."""
    return place.startswith(("http://", "https://"))


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
        return rpc_chain(place, journal=journal)
    folder = RunDirectory(Path(place).expanduser().absolute())
    if folder.path.is_dir() and not folder.chain_path.exists():
        url, chain_id = _remote(folder)
        return rpc_chain(url, chain_id, journal=journal or folder.journal_path)
    path = chain_file(place)
    return open_chain(path, readonly=readonly, journal=journal)


def contract_of(place: str) -> str | None:
    """Return the task's contract that a run's result names; None where there is no result."""
    if is_url(place):
        return None
    found = _read_json(RunDirectory(Path(place).expanduser().absolute()).result_path).get("contract")
    return found if isinstance(found, str) else None


def _remote(folder: RunDirectory) -> tuple[str, int | None]:
    """Return URL and chain id of the node that a run used."""
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    try:
        chain = OmegaConf.to_container(OmegaConf.load(folder.config_path))["chain"]  # type: ignore[call-overload,index]
        url, chain_id = chain["url"], chain["chain_id"]  # type: ignore[index]
    except (OSError, LookupError, TypeError, OmegaConfBaseException, YAMLError) as error:
        problem = f"{folder.path} has neither a chain.sqlite nor a config.yaml that names a node"
        raise ConfigError("run directory", problem, "the folder of a run") from error
    if not isinstance(url, str):
        raise ConfigError("run directory", f"{folder.path} has no chain yet", "a run that has begun")
    found = _read_json(folder.result_path).get("chain_id", chain_id)
    return url, found if isinstance(found, int) else None


def _read_json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}  # a run that is on its way has no result
    return found if isinstance(found, dict) else {}
