"""A task on a chain that others run: the same audit, on what a node tells.

A transaction proves itself by its signature. That it succeeded, what events it left and what state came of it are the
node's word: whoever doubts it asks a node of its own, which is what such a chain is for.
"""

from __future__ import annotations

import json
import urllib.request
from itertools import count
from pathlib import Path
from typing import Any

import rlp
from eth_keys.datatypes import Signature
from eth_keys.exceptions import BadSignature
from eth_keys.exceptions import ValidationError as KeyValidationError
from eth_utils import keccak, to_checksum_address

from app.audit.arguments import address_of
from app.audit.blobs import Blobs, BlockDirectory, BlockNode, Blocks
from app.audit.history import History, Log, Transaction
from app.audit.report import AuditError, Report, same
from app.audit.run import Audited, audit_task, check_head
from app.protocol.errors import ConfigError, LedgerError, ProtocolError

_TIMEOUT = 60  # seconds
_MOST_ANSWER = 2**28  # bytes
_PAGE = 10_000  # blocks a request for events; halved where a node refuses
_WORD = "that the transactions took effect, their events and the chain's state: the node's word"


class Node:
    """A node's JSON-RPC.

    Every method raises `LedgerError` where the node cannot be reached or refuses.
    """

    def __init__(self, url: str) -> None:
        if not url.startswith(("http://", "https://")):
            raise ConfigError("--chain", f"{url:.80} is not the URL of a node", "http://..., https://...")
        self.url, self._ids = url, count(1)

    def ask(self, method: str, *params: Any) -> Any:
        """Return what the node answers."""
        body = json.dumps({"jsonrpc": "2.0", "id": next(self._ids), "method": method, "params": params}).encode()
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(self.url, body, headers)  # noqa: S310 - the scheme was checked
        try:
            with urllib.request.urlopen(request, timeout=_TIMEOUT) as answer:  # noqa: S310
                value = json.loads(answer.read(_MOST_ANSWER))
        except (OSError, ValueError, RecursionError) as error:
            raise LedgerError(f"{self.url}: {method} was not answered: {error}") from error
        if not isinstance(value, dict) or "result" not in value:
            raise LedgerError(f"{self.url}: {method} was refused: {str(value)[:200]}")
        return value["result"]


def read_history(url: str, contract: str) -> History:
    """Return all that concerns one contract, by the word of the node at ``url``.

    Raises
    ------
    AuditError
        If a transaction is not the one that its hash and its signature name.
    LedgerError
        If the node cannot be reached, refuses, or gives an answer that is none.
    """
    node = Node(url)
    try:
        return _history(node, contract)
    except (LookupError, TypeError, ValueError) as error:
        raise LedgerError(f"{url}: an answer that is none ({type(error).__name__}: {error})") from error


def audit_node(url: str, contract: str, store: str, report: Report, head: bytes | None = None) -> Audited:
    """Audit the task at ``contract`` on the chain behind ``url``, its blobs being in ``store`` (URL or directory)."""
    address = address_of("--contract", contract)
    blocks = open_blocks(store)
    with report.section("node") as section:
        history = read_history(url, address)
        section.counts.update({"blocks": len(history.blocks), "transactions": len(history.transactions)})
    check_head(history, head, report)
    report.unproven.append(_WORD)
    return audit_task(history, address, Blobs(store, blocks), report)


def open_blocks(store: str) -> Blocks:
    """Return where blocks come from: an IPFS node's URL, or an embedded store's directory."""
    if store.startswith(("http://", "https://")):
        return BlockNode(store)
    folder = Path(store).expanduser().absolute()
    if not (folder / "blocks").is_dir():
        raise ConfigError("--store", f"{folder} is no store", "http://..., https://..., or a folder with blocks/")
    return BlockDirectory(folder)


def _history(node: Node, contract: str) -> History:
    chain_id, newest = int(node.ask("eth_chainId"), 16), int(node.ask("eth_blockNumber"), 16)
    logs = _logs(node, contract, newest)
    order = {(int(log["blockNumber"], 16), int(log["transactionIndex"], 16)): log["transactionHash"] for log in logs}
    transactions = tuple(_transaction(node, hash_, chain_id) for _, hash_ in sorted(order.items()))
    numbers = {newest, *(transaction.block for transaction in transactions)}
    blocks = {number: bytes.fromhex(_block(node, number)["hash"][2:]) for number in sorted(numbers)}
    at = hex(newest)

    def code(address: str) -> bytes:
        return bytes.fromhex(node.ask("eth_getCode", address, at)[2:])

    def call(address: str, data: bytes) -> bytes:
        return bytes.fromhex(node.ask("eth_call", {"to": address, "data": "0x" + data.hex()}, at)[2:])

    return History(node.url, chain_id, blocks, transactions, code, call)


