"""The configuration of ``hearth mec serve``, see conf/mec.yaml."""

from __future__ import annotations

from dataclasses import dataclass

from app.checks import in_range, one_of
from app.protocol.errors import ConfigError
from app.service.listen import ListenConfig, split_address
from app.service.process import FORMATS


@dataclass(frozen=True, slots=True)
class CacheConfig:
    """Where releases lie, how much they may be, and the key that they are encrypted with."""

    folder: str | None
    most_bytes: int
    key_file: str | None

    def __post_init__(self) -> None:
        in_range("cache.most_bytes", self.most_bytes, 2**20, 2**60)


@dataclass(frozen=True, slots=True)
class MecConfig:
    """What a MEC server needs to know; conf/mec.yaml says what each key means."""

    customers: str | None
    names: tuple[str, ...] | None
    grace: float
    log: str
    cache: CacheConfig
    listen: ListenConfig

    def __post_init__(self) -> None:
        if self.customers is None:
            raise ConfigError("customers", "must be given: nobody else is served", "a file of cards or addresses")
        for name in self.names or ():
            split_address("names", name)
        host, _ = split_address("listen.address", self.listen.address)
        if self.names is None and host in ("0.0.0.0", "[::]"):  # noqa: S104 - it is refused
            problem = f"must be given with listen.address={self.listen.address}: no phone calls it that"
            raise ConfigError("names", problem, 'a list such as ["mec.example.org:7800"]')
        if not 0 <= self.grace <= 3600:
            raise ConfigError("grace", f"{self.grace} is out of range", "0 to 3600 seconds")
        one_of("log", self.log, FORMATS)
