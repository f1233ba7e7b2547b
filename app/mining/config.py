"""The configuration of ``hearth miner run``, see conf/miner.yaml."""

from __future__ import annotations

from dataclasses import dataclass

from app.checks import one_of
from app.protocol.errors import ConfigError
from app.service.config import KeyConfig, NodeConfig
from app.service.listen import ListenConfig
from app.service.process import FORMATS
from app.settings import StoreConfig


@dataclass(frozen=True, slots=True)
class MinerConfig:
    """What one miner needs to know; conf/miner.yaml says what each key means."""

    contract: str | None
    members: str | None
    authority: str | None
    state: str | None
    poll: float
    patience: float
    vote_seconds: float
    log: str
    key: KeyConfig
    chain: NodeConfig
    store: StoreConfig
    listen: ListenConfig

    def __post_init__(self) -> None:
        one_of("log", self.log, FORMATS)
        for name in ("poll", "patience", "vote_seconds"):
            if not 0 < getattr(self, name) <= 86_400:
                raise ConfigError(name, f"{getattr(self, name)} is out of range", "above 0, to 86400 seconds")
        if self.store.name == "embedded" and self.store.path is None:
            raise ConfigError("store.path", "must be given with store.name=embedded", "the folder of the blobs")
