"""A chain's history as the audit reads it, whether it re-executed the blocks itself or a node told it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from app.audit.abi import decode_answer, encode_call


@dataclass(frozen=True, slots=True)
class Log:
    """An event as the EVM writes it."""

    address: str
    topics: tuple[bytes, ...]
    data: bytes


@dataclass(frozen=True, slots=True)
class Transaction:
    """A transaction in its block.

    Attributes
    ----------
    block, index : int
        Where it is.
    hash : bytes
        Its hash (32 bytes).
    sender : str
        The checksum address that signed it.
    to, created : str or None
        Whom it called, and the contract that it created.
    value : int
        Wei that went with it.
    data : bytes
        What it called with.
    succeeded : bool
        Whether it took effect.
    gas : int
        What it used.
    logs : tuple of Log
        Its events.
    """

    block: int
    index: int
    hash: bytes
    sender: str
    to: str | None
    created: str | None
    value: int
    data: bytes
    succeeded: bool
    gas: int
    logs: tuple[Log, ...]


@dataclass(frozen=True, slots=True)
class History:
    """All that happened on a chain, or all of it that concerns one contract.

    Attributes
    ----------
    where : str
        File or URL.
    chain_id : int
        EIP-155 chain id.
    blocks : mapping of int to bytes
        The hash of each block that was looked at, by number; the highest is the head.
    transactions : tuple of Transaction
        In order.
    code : callable
        Returns the code at an address, as of the head.
    raw_call : callable
        Returns what a contract (address) answers a call (bytes), as of the head.
    """

    where: str
    chain_id: int
    blocks: Mapping[int, bytes]
    transactions: tuple[Transaction, ...]
    code: Callable[[str], bytes]
    raw_call: Callable[[str, bytes], bytes]

    @property
    def head(self) -> tuple[int, bytes]:
        """Number and hash of the newest block."""
        number = max(self.blocks)
        return number, self.blocks[number]

    def view(self, contract: str, name: str, *arguments: Any) -> Any:
        """Return what a view of the task's contract says, as of the head."""
        return decode_answer(name, self.raw_call(contract, encode_call(name, *arguments)))
