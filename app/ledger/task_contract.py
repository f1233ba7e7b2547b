"""The contract of a task behind one seam: calls, transactions and events, with the contract's errors by name."""

from __future__ import annotations

from collections import Counter
from typing import Any

from eth_account.signers.local import LocalAccount
from web3 import Web3
from web3.contract.contract import ContractFunction

from app.ledger.chain import Chain, Sent
from app.ledger.contract import Artifact, artifact


def compiled() -> Artifact:
    """Return the contract as it comes with the package."""
    return artifact("HearthTask")


class TaskContract:
    """One deployed task.

    Attributes
    ----------
    chain : Chain
        Where it is.
    address : str
        Its checksum address.
    gas_spent : collections.Counter
        Gas that transactions sent through this object used, by kind.
    """

    def __init__(self, chain: Chain, address: str) -> None:
        self.chain, self.address = chain, Web3.to_checksum_address(address)
        self.gas_spent: Counter[str] = Counter()
        self._abi = compiled().abi
        self._contract = chain.w3.eth.contract(address=self.address, abi=self._abi)

    def call(self, name: str, *arguments: Any, block: int | None = None) -> Any:
        """Return what a view says, now or after a block."""
        with self.chain.guard(name, self._abi):
            return self._function(name, *arguments).call(block_identifier="latest" if block is None else block)

    def send(self, account: LocalAccount, kind: str, intent: str, name: str, *arguments: Any, value: int = 0) -> Sent:
        """Send a transaction; ``kind`` is what its gas is noted under, ``value`` the wei that go with it."""
        with self.chain.guard(intent, self._abi):  # arguments that do not fit the types are refused here
            function = self._function(name, *arguments)
        sent = self.chain.send(account, function, intent, value=value)
        self.gas_spent[kind] += sent.gas
        return sent

    def events(self, name: str, first: int, last: int, **filters: Any) -> list[Any]:
        """Return the events of one kind in the blocks ``first`` to ``last``, in order."""
        with self.chain.guard(f"{name} in blocks {first} to {last}"):
            event = self._contract.events[name]()
            return list(event.get_logs(argument_filters=filters, from_block=first, to_block=last))

    def gas_of(self, event: Any) -> int:
        """Return the gas of the transaction that an event comes from."""
        with self.chain.guard("eth_getTransactionReceipt"):
            return int(self.chain.w3.eth.get_transaction_receipt(event["transactionHash"])["gasUsed"])

    def _function(self, name: str, *arguments: Any) -> ContractFunction:
        function: ContractFunction = self._contract.get_function_by_name(name)(*arguments)
        return function