def _block(node: Node, number: int) -> Any:
    block = node.ask("eth_getBlockByNumber", hex(number), False)
    if block is None:
        raise LedgerError(f"{node.url}: block {number} is gone; was the chain reorganised?")
    return block


def _logs(node: Node, contract: str, newest: int) -> list[Any]:
    """Return all events of the contract; pages are halved where a node finds them too long."""
    found: list[Any] = []
    first, page = 0, _PAGE
    while first <= newest:
        last = min(newest, first + page - 1)
        wanted = {"address": contract, "fromBlock": hex(first), "toBlock": hex(last)}
        try:
            found += node.ask("eth_getLogs", wanted)
        except LedgerError:
            if page == 1:
                raise
            page //= 2
            continue
        first = last + 1
    return found


def _transaction(node: Node, hash_: str, chain_id: int) -> Transaction:
    sent, receipt = node.ask("eth_getTransactionByHash", hash_), node.ask("eth_getTransactionReceipt", hash_)
    place = f"{node.url}, transaction {hash_}"
    same(f"{place}, hash", hash_, sent["hash"])
    data, sender = bytes.fromhex(sent["input"][2:]), to_checksum_address(sent["from"])
    if sent.get("type") == "0x2":  # what Hearth sends; others are the node's word
        same(f"{place}, signer of these words", sender, _signer(sent, chain_id, hash_, place))
    return Transaction(
        block=int(receipt["blockNumber"], 16),
        index=int(receipt["transactionIndex"], 16),
        hash=bytes.fromhex(hash_[2:]),
        sender=sender,
        to=to_checksum_address(sent["to"]) if sent["to"] else None,
        created=to_checksum_address(receipt["contractAddress"]) if receipt.get("contractAddress") else None,
        value=int(sent["value"], 16),
        data=data,
        succeeded=receipt["status"] == "0x1",
        gas=int(receipt["gasUsed"], 16),
        logs=tuple(_log(log) for log in receipt["logs"]),
    )


def _signer(sent: dict[str, Any], chain_id: int, hash_: str, place: str) -> str:
    """Return who signed an EIP-1559 transaction, after checking that its members give its hash (EIP-2718)."""
    names = ("nonce", "maxPriorityFeePerGas", "maxFeePerGas", "gas")
    accesses = [
        [_bytes(item["address"]), [_bytes(key) for key in item["storageKeys"]]] for item in sent.get("accessList") or []
    ]
    members = [
        *(_integer(value) for value in (chain_id, *(int(sent[name], 16) for name in names))),
        _bytes(sent["to"] or "0x"),
        _integer(int(sent["value"], 16)),
        _bytes(sent["input"]),
        accesses,
    ]
    parity, r, s = (int(sent[name], 16) for name in ("yParity" if "yParity" in sent else "v", "r", "s"))
    signed = keccak(b"\x02" + rlp.encode([*members, _integer(parity), _integer(r), _integer(s)]))
    same(f"{place}, hash of its members", hash_, "0x" + signed.hex())
    try:
        signature = Signature(vrs=(parity, r, s))
        key = signature.recover_public_key_from_msg_hash(keccak(b"\x02" + rlp.encode(members)))
    except (BadSignature, KeyValidationError) as error:
        raise AuditError(f"{place}, signature", "a signature", error) from error
    return str(key.to_checksum_address())


def _integer(number: int) -> bytes:
    return number.to_bytes((number.bit_length() + 7) // 8, "big")


def _bytes(text: str) -> bytes:
    return bytes.fromhex(text[2:])


def _log(log: dict[str, Any]) -> Log:
    topics = tuple(bytes.fromhex(topic[2:]) for topic in log["topics"])
    if any(len(topic) != 32 for topic in topics):
        raise ProtocolError("an event's topics have 32 bytes each")
    return Log(to_checksum_address(log["address"]), topics, bytes.fromhex(log["data"][2:]))
