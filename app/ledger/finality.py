"""What is settled on a chain: which blocks stand, and who used up a nonce."""

from __future__ import annotations

from eth_typing import ChecksumAddress
from web3 import Web3
from web3.exceptions import BlockNotFound

from app.ledger.journal import Outcome

_REORGANISED = 64  # blocks: Ethereum finalises after two epochs of 32


def stands(w3: Web3, outcome: Outcome) -> bool:
    """Return whether a transaction's block is still part of the chain."""
    try:
        return bytes(w3.eth.get_block(outcome.block)["hash"]) == outcome.block_hash
    except BlockNotFound:
        return False


def is_deep(w3: Web3, block: int, confirmations: int) -> bool:
    """Return whether a block has that many blocks upon it."""
    return not confirmations or int(w3.eth.block_number) - block >= confirmations


def user_of_nonce(w3: Web3, sender: ChecksumAddress, nonce: int, since: int, confirmations: int) -> bytes | None:
    """Return the hash of the transaction that used up a sender's nonce; None if there is none, or none to be seen.

    A node may count a transaction before it shows the block that holds it. So the count tells only where to look: what
    is returned was seen in a block, with this sender and this nonce.

    Parameters
    ----------
    w3 : web3.Web3
        The connection.
    sender : str
        Whose nonce.
    nonce : int
        Which one.
    since : int
        A block in which it was free: the search does not go back much further.
    confirmations : int
        Blocks that must be upon the one that counts.
    """

    def is_used(block: int) -> bool:
        return int(w3.eth.get_transaction_count(sender, block)) > nonce

    newest = int(w3.eth.block_number) - confirmations
    if newest < 0 or not is_used(newest):
        return None
    oldest = min(max(0, since - _REORGANISED), newest)
    low, step = newest, 1
    while low > oldest and is_used(low):  # nodes keep recent states only: look there first
        newest, low, step = low, max(oldest, low - step), 2 * step
    while newest - low > 1:
        middle = (low + newest) // 2
        low, newest = (low, middle) if is_used(middle) else (middle, newest)
    for found in w3.eth.get_block(newest, full_transactions=True)["transactions"]:
        if not isinstance(found, bytes) and (found["from"], found["nonce"]) == (sender, nonce):
            return bytes(found["hash"])
    return None
