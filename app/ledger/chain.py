"""A connection to a chain, and the one way in which transactions leave this program."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests
from eth_account.signers.local import LocalAccount
from web3 import HTTPProvider, Web3
from web3.providers.rpc.utils import ExceptionRetryConfiguration
from web3.types import TxParams

from app.ledger.embedded import CHAIN_ID, EmbeddedNode
from app.ledger.faults import translated
from app.ledger.journal import Journal
from app.ledger.provider import EmbeddedProvider
from app.ledger.sender import Sender
from app.ledger.transaction import Call, Pending, Waiting, abi_of, payload_of
from app.protocol.digest import hex32
from app.protocol.errors import LedgerError

REQUEST_TIMEOUT = 30  # seconds


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
    journal : Path or None
        Folder of the journals of what was sent, one file a key; None where they are kept in memory.
    once : bool
        Whether what was sent before is found again in the journal, as a program that starts anew wants it. A person who
        gives a command again wants to hear what the contract says to that; what was signed is settled first either way.
    approve : callable or None
        Is shown every transaction after its dry run and before it is signed; what it raises stops the sending.
    """

    def __init__(
        self,
        w3: Web3,
        where: str,
        *,
        journal: Path | None = None,
        waiting: Waiting | None = None,
        close: Callable[[], None] | None = None,
        put_forward: Callable[[int], None] | None = None,
    ) -> None:
        # Nothing that a contract says may make this program call a third party (EIP-3668).
        w3.provider.global_ccip_read_enabled = False
        self.w3, self.where, self.journal = w3, where, journal
        self._waiting, self._close, self._put_forward = waiting or Waiting(), close, put_forward
        self.once = True
        self.approve: Callable[[Pending], None] | None = None
        self._senders: dict[str, Sender] = {}
        self._opening = threading.Lock()
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

    def wait_until(self, seconds: int) -> None:
        """Return once the chain's next block will have the time ``seconds`` (since 1970) or a later one.

        An embedded chain's clock is put forward instead. Elsewhere blocks have the time of day, to within a block.
        """
        if self._put_forward is not None:
            self._put_forward(seconds)
            return
        while True:
            with self.guard("eth_getBlockByNumber"):
                reached = int(self.w3.eth.get_block("latest")["timestamp"])
            left = seconds - reached
            # A node that makes blocks on demand only has an old newest block: then the time of day decides.
            if left <= 0 or time.time() >= seconds + 1:
                return
            time.sleep(min(max(seconds + 1 - time.time(), 0.1), 5.0))

    def send(
        self,
        account: LocalAccount,
        transaction: Call | TxParams,
        intent: str,
        *,
        gas: int | None = None,
        value: int = 0,
    ) -> Sent:
        """Dry-run a transaction, sign and send it, and wait until it is in a block.

        Where the chain has a journal, this happens once for the same words about the same transaction: when they come
        again, in this process or after its death, what was sent then is waited for or found. The same words about
        another transaction (recipient, value or data differ) are another intent.

        Parameters
        ----------
        account : LocalAccount
            Who signs and pays.
        transaction : ContractFunction, ContractConstructor or TxParams
            The call, or ``to``, ``value`` and ``data``; nonce, gas and fees are filled in here.
        intent : str
            What it is for (``seal 3``); names it in messages and in the journal. One that failed on chain is sent
            anew when it comes again.
        gas : int, optional
            The gas limit; a quarter above the dry run's, where it is not given.
        value : int
            Wei that a call takes along.

        Raises
        ------
        ContractRevertedError
            If the contract refuses: found by the dry run, before anything is sent, or else on chain.
        LedgerError
            If the node refuses, cannot be reached, or has not put it in a block in time; or if it ran out of gas.
        """
        with self.guard(intent, abi_of(transaction)):
            hash, outcome = self._sender(account).send(
                intent, payload_of(transaction, self.chain_id, value), gas, once=self.once
            )
        return Sent(hash, outcome.block, outcome.gas, outcome.contract)

    def recover(self, account: LocalAccount) -> None:
        """Wait for what an earlier process of ``account`` had signed: call it before you read what is left to do.

        Raises
        ------
        LedgerError
            If something is not in a block in time, or another process sends with this key.
        """
        with self.guard("the journal's transactions"):
            self._sender(account).recover()

    def transfer(self, account: LocalAccount, to: str, wei: int, intent: str | None = None) -> Sent:
        """Send ``wei`` from ``account`` to the address ``to``; see `send`, also for what makes two of them one."""
        payment: TxParams = {"to": Web3.to_checksum_address(to), "value": Web3.to_wei(wei, "wei")}
        return self.send(account, payment, intent or f"transfer {to}")

    def balance(self, address: str) -> int:
        """Return the wei that ``address`` has."""
        with self.guard("eth_getBalance"):
            return int(self.w3.eth.get_balance(Web3.to_checksum_address(address)))

    def close(self) -> None:
        """End the connection and let go of the journals; of an embedded chain the one file is left."""
        with self._opening:
            while self._senders:
                self._senders.popitem()[1].close()
        if self._close is not None:
            self._close()
            self._close = None

    def _sender(self, account: LocalAccount) -> Sender:
        with self._opening:
            if account.address not in self._senders:
                journal = self._open_journal(account.address)
                sender = Sender(self.w3, self.where, account, journal, self._waiting, self._ask)
                self._senders[account.address] = sender
            return self._senders[account.address]

    def _ask(self, pending: Pending) -> None:
        if self.approve is not None:
            self.approve(pending)

    def _open_journal(self, address: str) -> Journal:
        if self.journal is None:
            return Journal(None)
        # Development chains are made anew under the same id. Each has journals of its own: what was sent on one must
        # not be taken for sent on the next.
        with self.guard("eth_getBlockByNumber"):
            genesis = hex32(bytes(self.w3.eth.get_block(0)["hash"]))
        identity = {"chain id": str(self.chain_id), "genesis": genesis, "sender": address}
        return Journal(self.journal / f"{self.chain_id}-{genesis[2:10]}-{address}.sqlite", identity)


