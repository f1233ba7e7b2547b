"""A connection to a chain, and the one way in which transactions leave this program."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eth_account.signers.local import LocalAccount
from web3 import HTTPProvider, Web3
from web3.contract.contract import ContractConstructor, ContractFunction
from web3.types import TxParams, TxReceipt

from app.ledger.embedded import CHAIN_ID, EmbeddedNode
from app.ledger.faults import translated
from app.ledger.provider import EmbeddedProvider
from app.protocol.errors import LedgerError

RECEIPT_TIMEOUT = 180  # seconds: fifteen blocks of Ethereum's
REQUEST_TIMEOUT = 30  # seconds
Call = ContractFunction | ContractConstructor


@dataclass(frozen=True, slots=True)
class Sent:
    """A transaction that is in a block and succeeded.

    Attributes
    ----------
    hash : bytes
        Its hash (32 bytes).
    block : int
        Number of its block.
    gas : int
        The gas it used.
    contract : str or None
        Address of the contract that it created.
    """

    hash: bytes
    block: int
    gas: int
    contract: str | None = None


class Chain:
    """An Ethereum-compatible chain, embedded or remote; made by `embedded_chain`, `open_chain` or `rpc_chain`.

    Attributes
    ----------
    w3 : web3.Web3
        The connection; wrap what you ask of it in `guard`.
    chain_id : int
        EIP-155 chain id.
    where : str
        File or URL, for messages.
    """

    def __init__(self, w3: Web3, where: str, *, poll: float, close: Callable[[], None] | None = None) -> None:
        # Nothing that a contract says may make this program call a third party (EIP-3668).
        w3.provider.global_ccip_read_enabled = False
        self.w3, self.where = w3, where
        self._poll, self._close = poll, close
        self._sending = threading.RLock()
        with self.guard("eth_chainId"):
            self.chain_id = int(w3.eth.chain_id)

    def guard(self, call: str, abi: Sequence[Any] = ()) -> AbstractContextManager[None]:
        """Translate what goes wrong inside into `LedgerError` and `ContractRevertedError`."""
        return translated(call, where=self.where, abi=abi)

    def head(self) -> tuple[int, bytes]:
        """Return number and hash of the newest block."""
        with self.guard("eth_getBlockByNumber"):
            block = self.w3.eth.get_block("latest")
        return int(block["number"]), bytes(block["hash"])

    def send(self, account: LocalAccount, transaction: Call | TxParams, intent: str, *, gas: int | None = None) -> Sent:
        """Dry-run a transaction, sign and send it, and wait until it is in a block.

        Parameters
        ----------
        account : LocalAccount
            Who signs and pays.
        transaction : ContractFunction, ContractConstructor or TxParams
            The call, or at least ``to`` and ``value`` or ``data``.
        intent : str
            What it is for (``seal 3``); names it in messages.
        gas : int, optional
            The gas limit; a quarter above the dry run's, where it is not given.

        Raises
        ------
        ContractRevertedError
            If the contract refuses: found by the dry run, before anything is sent, or else on chain.
        LedgerError
            If the node refuses, cannot be reached, or has not put it in a block in time; or if it ran out of gas.
        """
        with self._sending, self.guard(intent, _abi_of(transaction)):
            sender: TxParams = {"from": account.address}
            needed = _estimate(self.w3, transaction, sender)
            fields = self._fields(account, needed * 5 // 4 + 10_000 if gas is None else gas)
            filled = (
                transaction.build_transaction({**sender, **fields})
                if isinstance(transaction, Call)
                else {**transaction, **fields}
            )
            signed = account.sign_transaction(filled)  # type: ignore[arg-type]
            self.w3.eth.send_raw_transaction(signed.raw_transaction)
            receipt = self.w3.eth.wait_for_transaction_receipt(signed.hash, RECEIPT_TIMEOUT, self._poll)
            if receipt["status"] != 1:
                raise self._failure(transaction, sender, receipt, int(filled["gas"]), intent)
        return Sent(bytes(signed.hash), receipt["blockNumber"], receipt["gasUsed"], receipt["contractAddress"])

    def transfer(self, account: LocalAccount, to: str, wei: int) -> Sent:
        """Send ``wei`` from ``account`` to the address ``to``; see `send`."""
        payment: TxParams = {"to": Web3.to_checksum_address(to), "value": Web3.to_wei(wei, "wei")}
        return self.send(account, payment, f"transfer {to}")

    def balance(self, address: str) -> int:
        """Return the wei that ``address`` has."""
        with self.guard("eth_getBalance"):
            return int(self.w3.eth.get_balance(Web3.to_checksum_address(address)))

    def close(self) -> None:
        """End the connection; of an embedded chain the one file is left."""
        if self._close is not None:
            self._close()
            self._close = None

    def _fields(self, account: LocalAccount, gas: int) -> TxParams:
        """Fill in nonce, gas and fees (EIP-1559: twice the base fee lasts for six full blocks)."""
        base = self.w3.eth.get_block("latest").get("baseFeePerGas")
        if base is None:
            raise LedgerError(f"{self.where}: the chain has no base fee (allowed: chains with EIP-1559)")
        tip = self.w3.eth.max_priority_fee
        return {
            "type": 2,
            "chainId": self.chain_id,
            "nonce": self.w3.eth.get_transaction_count(account.address, "pending"),
            "gas": gas,
            "maxFeePerGas": Web3.to_wei(2 * base + tip, "wei"),
            "maxPriorityFeePerGas": tip,
        }

    def _failure(
        self, transaction: Call | TxParams, sender: TxParams, receipt: TxReceipt, gas: int, intent: str
    ) -> LedgerError:
        """Say why a transaction failed on chain after its dry run had succeeded."""
        if receipt["gasUsed"] >= gas:
            return LedgerError(f"{self.where}: {intent} ran out of gas ({gas} given)")
        _estimate(self.w3, transaction, sender)  # what changed in between reverts here too, and is named
        return LedgerError(f"{self.where}: {intent} failed in block {receipt['blockNumber']} without a reason")


def embedded_chain(
    path: Path, chain_id: int = CHAIN_ID, *, funded: Mapping[str, int], genesis_time: int | None = None
) -> Chain:
    """Continue the embedded chain at ``path``, or create it where there is no file.

    Parameters
    ----------
    path : Path
        The SQLite file.
    chain_id : int
        EIP-155 chain id.
    funded : mapping of str to int
        Wei at genesis, by address.
    genesis_time : int, optional
        Of a new chain, in seconds since 1970; now, where it is not given.

    Raises
    ------
    LedgerError
        If the file is another chain than the one described, or somebody else writes to it.
    """
    if not path.exists():
        return _embedded(EmbeddedNode.create(path, chain_id=chain_id, alloc=funded, genesis_time=genesis_time))
    node = EmbeddedNode.open(path)
    try:
        _check_chain_id(str(path), node.chain_id, chain_id)
        if node.alloc != {Web3.to_checksum_address(address): wei for address, wei in funded.items()}:
            raise LedgerError(f"{path}: the chain began with another allocation")
        return _embedded(node)
    except BaseException:
        node.close()
        raise


def open_chain(path: Path, *, readonly: bool = False) -> Chain:
    """Open an embedded chain that exists, for example as evidence.

    Raises
    ------
    LedgerError
        If there is none, or it has a writer and ``readonly`` is not set.
    """
    return _embedded(EmbeddedNode.open(path, readonly=readonly))


def rpc_chain(url: str, chain_id: int | None = None) -> Chain:
    """Connect to any node that speaks Ethereum's JSON-RPC.

    Parameters
    ----------
    url : str
        ``http://`` or ``https://`` address of the node.
    chain_id : int, optional
        The chain that is expected there.

    Raises
    ------
    LedgerError
        If the node cannot be reached or is on another chain.
    """
    if not url.startswith(("http://", "https://")):
        raise LedgerError(f"{url}: not the URL of a node (allowed: http://..., https://...)")
    chain = Chain(Web3(HTTPProvider(url, {"timeout": REQUEST_TIMEOUT})), url, poll=0.05)
    if chain_id is not None:
        _check_chain_id(url, chain.chain_id, chain_id)
    return chain


def _embedded(node: EmbeddedNode) -> Chain:
    return Chain(Web3(EmbeddedProvider(node)), str(node.path), poll=0.001, close=node.close)


def _check_chain_id(where: str, found: int, expected: int) -> None:
    if found != expected:
        raise LedgerError(f"{where}: is the chain with the id {found}, not {expected}")


def _abi_of(transaction: Call | TxParams) -> Sequence[Any]:
    if isinstance(transaction, ContractFunction):
        return transaction.contract_abi or ()
    return transaction.abi if isinstance(transaction, ContractConstructor) else ()


def _estimate(w3: Web3, transaction: Call | TxParams, sender: TxParams) -> int:
    if isinstance(transaction, Call):
        return int(transaction.estimate_gas(sender))
    return int(w3.eth.estimate_gas({**transaction, **sender}))
