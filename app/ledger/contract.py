"""The compiled contracts, as they come with the package."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from app.protocol.errors import LedgerError

MAX_CODE = 24_576  # bytes: EIP-170


@dataclass(frozen=True, slots=True)
class Artifact:
    """One compiled contract.

    Attributes
    ----------
    contract : str
        Its name.
    abi : list of dict
        Its interface.
    bytecode : bytes
        What is sent to deploy it, before the constructor's arguments.
    deployed : bytes
        Its code on chain, with zeros where the constructor puts values.
    immutables : tuple of (int, int)
        Start and length of each such place in ``deployed``.
    sources : dict of str to str
        SHA-256 of each source, by file name.
    """

    contract: str
    abi: list[dict[str, Any]]
    bytecode: bytes
    deployed: bytes
    immutables: tuple[tuple[int, int], ...]
    sources: dict[str, str]

    def is_deployed_as(self, code: bytes) -> bool:
        """Return whether ``code`` is this contract, whatever values its constructor put in."""
        return len(code) == len(self.deployed) and self._without_immutables(code) == self._without_immutables(
            self.deployed
        )

    def _without_immutables(self, code: bytes) -> bytes:
        masked = bytearray(code)
        for start, length in self.immutables:
            masked[start : start + length] = bytes(length)
        return bytes(masked)


@cache
def artifact(name: str) -> Artifact:
    """Return the artifact of the contract ``name``.

    Raises
    ------
    LedgerError
        If it is missing or damaged.
    """
    try:
        raw = json.loads(files("contracts").joinpath("artifacts", f"{name}.json").read_text(encoding="utf-8"))
        found = Artifact(
            contract=raw["contract"],
            abi=raw["abi"],
            bytecode=bytes.fromhex(raw["bytecode"].removeprefix("0x")),
            deployed=bytes.fromhex(raw["deployedBytecode"].removeprefix("0x")),
            immutables=tuple((place["start"], place["length"]) for place in raw["immutables"]),
            sources=raw["sources"],
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise LedgerError(f"contracts/artifacts/{name}.json: missing or damaged ({type(error).__name__})") from error
    if found.contract != name or not 0 < len(found.deployed) <= MAX_CODE or len(found.bytecode) <= len(found.deployed):
        raise LedgerError(f"contracts/artifacts/{name}.json: is not the compiled contract {name}")
    return found
