"""Ether for the parties of a run: what each must have before anything is sent, and who gives it in a simulation.

On the embedded chain the genesis gives it to them. A development node (anvil, hardhat) manages accounts that have
plenty; any other node's operator has to send some to the manufacturer, who then pays for the others in advance. Keys
from key stores are real people's: nobody lends them anything, they are only told what is missing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from eth_account.signers.local import LocalAccount
from web3 import Web3

from app.ledger.chain import Chain
from app.protocol.errors import LedgerError

GAS_OF_A_ROUND = 2_000_000
"""Above what sealing or finalising a round takes with a thousand customers."""
GAS_OF_A_TASK = 10_000_000
"""Above what publishing a task with a hundred customers takes."""
GAS_OF_A_DEPOSIT = 200_000
"""Above what a deposit takes."""


def needs(
    chain: Chain,
    manufacturer: str,
    miners: Sequence[str],
    customers: Sequence[str],
    *,
    rounds: int,
    reward: int = 0,
    deposit: int = 0,
) -> dict[str, int]:
    """Return the wei that each party of a task must have, by address; none for customers that deposit nothing.

    Parameters
    ----------
    chain : Chain
        Asked for the price of gas, which is taken with room for a base fee that doubles.
    manufacturer : str
        Publishes the task, seals its rounds and escrows the reward.
    miners : sequence of str
        Each may have to finalise every round.
    customers : sequence of str
        Their receipts cost them nothing.
    rounds : int
        Rounds of the task.
    reward, deposit : int
        Wei, as in the task's terms.
    """
    with chain.guard("eth_getBlockByNumber"):
        base = chain.w3.eth.get_block("latest").get("baseFeePerGas", 0)
        price = 3 * int(base) + int(chain.w3.eth.max_priority_fee)
    found = {manufacturer: (GAS_OF_A_TASK + rounds * GAS_OF_A_ROUND) * price + reward}
    stake = deposit + GAS_OF_A_DEPOSIT * price if deposit else 0
    shares = [*((who, rounds * GAS_OF_A_ROUND * price + stake) for who in miners), *((who, stake) for who in customers)]
    for who, wei in shares:  # one address may have several parts
        if wei:
            found[who] = found.get(who, 0) + wei
    return found


def require(chain: Chain, needed: Mapping[str, int], names: Mapping[str, str]) -> None:
    """Raise `LedgerError` naming everybody who has less than is ``needed``, by ``names``; nothing is sent."""
    short = [
        f"{names.get(who, 'account')} {who} has {_ether(has)} of {_ether(wei)} ether"
        for who, wei in needed.items()
        if (has := chain.balance(who)) < wei
    ]
    if short:
        raise LedgerError(f"{chain.where}: on chain {chain.chain_id} {'; '.join(short)}")


def fund(chain: Chain, manufacturer: LocalAccount, needed: Mapping[str, int]) -> None:
    """Have the manufacturer of a simulation give the others what they lack; it borrows from the node itself.

    Raises
    ------
    LedgerError
        If the manufacturer has too little and the node has no account that could give it.
    """
    others = {who: wei for who, wei in needed.items() if who != manufacturer.address and chain.balance(who) < wei}
    total = needed[manufacturer.address] + sum(others.values())
    if chain.balance(manufacturer.address) < total:
        _borrow(chain, manufacturer.address, total)
    for who, wei in others.items():
        chain.transfer(manufacturer, who, wei)


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
    raise LedgerError(
        f"{chain.where}: the manufacturer {address} has {_ether(chain.balance(address))} ether on chain "
        f"{chain.chain_id} (needed: {_ether(wei)}; send it there, or use a development node)"
    )


def _ether(wei: int) -> str:
    return str(Web3.from_wei(wei, "ether"))
