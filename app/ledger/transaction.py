"""What is sent, how patiently, and what is shown of it before it is signed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hexbytes import HexBytes
from web3 import Web3
from web3.contract.contract import ContractConstructor, ContractFunction
from web3.types import TxParams

from app.protocol.digest import sha256

Call = ContractFunction | ContractConstructor


@dataclass(frozen=True, slots=True)
class Waiting:
    """How patient a sender is. All times are in seconds.

    Attributes
    ----------
    confirmations : int
        Blocks upon a transaction's own before it counts; a reorganisation of that depth is then harmless.
    timeout : float
        Until sending ends in an error; the transaction stays in the journal.
    resend_after : float
        Until a transaction that the node does not know (any more) is broadcast again.
    bump_after : float
        Until a transaction that waits in the pool is replaced by one with higher fees.
    bumps : int
        How often that may happen: each costs an eighth more.
    max_fee : int
        Wei per gas that are never exceeded, whatever a node suggests.
    poll : float
        Between two looks.
    """

    confirmations: int = 0
    timeout: float = 180
    resend_after: float = 5
    bump_after: float = 60
    bumps: int = 8
    max_fee: int = 10**12
    poll: float = 0.05


@dataclass(frozen=True, slots=True)
class Payload:
    """What a transaction does.

    Attributes
    ----------
    to : str or None
        Checksum address of the recipient; None creates a contract.
    value : int
        Wei.
    data : bytes
        Call data, or the code that creates the contract.
    """

    to: str | None
    value: int
    data: bytes

    def digest(self) -> bytes:
        """Return the SHA-256 of all that it says."""
        to = bytes.fromhex(self.to[2:]) if self.to else b""
        return sha256(len(to).to_bytes(1, "big") + to + self.value.to_bytes(32, "big") + self.data)

    def fields(self) -> TxParams:
        """Return the part of a transaction that it fills."""
        fields: TxParams = {"value": Web3.to_wei(self.value, "wei"), "data": HexBytes(self.data)}
        return {**fields, "to": Web3.to_checksum_address(self.to)} if self.to else fields


@dataclass(frozen=True, slots=True)
class Pending:
    """A transaction whose dry run succeeded, before it is signed.

    Attributes
    ----------
    intent : str
        What it is for.
    sender : str
        Checksum address of who signs and pays.
    to : str or None
        Checksum address of the recipient; None creates a contract.
    value : int
        Wei that go along.
    gas, fee : int
        The gas limit, and the most wei per gas: together the most that it can cost.
    """

    intent: str
    sender: str
    to: str | None
    value: int
    gas: int
    fee: int


def payload_of(transaction: Call | TxParams, chain_id: int, value: int) -> Payload:
    """Return what a transaction does: of a contract's call the data are made here, without asking a node."""
    if isinstance(transaction, Call):
        # All that would make web3 ask the node is given.
        nothing: TxParams = {
            "chainId": chain_id,
            "gas": 0,
            "maxFeePerGas": Web3.to_wei(0, "wei"),
            "maxPriorityFeePerGas": Web3.to_wei(0, "wei"),
            "value": Web3.to_wei(value, "wei"),
        }
        transaction = transaction.build_transaction(nothing)
    to, data = transaction.get("to"), HexBytes(transaction.get("data", b""))
    return Payload(Web3.to_checksum_address(to) if to else None, int(transaction.get("value", value)), bytes(data))


def abi_of(transaction: Call | TxParams) -> Sequence[Any]:
    """Return the ABI whose errors a transaction may meet."""
    if isinstance(transaction, ContractFunction):
        return transaction.contract_abi or ()
    return transaction.abi if isinstance(transaction, ContractConstructor) else ()