def embedded_chain(
    path: Path,
    chain_id: int = CHAIN_ID,
    *,
    funded: Mapping[str, int],
    genesis_time: int | None = None,
    journal: Path | None = None,
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
    journal : Path, optional
        Folder for the journals, beside the chain: what was sent once is then not sent again, see `Chain.send`.

    Raises
    ------
    LedgerError
        If the file is another chain than the one described, or somebody else writes to it.
    """
    if not path.exists():
        node = EmbeddedNode.create(path, chain_id=chain_id, alloc=funded, genesis_time=genesis_time)
        return _embedded(node, journal)
    node = EmbeddedNode.open(path)
    try:
        _check_chain_id(str(path), node.chain_id, chain_id)
        if node.alloc != {Web3.to_checksum_address(address): wei for address, wei in funded.items()}:
            raise LedgerError(f"{path}: the chain began with another allocation")
        return _embedded(node, journal)
    except BaseException:
        node.close()
        raise


def open_chain(path: Path, *, readonly: bool = False, journal: Path | None = None) -> Chain:
    """Open an embedded chain that exists, for example as evidence.

    Raises
    ------
    LedgerError
        If there is none, or it has a writer and ``readonly`` is not set.
    """
    return _embedded(EmbeddedNode.open(path, readonly=readonly), None if readonly else journal)


def rpc_chain(
    url: str,
    chain_id: int | None = None,
    *,
    where: str | None = None,
    journal: Path | None = None,
    waiting: Waiting | None = None,
    patient: bool = False,
) -> Chain:
    """Connect to any node that speaks Ethereum's JSON-RPC.

    Parameters
    ----------
    url : str
        ``http://`` or ``https://`` address of the node.
    chain_id : int, optional
        The chain that is expected there.
    where : str, optional
        What messages call it, where the address holds a secret.
    journal : Path, optional
        Folder for the journals: what was sent once is then not sent again, see `Chain.send`.
    waiting : Waiting, optional
        Confirmations, time-outs and fees.
    patient : bool, default False
        Whether a node that was reached once and is away is asked again for a minute, as a party of a running task
        wants it: its operator may be restarting it. Sending twice is harmless, a transaction has one nonce.

    Raises
    ------
    LedgerError
        If the node cannot be reached or is on another chain.
    """
    if not url.startswith(("http://", "https://")):
        raise LedgerError(f"{where or url}: not the URL of a node (allowed: http://..., https://...)")
    provider = HTTPProvider(url, {"timeout": REQUEST_TIMEOUT})
    chain = Chain(Web3(provider), where or url, journal=journal, waiting=waiting)
    if chain_id is not None:
        _check_chain_id(chain.where, chain.chain_id, chain_id)
    if patient:
        away = (requests.ConnectionError, requests.Timeout)
        # Pauses of 1/8, 1/4, ... 32 s: 64 s in all.
        provider.exception_retry_configuration = ExceptionRetryConfiguration(away, retries=10, backoff_factor=0.125)
    return chain


def _embedded(node: EmbeddedNode, journal: Path | None = None) -> Chain:
    w3, waiting = Web3(EmbeddedProvider(node)), Waiting(poll=0.001)  # it has a transaction in a block at once
    where, ahead = str(node.path), node.put_forward
    return Chain(w3, where, journal=journal, waiting=waiting, close=node.close, put_forward=ahead)


def _check_chain_id(where: str, found: int, expected: int) -> None:
    if found != expected:
        raise LedgerError(f"{where}: is the chain with the id {found}, not {expected}")
