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
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    parser = OverridesParser.create()
    typed = [parser.parse_override(text) for text in check(overrides, leaves(schema), grouped=False)]
    try:
        merged = OmegaConf.merge(OmegaConf.load(CONF / f"{name}.yaml"), _loaded(file) if file else {})
        for override in typed:
            OmegaConf.update(merged, override.key_or_group, override.value())
        plain = OmegaConf.to_container(merged, resolve=True)
    except OmegaConfBaseException as error:
        problem = " ".join(str(error).split("\n")[0].split())
        raise ConfigError(getattr(error, "full_key", None) or f"conf/{name}.yaml", problem) from None
    return build(schema, plain)


def _loaded(file: Path) -> Any:
    from omegaconf import DictConfig, OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    try:
        loaded = OmegaConf.load(file)
    except (OSError, YAMLError, ValueError, OmegaConfBaseException, RecursionError) as error:
        raise ConfigError("--config", f"{file} cannot be read: {error}", "a YAML file") from error
    if not isinstance(loaded, DictConfig):
        raise ConfigError("--config", f"{file} has no keys", "a YAML file with keys of conf/")
    return loaded
