"""What the audit's commands take: folders, addresses, hashes, and complaints in one line."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import NoReturn

from eth_utils import is_address, to_checksum_address

from app.protocol.digest import bytes32
from app.protocol.errors import ConfigError, ProtocolError


class Parser(argparse.ArgumentParser):
    """A parser whose complaints are errors of ours."""

    def error(self, message: str) -> NoReturn:
        """Raise `ConfigError`."""
        raise ConfigError(self.prog, message, f"{self.prog} --help tells")


def hash_of(text: str) -> bytes:
    """Return a block hash that somebody typed."""
    try:
        return bytes32(text.lower())
    except ProtocolError as error:
        raise ConfigError("--head", f"{text:.80} is not a block's hash", "0x and 64 hexadecimal digits") from error


def address_of(key: str, text: str) -> str:
    """Return an address that somebody typed, with its checksum."""
    if not is_address(text):
        raise ConfigError(key, f"{text:.80} is not an address", "0x and 40 hexadecimal digits")
    return str(to_checksum_address(text))


_ELSEWHERE = (
    ("chain.sqlite", "\n  name: rpc\n", "the chain of {} lies behind a node"),
    ("blobs", "\n  name: ipfs\n", "the blobs of {} lie behind IPFS"),
)
"""What may be elsewhere, by which line of config.yaml, and how to say it."""


def run_directory(path: str) -> Path:
    """Return the folder of a run; raise `ConfigError` if it is none, or one whose chain or blobs are elsewhere."""
    folder = Path(path).expanduser().absolute()
    if not folder.is_dir():
        raise ConfigError("run directory", f"{folder} is not a folder", "the folder of a run")
    config = folder / "config.yaml"
    text = config.read_text("utf-8", "replace") if config.is_file() else ""
    for name, line, problem in _ELSEWHERE:
        if line in text and not (folder / name).exists():
            allowed = "hearth audit --chain URL --contract ADDR --store URL|DIR"
            raise ConfigError("run directory", problem.format(folder), allowed)
    return folder
