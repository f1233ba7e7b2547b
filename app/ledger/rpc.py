"""JSON-RPC over an embedded chain: the part of Ethereum's execution API that a contract client needs.

Historic state costs nothing (tries are never pruned). There is no pool of waiting transactions: one that is accepted
is in a block when the call returns, so "pending", "safe" and "finalized" are all "latest".
"""

from __future__ import annotations

import sqlite3
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Any

import rlp
from eth.abc import BlockAPI, BlockHeaderAPI, ComputationAPI, SignedTransactionAPI
from eth.constants import GAS_TX
from eth.exceptions import HeaderNotFound, Revert, TransactionNotFound
from eth.vm.forks.prague.constants import STANDARD_TOKEN_COST, TOTAL_COST_FLOOR_PER_TOKEN
from eth.vm.forks.prague.transactions import PragueTransactionBuilder
from eth.vm.spoof import SpoofTransaction
from eth_typing import Address, Hash32
from eth_utils import ValidationError, to_canonical_address

from app.ledger.embedded import EmbeddedNode
from app.ledger.rpc_encoding import block_json, data, quantity, receipts_json, transaction_json
from app.protocol.errors import LedgerError

Json = dict[str, Any]
TIP = 10**9  # wei per gas that we suggest; any tip is taken
_EIP_1559 = 2
_REVERTED, _REFUSED, _NO_METHOD = 3, -32000, -32601
_CACHED_BLOCKS = 64


