"""A node over HTTP on loopback with a pool of waiting transactions, which misbehaves as it is told.

Time is what the client makes it: each time it asks for a receipt, the next step of `script` happens.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from eth.vm.forks.prague.transactions import PragueTransactionBuilder
from json_server import HangUpError, answering
from task_world import ETHER, MANUFACTURER, STRANGER, account
from web3 import HTTPProvider, Web3

from app.ledger.chain import Chain
from app.ledger.embedded import EmbeddedNode
from app.ledger.rpc import EmbeddedRpc
from app.ledger.transaction import Waiting

START = 1_700_000_000
FILLER = account("filler")
FUNDED = {MANUFACTURER.address: 100 * ETHER, STRANGER.address: 100 * ETHER, FILLER.address: 100 * ETHER}
# A contract that counts its calls in slot 0: PUSH0 SLOAD PUSH1 1 ADD PUSH0 SSTORE STOP, behind code that returns it.
COUNTER = "0x6008600a5f3960085ff3" + "5f546001015f5500"
Fault = Callable[["FaultyNode", str], Any]


class RefusedError(Exception):
    """The client gets an error."""


def drop(node: FaultyNode, raw: str) -> str:
    """Accept a transaction and forget it."""
    return "0x" + decode(raw).hash.hex()


def hang_up_after(node: FaultyNode, raw: str) -> Any:
    """Accept a transaction and close the connection instead of answering."""
    node.accept(raw)
    raise HangUpError


def hang_up_before(node: FaultyNode, raw: str) -> Any:
    raise HangUpError


def stall_after(node: FaultyNode, raw: str) -> Any:
    """Accept a transaction and let the client run into its time-out."""
    node.accept(raw)
    node.ended.wait(30)
    raise HangUpError


def deliver_twice(node: FaultyNode, raw: str) -> Any:
    """Accept a transaction and answer for its second delivery."""
    node.accept(raw)
    return node.accept(raw)


def refuse(words: str) -> Fault:
    def fault(node: FaultyNode, raw: str) -> Any:
        raise RefusedError(words)

    return fault


def accept_then_refuse(words: str) -> Fault:
    """Accept a transaction and claim the contrary."""

    def fault(node: FaultyNode, raw: str) -> Any:
        node.accept(raw)
        raise RefusedError(words)

    return fault


def decode(raw: str) -> Any:
    return PragueTransactionBuilder.decode(bytes.fromhex(raw[2:]))


class FaultyNode:
    """One node; `faults` apply to the next broadcasts, one each."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._forks = folder, 0
        self.node = self._create(START)
        self.rpc = EmbeddedRpc(self.node)
        self.pool: dict[str, str] = {}
        self.faults: list[Fault | None] = []
        self.script: list[Callable[[], object]] = []
        self.then: Callable[[], object] = self.mine
        self.received: list[str] = []
        self.ended = threading.Event()
        self._lock = threading.RLock()

    def handle(self, request: dict[str, Any]) -> dict[str, Any]:
        method, params = request["method"], request["params"]
        answer = {"jsonrpc": "2.0", "id": request["id"]}
        if method == "eth_sendRawTransaction":
            with self._lock:
                self.received.append(params[0])
                fault = self.faults.pop(0) if self.faults else None
            try:
                return {**answer, "result": (fault or FaultyNode.accept)(self, params[0])}
            except RefusedError as error:
                return {**answer, "error": {"code": -32000, "message": str(error)}}
        with self._lock:
            if method == "eth_getTransactionReceipt":
                (self.script.pop(0) if self.script else self.then)()
            if method == "eth_getTransactionByHash" and params[0] in self.pool:
                return {**answer, "result": {"hash": params[0], "blockHash": None}}
            if method == "eth_getTransactionCount" and params[1] == "pending":
                return {**answer, "result": hex(self._pending_count(params[0]))}
            return self.rpc.handle(request)

    def accept(self, raw: str) -> str:
        """Do what a sound node does with a broadcast."""
        with self._lock:
            new = decode(raw)
            name = "0x" + new.hash.hex()
            if name in self.pool or self.ask("eth_getTransactionReceipt", name) is not None:
                raise RefusedError("already known")
            if new.nonce < self._count(new.sender.hex()):
                raise RefusedError("nonce too low")
            for old_name, old in [(key, decode(value)) for key, value in self.pool.items()]:
                if (old.sender, old.nonce) == (new.sender, new.nonce):
                    if 10 * new.max_fee_per_gas < 11 * old.max_fee_per_gas:
                        raise RefusedError("replacement transaction underpriced")
                    del self.pool[old_name]
            self.pool[name] = raw
            return name

    def mine(self) -> None:
        """Seal a block for every transaction of the pool whose turn it is, or else one that is nobody's business."""
        with self._lock:
            ready = True
            sealed = 0
            while ready:
                ready = [
                    n for n, raw in self.pool.items() if decode(raw).nonce == self._count(decode(raw).sender.hex())
                ]
                for name in ready:
                    self.node.seal(decode(self.pool.pop(name)))
                    sealed += 1
            if not sealed:
                self.fill()

    def _ready(self) -> list[str]:
        waiting = {name: decode(raw) for name, raw in self.pool.items()}
        return [name for name, one in waiting.items() if one.nonce == self._count(one.sender.hex())]

    def fill(self) -> None:
        """Seal a block with a transaction that is nobody's business."""
        with self._lock:
            self.node.seal(decode(self.sign(FILLER)))

    def wait(self) -> None:
        """Let time pass in which nothing happens."""

    def reorganise(self, depth: int, lose: bool = True) -> None:
        """Replace the newest blocks by as many others and one more; their transactions are lost, or wait again."""
        with self._lock:
            old, head = self.node, self.node.head()[0]
            self.node = self._create(START)
            for number in range(1, head + 1):
                block = old.evm.get_block_by_header(old.header(number))
                if number == head - depth + 1:
                    self.node._clock = lambda: START + 1000 * self._forks
                for transaction in block.transactions:
                    raw = "0x" + transaction.encode().hex()
                    if number <= head - depth:
                        self.node.seal(transaction)
                    elif transaction.sender.hex() != FILLER.address[2:].lower() and not lose:
                        self.pool["0x" + transaction.hash.hex()] = raw
            self.rpc = EmbeddedRpc(self.node)
            for _ in range(depth + 1):
                self.fill()
            old.close()

    def sign(self, who: Any, nonce: int | None = None, to: str | None = None, tip: int = 10**9) -> str:
        """Return a transaction of another program that uses a key."""
        fields = {
            "type": 2,
            "chainId": self.node.chain_id,
            "nonce": self._count(who.address[2:]) if nonce is None else nonce,
            "to": to or who.address,
            "value": 1,
            "gas": 21_000,
            "maxFeePerGas": 10**10 + tip,
            "maxPriorityFeePerGas": tip,
        }
        return "0x" + bytes(who.sign_transaction(fields).raw_transaction).hex()

    def ask(self, method: str, *params: Any) -> Any:
        return self.rpc.handle({"id": 1, "method": method, "params": list(params)})["result"]

    def counted(self, contract: str) -> int:
        """Return how often a `COUNTER` was called."""
        return int(self.ask("eth_getStorageAt", contract, "0x0"), 16)

    def transactions(self, who: str) -> list[str]:
        """Return the hashes of all that ``who`` has in blocks, oldest first."""
        with self._lock:
            blocks = [self.node.evm.get_block_by_header(self.node.header(n)) for n in range(self.node.head()[0] + 1)]
            return [
                "0x" + transaction.hash.hex()
                for block in blocks
                for transaction in block.transactions
                if transaction.sender.hex() == who[2:].lower()
            ]

    def _count(self, address: str) -> int:
        return int(self.ask("eth_getTransactionCount", "0x" + address.removeprefix("0x"), "latest"), 16)

    def _pending_count(self, address: str) -> int:
        waiting = {decode(raw).nonce for raw in self.pool.values() if decode(raw).sender.hex() == address[2:].lower()}
        nonce = self._count(address[2:])
        while nonce in waiting:
            nonce += 1
        return nonce

    def _create(self, time: int) -> EmbeddedNode:
        self._forks += 1
        path = self._folder / f"fork-{self._forks}.sqlite"
        return EmbeddedNode.create(path, alloc=FUNDED, genesis_time=time, clock=lambda: time)


@contextmanager
def served(node: FaultyNode) -> Iterator[str]:
    with answering(lambda body: json.dumps(node.handle(json.loads(body))).encode()) as url:
        try:
            yield url
        finally:
            node.ended.set()
    node.node.close()


def connect(url: str, journal: Path | None, **waiting: Any) -> Chain:
    """A client in a hurry."""
    hurry = {"timeout": 20, "resend_after": 0.02, "bump_after": 60, "poll": 0.002, **waiting}
    provider = HTTPProvider(url, {"timeout": 3}, exception_retry_configuration=None)
    return Chain(Web3(provider), url, journal=journal, waiting=Waiting(**hurry))
