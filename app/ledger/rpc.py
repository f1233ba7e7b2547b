"""JSON-RPC over an embedded chain: the part of Ethereum's execution API that a contract client needs.

Historic state costs nothing (tries are never pruned). There is no pool of waiting transactions: one that is accepted
is in a block when the call returns, so "pending", "safe" and "finalized" are all "latest".
"""

from __future__ import annotations

import sqlite3
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import rlp
from eth.abc import BlockAPI, BlockHeaderAPI, SignedTransactionAPI
from eth.exceptions import HeaderNotFound, TransactionNotFound
from eth.vm.forks.prague.transactions import PragueTransactionBuilder
from eth_typing import Address, Hash32
from eth_utils import ValidationError, to_canonical_address

from app.ledger.embedded import EmbeddedNode
from app.ledger.json_rpc import INVALID_PARAMS, NO_METHOD, REFUSED, TOO_MUCH, Json, RpcError
from app.ledger.rpc_call import call, estimate_gas, least_gas
from app.ledger.rpc_encoding import block_json, data, quantity, receipts_json, transaction_json
from app.protocol.errors import LedgerError

TIP = 10**9  # wei per gas that we suggest; any tip is taken
_EIP_1559 = 2
_NEWEST = ("latest", "pending", "safe", "finalized")
_CACHED_BLOCKS = 64
_MOST_LOGS = 10_000
"""Of one answer."""
_MOST_HISTORY = 1024
"""Blocks of one fee history."""


