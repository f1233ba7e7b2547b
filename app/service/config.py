"""The configuration of a party that is a process of its own: its file of conf/, a file of the user, and key=value."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from app.ledger.config import ChainConfig
from app.overrides import CONF, check
from app.protocol.errors import ConfigError
from app.typed import build, leaves

_Schema = TypeVar("_Schema")


@dataclass(frozen=True, slots=True)
class KeyConfig:
    """A key file: its name, and the folder that it is in (None: that of ``hearth wallet``)."""

    name: str
    folder: str | None


@dataclass(frozen=True, slots=True)
class NodeConfig:
    """A chain's node, as `app.ledger.config.ChainConfig` has it for ``rpc``."""

    url: str
    chain_id: int | None
    confirmations: int | None

    @property
    def chain(self) -> ChainConfig:
        """The same as a task's configuration has it."""
        return ChainConfig("rpc", self.url, self.chain_id, self.confirmations)

    def __post_init__(self) -> None:
        self.chain  # noqa: B018 - it checks the values


def compose_service(name: str, schema: type[_Schema], overrides: Sequence[str], file: Path | None) -> _Schema:
    """Lay a file and then ``overrides`` over ``conf/NAME.yaml``; return the checked configuration.

    Parameters
    ----------
    name : str
        Which file of conf/.
    schema : type
        The dataclass of the result.
    overrides : sequence of str
        ``key=value`` in Hydra's grammar.
    file : Path, optional
        YAML with the same keys, as many as are wanted.

    Raises
    ------
    ConfigError
        Names the key that is unknown, of the wrong type or impossible.
    """
    from hydra import compose, initialize_config_dir
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    keys = leaves(schema)
    typed = check(overrides, keys)
    given = {text.partition("=")[0] for text in typed}
    from_file = [text for text in _overrides_of(file, keys) if text.partition("=")[0] not in given]
    try:
        with initialize_config_dir(config_dir=str(CONF), version_base="1.3"):
            plain = OmegaConf.to_container(compose(name, [*from_file, *typed]), resolve=True)
    except (HydraException, OmegaConfBaseException) as error:
        problem = " ".join(str(error).split("\n")[0].split())
        raise ConfigError(getattr(error, "full_key", None) or f"conf/{name}.yaml", problem) from None
    return build(schema, plain)


def _overrides_of(file: Path | None, keys: dict[str, Any]) -> list[str]:
    if file is None:
        return []
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    try:
        plain = OmegaConf.to_container(OmegaConf.load(file))
    except (OSError, YAMLError, ValueError, OmegaConfBaseException, RecursionError) as error:
        raise ConfigError("--config", f"{file} cannot be read: {error}", "a YAML file") from error
    if not isinstance(plain, dict):
        raise ConfigError("--config", f"{file} has no keys", "a YAML file with keys of conf/")
    found = [f"{key}={_literal(value)}" for key, value in _flat(plain)]
    return check(found, keys)


def _flat(plain: dict[Any, Any], above: str = "") -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for key, value in plain.items():
        name = f"{above}.{key}" if above else str(key)
        found += _flat(value, name) if isinstance(value, dict) else [(name, value)]
    return found


def _literal(value: Any) -> str:
    """Return a value in Hydra's grammar."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return "[" + ",".join(map(_literal, value)) + "]"
    return repr(value) if isinstance(value, int | float) else "'" + str(value).replace("'", "\\'") + "'"