class RpcError(Exception):
    """An error that is answered, not raised: JSON-RPC code, message and data."""

    def __init__(self, code: int, message: str, details: str | None = None) -> None:
        super().__init__(message)
        self.code, self.message, self.details = code, message, details


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
            "eth_getLogs": self._logs,
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
            method = self._methods.get(request["method"])
            if method is None:
                raise RpcError(_NO_METHOD, f"the method {request['method']} does not exist")
            with self._node.lock:
                answer["result"] = method(*(request.get("params") or []))
        except RpcError as error:
            answer["error"] = {"code": error.code, "message": error.message}
            if error.details is not None:
                answer["error"]["data"] = error.details
        except sqlite3.Error as error:
            raise LedgerError(f"{self._node.path}: {error}") from error
        except (ValidationError, LookupError, TypeError, ValueError, rlp.exceptions.RLPException) as error:
            answer["error"] = {"code": _REFUSED, "message": f"{type(error).__name__}: {error}"}
        return answer

    # Blocks and state

    def _header(self, tag: str) -> BlockHeaderAPI:
        if tag in ("latest", "pending", "safe", "finalized"):
            return self._node.header()
        return self._node.header(0 if tag == "earliest" else int(tag, 16))

    def _state(self, tag: str) -> Any:
        return self._node.state_after(self._header(tag))

    def _base_fee(self, header: BlockHeaderAPI) -> int:
        return int(header.base_fee_per_gas or 0)

    def _storage(self, who: str, slot: str, tag: str = "latest") -> str:
        return data(self._state(tag).get_storage(_address(who), int(slot, 16)).to_bytes(32, "big"))

    def _fee_history(self, count: str | int, newest: str = "latest", percentiles: tuple[float, ...] = ()) -> Json:
        last = self._header(newest)
        number = int(count, 16) if isinstance(count, str) else count
        first = max(0, last.block_number - number + 1)
        headers = [self._node.header(n) for n in range(first, last.block_number + 1)]
        following = self._node.state_after(last).execution_context.base_fee_per_gas or 0
        return {
            "oldestBlock": quantity(first),
            "baseFeePerGas": [quantity(self._base_fee(header)) for header in headers] + [quantity(following)],
            "gasUsedRatio": [header.gas_used / header.gas_limit for header in headers],
            "reward": [[quantity(TIP)] * len(percentiles) for _ in headers],
        }

    def _block_by_number(self, tag: str, full: bool = False) -> Json | None:
        try:
            return block_json(self._node.evm.get_block_by_header(self._header(tag)), full)
        except LookupError:
            return None

    def _block_by_hash(self, block_hash: str, full: bool = False) -> Json | None:
        try:
            header = self._node.evm.get_block_header_by_hash(Hash32(bytes.fromhex(block_hash[2:])))
        except HeaderNotFound:
            return None
        return block_json(self._node.evm.get_block_by_header(header), full)

    # Transactions

    def _send_raw(self, raw: str) -> str:
        transaction = PragueTransactionBuilder.decode(bytes.fromhex(raw[2:]))
        self._check(transaction)
        self._node.seal(transaction)
        return data(transaction.hash)

    def _check(self, transaction: SignedTransactionAPI) -> None:
        """Refuse what no block may hold, with the messages that clients know from other nodes."""
        if getattr(transaction, "type_id", None) != _EIP_1559:
            raise RpcError(_REFUSED, "transaction type not supported (allowed: EIP-1559)")
        if transaction.chain_id != self._node.chain_id:
            raise RpcError(_REFUSED, f"invalid chain id: {transaction.chain_id} (allowed: {self._node.chain_id})")
        transaction.validate()
        transaction.check_signature_validity()
        if self._place(transaction.hash) is not None:
            raise RpcError(_REFUSED, "already known")
        head = self._node.header()
        state = self._node.state_after(head)
        base_fee = state.execution_context.base_fee_per_gas or 0
        nonce = state.get_nonce(transaction.sender)
        if transaction.nonce != nonce:
            word = "low" if transaction.nonce < nonce else "high"
            raise RpcError(_REFUSED, f"nonce too {word}: next nonce {nonce}, tx nonce {transaction.nonce}")
        if transaction.gas > head.gas_limit:
            raise RpcError(_REFUSED, f"exceeds block gas limit of {head.gas_limit}")
        if transaction.gas < _least_gas(transaction):
            raise RpcError(_REFUSED, f"intrinsic gas too low: {transaction.gas} of {_least_gas(transaction)}")
        if transaction.max_fee_per_gas < base_fee:
            raise RpcError(_REFUSED, "max fee per gas less than block base fee")
        if state.get_balance(transaction.sender) < transaction.value + transaction.gas * transaction.max_fee_per_gas:
            raise RpcError(_REFUSED, "insufficient funds for gas * price + value")

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

    def _execute(self, call: Json, tag: str, gas: int) -> ComputationAPI:
        """Execute a call on a state that is thrown away; the sender pays nothing, whatever its balance."""
        state, sender = self._state(tag), _address(call.get("from") or "0x" + "00" * 20)
        fee = state.execution_context.base_fee_per_gas
        state.set_balance(sender, state.get_balance(sender) + gas * fee)
        unsigned = PragueTransactionBuilder.new_unsigned_dynamic_fee_transaction(
            chain_id=self._node.chain_id,
            nonce=state.get_nonce(sender),
            max_priority_fee_per_gas=0,
            max_fee_per_gas=fee,
            gas=gas,
            to=_address(call["to"]) if call.get("to") else Address(b""),
            value=int(call.get("value") or "0x0", 16),
            data=bytes.fromhex((call.get("data") or call.get("input") or "0x")[2:]),
            access_list=(),
        )
        transaction = SpoofTransaction(unsigned, from_=sender)
        if gas < _least_gas(transaction):
            raise ValidationError(f"intrinsic gas too low: {gas} of {_least_gas(transaction)}")
        computation: ComputationAPI = state.apply_transaction(transaction)
        return computation

    def _succeed(self, computation: ComputationAPI) -> ComputationAPI:
        if computation.is_error and isinstance(computation.error, Revert):
            raise RpcError(_REVERTED, "execution reverted", data(computation.output))
        if computation.is_error:
            raise RpcError(_REFUSED, f"{type(computation.error).__name__}: {computation.error}")
        return computation

    def _gas_of(self, call: Json, tag: str) -> int:
        return int(call["gas"], 16) if call.get("gas") else int(self._header(tag).gas_limit)

    def _call(self, call: Json, tag: str = "latest", *_: Any) -> str:
        return data(self._succeed(self._execute(call, tag, self._gas_of(call, tag))).output)

    def _estimate_gas(self, call: Json, tag: str = "latest", *_: Any) -> str:
        """Return the least gas, to half a per cent, with which the call succeeds: what it uses, or by bisection."""
        enough = self._gas_of(call, tag)
        computation = self._succeed(self._execute(call, tag, enough))
        used = enough - computation.get_gas_remaining()
        too_little = used - computation.get_gas_refund() - 1
        # A 64th is kept from inner calls, so what was used may not be enough.
        for guess in (used, used * 65 // 64 + 2300):
            if guess < enough and self._suffices(call, tag, guess):
                enough = guess
                break
        while enough - too_little > max(1, enough // 200):
            middle = (enough + too_little) // 2
            if self._suffices(call, tag, middle):
                enough = middle
            else:
                too_little = middle
        return quantity(enough)

    def _suffices(self, call: Json, tag: str, gas: int) -> bool:
        try:
            return not self._execute(call, tag, gas).is_error
        except ValidationError:  # not even the intrinsic gas
            return False

    # Logs

    def _logs(self, query: Json) -> list[Json]:
        addresses = query.get("address")
        addresses = [addresses] if isinstance(addresses, str) else addresses
        wanted = None if addresses is None else {address.lower() for address in addresses}
        topics = [[topic] if isinstance(topic, str) else topic for topic in query.get("topics") or []]
        return [
            log
            for header in self._range(query)
            if header.bloom
            for receipt in self._receipts_of(header)
            for log in receipt["logs"]
            if (wanted is None or log["address"].lower() in wanted) and _matches(log["topics"], topics)
        ]

    def _range(self, query: Json) -> Iterator[BlockHeaderAPI]:
        if query.get("blockHash"):
            try:
                yield self._node.evm.get_block_header_by_hash(Hash32(bytes.fromhex(query["blockHash"][2:])))
            except HeaderNotFound as error:
                raise RpcError(_REFUSED, "unknown block") from error
            return
        newest = self._node.header().block_number
        first, last = (self._number(query.get(key) or "latest", newest) for key in ("fromBlock", "toBlock"))
        for number in range(first, min(last, newest) + 1):
            yield self._node.header(number)

    def _number(self, tag: str, newest: int) -> int:
        return int(tag, 16) if tag.startswith("0x") else 0 if tag == "earliest" else newest


def _address(text: str) -> Address:
    return to_canonical_address(text)


def _least_gas(transaction: Any) -> int:
    """Return the gas below which no block may hold a transaction.

    py-evm 0.12 charges EIP-7623's price of calldata but does not ask for a gas limit that covers it, as the EIP does.
    """
    zeros = int(transaction.data.count(0))
    tokens: int = zeros + STANDARD_TOKEN_COST * (len(transaction.data) - zeros)
    return max(int(transaction.intrinsic_gas), int(GAS_TX + TOTAL_COST_FLOOR_PER_TOKEN * tokens))


def _matches(topics: list[str], wanted: list[list[str] | None]) -> bool:
    """Return whether a log's topics fit: by position, each any of a list; None fits all."""
    return len(wanted) <= len(topics) and all(
        choice is None or topic in choice for topic, choice in zip(topics, wanted, strict=False)
    )