class EmbeddedRpc:
    """Answers JSON-RPC requests from an `EmbeddedNode`; safe to call from any thread."""

    def __init__(self, node: EmbeddedNode) -> None:
        self._node = node
        self._receipts: OrderedDict[bytes, list[Json]] = OrderedDict()
        chain_id = node.chain_id
        self._methods: dict[str, Callable[..., Any]] = {
            "web3_clientVersion": lambda: "hearth-embedded/1",
            "net_version": lambda: str(chain_id),
            "eth_chainId": lambda: quantity(chain_id),
            "eth_syncing": lambda: False,
            "eth_accounts": list,
            "eth_blockNumber": lambda: quantity(node.head()[0]),
            "eth_maxPriorityFeePerGas": lambda: quantity(TIP),
            "eth_gasPrice": lambda: quantity(self._base_fee(node.header()) + TIP),
            "eth_feeHistory": self._fee_history,
            "eth_getBalance": lambda who, tag="latest": quantity(self._state(tag).get_balance(_address(who))),
            "eth_getCode": lambda who, tag="latest": data(self._state(tag).get_code(_address(who))),
            "eth_getTransactionCount": lambda who, tag="latest": quantity(self._state(tag).get_nonce(_address(who))),
            "eth_getStorageAt": self._storage,
            "eth_call": self._call,
            "eth_estimateGas": self._estimate_gas,
            "eth_sendRawTransaction": self._send_raw,
            "eth_getBlockByNumber": self._block_by_number,
            "eth_getBlockByHash": self._block_by_hash,
            "eth_getTransactionByHash": self._transaction,
            "eth_getTransactionReceipt": self._receipt,
            "eth_getBlockReceipts": self._block_receipts,
            "eth_getLogs": self._logs,
            "net_listening": lambda: True,
        }

    def handle(self, request: Json) -> Json:
        """Answer one JSON-RPC 2.0 request.

        Raises
        ------
        LedgerError
            If the file cannot be read or written; every other error is in the answer.
        """
        answer: Json = {"jsonrpc": "2.0", "id": request.get("id")}
        try:
            answer["result"] = self._dispatch(request["method"], request.get("params") or [])
        except RpcError as error:
            answer["error"] = error.to_json()
        except sqlite3.Error as error:
            raise LedgerError(f"{self._node.path}: {error}") from error
        except (ValidationError, LookupError, rlp.exceptions.RLPException) as error:
            answer["error"] = RpcError(REFUSED, f"{type(error).__name__}: {error}").to_json()
        except (TypeError, ValueError, AttributeError, OverflowError) as error:
            problem = f"invalid parameters of {request['method']}: {error}"
            answer["error"] = RpcError(INVALID_PARAMS, problem).to_json()
        return answer

    def _dispatch(self, name: str, params: list[Any]) -> Any:
        method = self._methods.get(name)
        if method is None:
            raise RpcError(NO_METHOD, f"the method {name} does not exist")
        with self._node.lock:
            return method(*params)

    # Blocks and state

    def _header(self, tag: Any) -> BlockHeaderAPI:
        """Return the header of a block by its number, its tag, or as EIP-1898 has it."""
        if isinstance(tag, dict):
            if "blockHash" in tag:
                return self._header_of(tag["blockHash"])
            tag = tag["blockNumber"]
        if tag in _NEWEST or tag is None:
            return self._node.header()
        return self._node.header(0 if tag == "earliest" else int(tag, 16))

    def _header_of(self, block_hash: str) -> BlockHeaderAPI:
        try:
            return self._node.evm.get_block_header_by_hash(Hash32(bytes.fromhex(block_hash[2:])))
        except HeaderNotFound as error:
            raise RpcError(REFUSED, "unknown block") from error

    def _state(self, tag: Any) -> Any:
        return self._node.state_after(self._header(tag))

    def _base_fee(self, header: BlockHeaderAPI) -> int:
        return int(header.base_fee_per_gas or 0)

    def _storage(self, who: str, slot: str, tag: str = "latest") -> str:
        return data(self._state(tag).get_storage(_address(who), int(slot, 16)).to_bytes(32, "big"))

    def _fee_history(
        self, count: str | int, newest: str = "latest", percentiles: Sequence[float] | None = None
    ) -> Json:
        last = self._header(newest)
        number = min(int(count, 16) if isinstance(count, str) else count, _MOST_HISTORY)
        first = max(0, last.block_number - number + 1)
        headers = [self._node.header(n) for n in range(first, last.block_number + 1)]
        following = self._node.state_after(last).execution_context.base_fee_per_gas or 0
        return {
            "oldestBlock": quantity(first),
            "baseFeePerGas": [quantity(self._base_fee(header)) for header in headers] + [quantity(following)],
            "gasUsedRatio": [header.gas_used / header.gas_limit for header in headers],
            "reward": [[quantity(TIP)] * len(percentiles or ()) for _ in headers],
        }

    def _block_by_number(self, tag: str, full: bool = False) -> Json | None:
        try:
            return block_json(self._node.evm.get_block_by_header(self._header(tag)), full)
        except LookupError:
            return None

    def _block_by_hash(self, block_hash: str, full: bool = False) -> Json | None:
        try:
            return block_json(self._node.evm.get_block_by_header(self._header_of(block_hash)), full)
        except RpcError:
            return None

    def _block_receipts(self, tag: Any) -> list[Json] | None:
        try:
            return self._receipts_of(self._header(tag))
        except (LookupError, RpcError):
            return None

    # Transactions

    def _send_raw(self, raw: str) -> str:
        if self._node.readonly:
            raise RpcError(REFUSED, "the chain is open for reading only")
        transaction = PragueTransactionBuilder.decode(bytes.fromhex(raw[2:]))
        self._check(transaction)
        self._node.seal(transaction)
        return data(transaction.hash)

    def _check(self, transaction: SignedTransactionAPI) -> None:
        """Refuse what no block may hold, with the messages that clients know from other nodes."""
        if getattr(transaction, "type_id", None) != _EIP_1559:
            raise RpcError(REFUSED, "transaction type not supported (allowed: EIP-1559)")
        if transaction.chain_id != self._node.chain_id:
            raise RpcError(REFUSED, f"invalid chain id: {transaction.chain_id} (allowed: {self._node.chain_id})")
        transaction.validate()
        transaction.check_signature_validity()
        if self._place(transaction.hash) is not None:
            raise RpcError(REFUSED, "already known")
        head = self._node.header()
        state = self._node.state_after(head)
        base_fee = state.execution_context.base_fee_per_gas or 0
        nonce = state.get_nonce(transaction.sender)
        if transaction.nonce != nonce:
            word = "low" if transaction.nonce < nonce else "high"
            raise RpcError(REFUSED, f"nonce too {word}: next nonce {nonce}, tx nonce {transaction.nonce}")
        if transaction.gas > head.gas_limit:
            raise RpcError(REFUSED, f"exceeds block gas limit of {head.gas_limit}")
        if transaction.gas < least_gas(transaction):
            raise RpcError(REFUSED, f"intrinsic gas too low: {transaction.gas} of {least_gas(transaction)}")
        if transaction.max_fee_per_gas < base_fee:
            raise RpcError(REFUSED, "max fee per gas less than block base fee")
        if state.get_balance(transaction.sender) < transaction.value + transaction.gas * transaction.max_fee_per_gas:
            raise RpcError(REFUSED, "insufficient funds for gas * price + value")

    def _place(self, transaction_hash: Hash32) -> tuple[BlockAPI, int] | None:
        try:
            number, index = self._node.evm.get_canonical_transaction_index(transaction_hash)
        except TransactionNotFound:
            return None
        return self._node.evm.get_block_by_header(self._node.header(number)), index

    def _transaction(self, transaction_hash: str) -> Json | None:
        place = self._place(Hash32(bytes.fromhex(transaction_hash[2:])))
        if place is None:
            return None
        block, index = place
        return transaction_json(block.transactions[index], block.header, index)

    def _receipt(self, transaction_hash: str) -> Json | None:
        place = self._place(Hash32(bytes.fromhex(transaction_hash[2:])))
        return None if place is None else self._receipts_of(place[0].header)[place[1]]

    def _receipts_of(self, header: BlockHeaderAPI) -> list[Json]:
        key = bytes(header.hash)
        if key not in self._receipts:
            block = self._node.evm.get_block_by_header(header)
            self._receipts[key] = receipts_json(block, block.get_receipts(self._node.evm.chaindb))
            if len(self._receipts) > _CACHED_BLOCKS:
                self._receipts.popitem(last=False)
        return self._receipts[key]

    # Calls that leave no trace

    def _call(self, request: Json, tag: Any = "latest", *_: Any) -> str:
        return call(self._node, self._header(tag), _object(request))

    def _estimate_gas(self, request: Json, tag: Any = "latest", *_: Any) -> str:
        return estimate_gas(self._node, self._header(tag), _object(request))

    # Logs

    def _logs(self, query: Json) -> list[Json]:
        addresses = query.get("address")
        addresses = [addresses] if isinstance(addresses, str) else addresses
        wanted = None if addresses is None else {address.lower() for address in addresses}
        topics = [[topic] if isinstance(topic, str) else topic for topic in query.get("topics") or []]
        found = [
            log
            for header in self._range(query)
            if header.bloom
            for receipt in self._receipts_of(header)
            for log in receipt["logs"]
            if (wanted is None or log["address"].lower() in wanted) and _matches(log["topics"], topics)
        ]
        if len(found) > _MOST_LOGS:
            raise RpcError(TOO_MUCH, f"{len(found)} logs fit (allowed: {_MOST_LOGS}; ask for fewer blocks)")
        return found

    def _range(self, query: Json) -> Iterator[BlockHeaderAPI]:
        if query.get("blockHash"):
            yield self._header_of(query["blockHash"])
            return
        newest = self._node.header().block_number
        first, last = (self._number(query.get(key) or "latest", newest) for key in ("fromBlock", "toBlock"))
        for number in range(first, min(last, newest) + 1):
            yield self._node.header(number)

    def _number(self, tag: str, newest: int) -> int:
        return int(tag, 16) if tag.startswith("0x") else 0 if tag == "earliest" else newest


def _address(text: str) -> Address:
    return to_canonical_address(text)


def _object(value: Any) -> Json:
    if not isinstance(value, dict):
        raise ValueError("a call must be an object")
    return value


def _matches(topics: list[str], wanted: list[list[str] | None]) -> bool:
    """Return whether a log's topics fit: by position, each any of a list; None fits all."""
    return len(wanted) <= len(topics) and all(
        choice is None or topic in choice for topic, choice in zip(topics, wanted, strict=False)
    )
