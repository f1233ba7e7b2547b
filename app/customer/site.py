"""What a customer's own machine tells its Flower node: where the data, the key and the MEC server are.

It comes from the SuperNode's ``--node-config``, never from the manufacturer: a task cannot make a phone read another
file or talk to another server.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from app.checks import in_range
from app.protocol.errors import ConfigError

_KEYS = ("key", "home", "data", "label", "rehearse", "mec", "mec-authority", "mec-patience")


@dataclass(frozen=True, slots=True)
class Site:
    """One customer's machine.

    Attributes
    ----------
    key : Path
        The wallet's encrypted key file.
    home : Path
        Folder for what the phone must remember: released features, its privacy ledger, its receipts.
    data : str or None
        File or folder with the customer's records (`app.learning.datasets.folder`); None with ``rehearse``.
    label : str or None
        Column that holds the class; None means ``label``.
    rehearse : int or None
        Play this customer of the task's public demonstration data instead, noise and all: to try a deployment before
        real data is at stake.
    mec : str or None
        ``host:port`` of the MEC server; None has it in this process.
    mec_authority : str or None
        File (PEM) of the certificate authority that vouches for it; None: it is on this machine.
    mec_patience : float
        Seconds in which a MEC server that is away is asked again.
    """

    key: Path
    home: Path
    data: str | None
    label: str | None
    rehearse: int | None
    mec: str | None
    mec_authority: str | None
    mec_patience: float

    @classmethod
    def of(cls, node_config: Mapping[str, object]) -> Site:
        """Read a SuperNode's configuration; keys that Flower sets itself are left alone.

        Raises
        ------
        ConfigError
            Names the key that is missing, unknown or impossible.
        """
        unknown = sorted(set(node_config) - {*_KEYS, "partition-id", "num-partitions"})
        if unknown:
            raise ConfigError(f"node-config {unknown[0]}", "unknown key", _KEYS)
        rehearse, data = node_config.get("rehearse"), _text(node_config, "data")
        if rehearse is not None and (type(rehearse) is not int or rehearse < 0):
            raise ConfigError("node-config rehearse", f"{rehearse!r} is no customer's index", "0, 1, 2 ...")
        if (rehearse is None) == (data is None):
            problem = "says neither where the records are nor whom to rehearse" if data is None else "is given twice"
            raise ConfigError("node-config data", problem, 'data="/my/records", or rehearse=INDEX to try things out')
        patience = node_config.get("mec-patience", 120)
        if not isinstance(patience, int | float) or isinstance(patience, bool):
            raise ConfigError("node-config mec-patience", f"{patience!r} is no number", "seconds")
        in_range("node-config mec-patience", round(patience), 0, 86_400)
        return cls(
            Path(_needed(node_config, "key")).expanduser(),
            Path(_needed(node_config, "home")).expanduser(),
            data,
            _text(node_config, "label"),
            rehearse,
            _text(node_config, "mec"),
            _text(node_config, "mec-authority"),
            float(patience),
        )


def _text(node_config: Mapping[str, object], key: str) -> str | None:
    value = node_config.get(key)
    if value is None or value == "":
        return None
    if not isinstance(value, str):
        raise ConfigError(f"node-config {key}", f"{value!r} is no text", f'{key}="..."')
    return value


def _needed(node_config: Mapping[str, object], key: str) -> str:
    value = _text(node_config, key)
    if value is None:
        raise ConfigError(f"node-config {key}", "is missing", f"--node-config '{key}=\"...\" ...'")
    return value
