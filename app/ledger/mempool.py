"""How a node answers a signed transaction."""

from __future__ import annotations

import json
from enum import Enum, auto
from typing import Any

from eth_account.typed_transactions.typed_transaction import TypedTransaction
from hexbytes import HexBytes
from web3 import Web3
from web3.exceptions import TransactionNotFound, Web3Exception, Web3RPCError

from app.ledger.faults import words_of

TRANSIENT = (Web3Exception, OSError, json.JSONDecodeError)
"""What a request to a node can raise and a later one may not; requests' errors are children of OSError."""

# Every client has its own words, and codes say less: these are what geth, besu, nethermind, erigon, reth, anvil and
# hardhat send, in lower case. What is in none of the lists is taken as "perhaps", which is always safe.
_HAS_IT = ("already known", "already imported", "known transaction", "alreadyknown", "already in", "already exists")
_TOO_CHEAP = ("underpriced", "base fee", "basefee", "fee too low", "feetoolow", "gas price too low", "gas price below")
_HOPELESS = (
    "insufficient funds",
    "insufficientfunds",
    "insufficient balance",
    "exceeds account balance",
    "intrinsic gas",
    "exceeds block gas limit",
    "gas limit too high",
    "exceeds the block gas limit",
    "chain id",
    "chainid",
    "type not supported",
    "unsupported transaction type",
    "oversized data",
    "initcode size",
    "invalid sender",
    "priority fee per gas higher than max",
    "reading only",
    "method not found",
    "does not exist/is not available",
)


class Answer(Enum):
    """What a node made of a transaction."""

    TAKEN = auto()
    TOO_CHEAP = auto()
    REFUSED = auto()
    """By the node's word it was not accepted, and will not be as things are."""
    PERHAPS = auto()
    """No answer, or one that does not tell whether the node has it."""


def broadcast(w3: Web3, raw: bytes, hash: bytes) -> tuple[Answer, Exception | None]:
    """Give a node a signed transaction.

    A refusal is believed only after the node was asked for the transaction by its hash: requests are repeated by the
    connection and by proxies, and then the second answer, which we see, is about the first delivery.

    Returns
    -------
    Answer and Exception or None
        What it made of it, and what it said where it did not just take it.
    """
    try:
        w3.eth.send_raw_transaction(raw)
    except Web3RPCError as error:
        answer = _classify(words_of(error).lower())
        if answer in (Answer.TOO_CHEAP, Answer.REFUSED):
            try:
                answer = Answer.TAKEN if is_known(w3, hash) else answer
            except TRANSIENT:
                answer = Answer.PERHAPS
        return answer, None if answer is Answer.TAKEN else error
    except TRANSIENT as error:
        return Answer.PERHAPS, error
    return Answer.TAKEN, None


def is_known(w3: Web3, hash: bytes) -> bool:
    """Return whether a node has a transaction, waiting or in a block."""
    try:
        w3.eth.get_transaction(HexBytes(hash))
    except TransactionNotFound:
        return False
    return True


def trouble(error: Exception) -> str:
    """Return in a few words what went wrong with a request."""
    if isinstance(error, Web3Exception):
        return words_of(error)
    return f"the node does not answer ({type(error).__name__})"


def fields_of(raw: bytes) -> dict[str, Any]:
    """Return what a signed EIP-1559 transaction says, without its signature."""
    fields = dict(TypedTransaction.from_bytes(HexBytes(raw)).as_dict())
    to = bytes(fields.pop("to"))
    unsigned = {key: value for key, value in fields.items() if key not in ("v", "r", "s")}
    return {**unsigned, "to": Web3.to_checksum_address(to)} if to else unsigned


def _classify(words: str) -> Answer:
    if any(phrase in words for phrase in _HAS_IT):
        return Answer.TAKEN
    if "replacement" in words:  # the pool holds another transaction with this nonce: ours, or another program's
        return Answer.PERHAPS
    if any(phrase in words for phrase in _HOPELESS):
        return Answer.REFUSED
    return Answer.TOO_CHEAP if any(phrase in words for phrase in _TOO_CHEAP) else Answer.PERHAPS
