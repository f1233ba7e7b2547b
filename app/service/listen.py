"""Where a service listens, and whom it lets in how often: loopback and no certificate, or anywhere with one."""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

from app.checks import in_range
from app.protocol.errors import ConfigError

LARGEST = 2**31 - 1
"""The most bytes that gRPC takes for one message."""
_ADDRESS = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):(\d{1,5})")


@dataclass(frozen=True, slots=True)
class ListenConfig:
    """Where a service listens.

    Attributes
    ----------
    address : str
        ``host:port``; port 0 takes a free one. Beyond this machine only with a certificate.
    certificate, key : str or None
        Files of the TLS certificate (its chain, PEM) and of its private key; both or none.
    most_bytes : int
        The largest request that is read.
    per_minute : int
        Requests that one caller may make in a minute, and at once; more are refused, not queued.
    workers : int
        Requests that are worked on at the same time.
    monitor : int or None
        Port on loopback for metrics in Prometheus' text form; None opens none.
    """

    address: str
    certificate: str | None
    key: str | None
    most_bytes: int
    per_minute: int
    workers: int
    monitor: int | None

    def __post_init__(self) -> None:
        host, _ = split_address("listen.address", self.address)
        if (self.certificate is None) != (self.key is None):
            raise ConfigError("listen.certificate", "comes with a key, and a key with it", "both files, or null twice")
        if self.certificate is None and not is_loopback(host):
            problem = f"{self.address} can be reached from elsewhere, and there is no certificate"
            raise ConfigError("listen.certificate", problem, "the file of one, or listen.address on 127.0.0.1")
        in_range("listen.most_bytes", self.most_bytes, 2**10, LARGEST)
        in_range("listen.per_minute", self.per_minute, 1, 10**6)
        in_range("listen.workers", self.workers, 1, 256)
        in_range("listen.monitor", self.monitor, 0, 65_535)


def split_address(key: str, address: str) -> tuple[str, int]:
    """Return host and port of ``host:port``; raise `ConfigError` if it is none."""
    match = _ADDRESS.fullmatch(address)
    if match is None or int(match[2]) > 65_535:
        raise ConfigError(key, f"'{address:.100}' is not an address", "host:port")
    return match[1], int(match[2])


def is_loopback(host: str) -> bool:
    """Return whether a host is this machine as nobody else can reach it."""
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def read_pem(key: str, path: str) -> bytes:
    """Return the content of a certificate's or a key's file; raise `ConfigError` if it cannot be read."""
    try:
        data = Path(path).expanduser().read_bytes()
    except OSError as error:
        raise ConfigError(key, f"{path} cannot be read: {error.strerror or error}", "a file in PEM form") from error
    if b"-----BEGIN " not in data:
        raise ConfigError(key, f"{path} holds no PEM", "a file in PEM form")
    return data
