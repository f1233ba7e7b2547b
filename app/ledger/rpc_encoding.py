"""Blocks, transactions and receipts of the embedded chain in the JSON form of Ethereum's execution API."""

from __future__ import annotations

from typing import Any

import rlp
from eth.abc import BlockAPI, BlockHeaderAPI, ReceiptAPI, SignedTransactionAPI
from eth_utils import keccak, to_checksum_address

SUCCESS = b"\x01"  # what a receipt carries in the place of a state root since Byzantium


def data(value: bytes) -> str:
    """Unformatted data: two hexadecimal digits a byte."""
    return "0x" + bytes(value).hex()


def quantity(value: int) -> str:
    """Encode a quantity: hexadecimal without leading zeros."""
    return hex(value)


def block_json(block: BlockAPI, full: bool) -> dict[str, Any]:
    """Return a block with its transactions, or with their hashes alone."""
    header = block.header
    return {
        "number": quantity(header.block_number),
        "hash": data(header.hash),
        "parentHash": data(header.parent_hash),
        "nonce": data(header.nonce),
        "sha3Uncles": data(header.uncles_hash),
        "logsBloom": data(header.bloom.to_bytes(256, "big")),
        "transactionsRoot": data(header.transaction_root),
        "stateRoot": data(header.state_root),
        "receiptsRoot": data(header.receipt_root),
        "miner": to_checksum_address(header.coinbase),
        "difficulty": quantity(header.difficulty),
        "totalDifficulty": quantity(0),
        "extraData": data(header.extra_data),
        "size": quantity(len(rlp.encode(block))),
        "gasLimit": quantity(header.gas_limit),
        "gasUsed": quantity(header.gas_used),
        "timestamp": quantity(header.timestamp),
        "mixHash": data(header.mix_hash),
        "baseFeePerGas": quantity(header.base_fee_per_gas or 0),
        "uncles": [],
        "transactions": [
            transaction_json(transaction, header, index) if full else data(transaction.hash)
            for index, transaction in enumerate(block.transactions)
        ],
    }


def transaction_json(transaction: SignedTransactionAPI, header: BlockHeaderAPI, index: int) -> dict[str, Any]:
    """Return a mined EIP-1559 transaction."""
    return {
        "hash": data(transaction.hash),
        "type": "0x2",
        "nonce": quantity(transaction.nonce),
        "from": to_checksum_address(transaction.sender),
        "to": _recipient(transaction),
        "value": quantity(transaction.value),
        "gas": quantity(transaction.gas),
        "input": data(transaction.data),
        "chainId": quantity(transaction.chain_id or 0),
        "maxFeePerGas": quantity(transaction.max_fee_per_gas),
        "maxPriorityFeePerGas": quantity(transaction.max_priority_fee_per_gas),
        "gasPrice": quantity(_paid_per_gas(transaction, header)),
        "accessList": [],
        "v": quantity(transaction.y_parity),
        "yParity": quantity(transaction.y_parity),
        "r": quantity(transaction.r),
        "s": quantity(transaction.s),
        "blockHash": data(header.hash),
        "blockNumber": quantity(header.block_number),
        "transactionIndex": quantity(index),
    }


def receipts_json(block: BlockAPI, receipts: tuple[ReceiptAPI, ...]) -> list[dict[str, Any]]:
    """Return the receipts of a block, in order."""
    out: list[dict[str, Any]] = []
    gas_before = logs_before = 0
    for index, (transaction, receipt) in enumerate(zip(block.transactions, receipts, strict=True)):
        place = {
            "blockHash": data(block.header.hash),
            "blockNumber": quantity(block.header.block_number),
            "transactionHash": data(transaction.hash),
            "transactionIndex": quantity(index),
        }
        logs = [
            {
                **place,
                "address": to_checksum_address(log.address),
                "topics": [data(topic.to_bytes(32, "big")) for topic in log.topics],
                "data": data(log.data),
                "logIndex": quantity(logs_before + position),
                "removed": False,
            }
            for position, log in enumerate(receipt.logs)
        ]
        out.append(
            {
                **place,
                "type": "0x2",
                "status": "0x1" if receipt.state_root == SUCCESS else "0x0",
                "from": to_checksum_address(transaction.sender),
                "to": _recipient(transaction),
                "contractAddress": None if transaction.to else _created(transaction),
                "cumulativeGasUsed": quantity(receipt.gas_used),
                "gasUsed": quantity(receipt.gas_used - gas_before),
                "effectiveGasPrice": quantity(_paid_per_gas(transaction, block.header)),
                "logs": logs,
                "logsBloom": data(receipt.bloom.to_bytes(256, "big")),
            }
        )
        gas_before, logs_before = receipt.gas_used, logs_before + len(logs)
    return out


def _recipient(transaction: SignedTransactionAPI) -> str | None:
    return to_checksum_address(transaction.to) if transaction.to else None


def _created(transaction: SignedTransactionAPI) -> str:
    return to_checksum_address(keccak(rlp.encode([transaction.sender, transaction.nonce]))[12:])


def _paid_per_gas(transaction: SignedTransactionAPI, header: BlockHeaderAPI) -> int:
    return min(transaction.max_fee_per_gas, (header.base_fee_per_gas or 0) + transaction.max_priority_fee_per_gas)
