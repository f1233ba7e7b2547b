"""Ether for the parties of a simulation that runs against a node.

On the embedded chain the genesis gives it to them. A development node (anvil, hardhat) manages accounts that have
plenty; any other node's operator has to send some to the manufacturer, who then pays the miners' gas in advance.
"""

from __future__ import annotations

from collections.abc import Sequence

from eth_account.signers.local import LocalAccount
from web3 import Web3

from app.ledger.chain import Chain
from app.protocol.errors import LedgerError

GAS_OF_A_ROUND = 2_000_000
"""Above what sealing or finalising a round takes with a thousand customers."""
GAS_OF_A_TASK = 10_000_000
"""Above what publishing a task with a hundred customers takes."""


def fund(
    chain: Chain, manufacturer: LocalAccount, miners: Sequence[LocalAccount], rounds: int, reward: int = 0
) -> None:
    """See to it that the manufacturer and the miners can pay their gas.

    Parameters
    ----------
    chain : Chain
        A connection to a node.
    manufacturer : LocalAccount
        Pays for the task and for the miners.
    miners : sequence of LocalAccount
        Each may have to finalise every round.
    rounds : int
        Rounds of the task.
    reward : int
        Wei that the manufacturer escrows.

    Raises
    ------
    LedgerError
        If the manufacturer has too little and the node has no account that could give it.
    """
    with chain.guard("eth_getBlockByNumber"):
        price = 3 * int(chain.w3.eth.get_block("latest").get("baseFeePerGas", 0)) + int(chain.w3.eth.max_priority_fee)
    each = rounds * GAS_OF_A_ROUND * price
    short = [miner for miner in miners if chain.balance(miner.address) < each]
    needed = (GAS_OF_A_TASK + rounds * GAS_OF_A_ROUND) * price + len(short) * each + reward
    if chain.balance(manufacturer.address) < needed:
        _borrow(chain, manufacturer.address, needed)
    for miner in short:
        chain.transfer(manufacturer, miner.address, each)


def _borrow(chain: Chain, address: str, wei: int) -> None:
    """Have the node send what is needed from an account that it manages."""
    with chain.guard("fund the manufacturer"):
        for lender in chain.w3.eth.accounts:
            if chain.w3.eth.get_balance(lender) > 2 * wei:
                value = Web3.to_wei(wei, "wei")
                sent = chain.w3.eth.send_transaction(
                    {"from": lender, "to": Web3.to_checksum_address(address), "value": value}
                )
                chain.w3.eth.wait_for_transaction_receipt(sent)
                return
    has = Web3.from_wei(chain.balance(address), "ether")
    raise LedgerError(
        f"{chain.where}: the manufacturer {address} has {has} ether on chain {chain.chain_id} "
        f"(needed: {Web3.from_wei(wei, 'ether')}; send it there, or use a development node)"
    )
