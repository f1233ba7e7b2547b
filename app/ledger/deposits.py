"""The deposits of a task's members, and how one is lost."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import astuple

from eth_account.signers.local import LocalAccount
from web3 import Web3

from app.ledger.chain import Sent
from app.ledger.task_contract import TaskContract
from app.ledger.task_records import FinaliseCall, TaskTerms
from app.protocol.receipt import SignedReceipt


class Role(enum.IntEnum):
    """As what a member deposits; the numbers are the contract's."""

    CUSTOMER = 0
    MINER = 1


class Deposits:
    """The deposits of one task; see ``contracts/Deposits.sol``."""

    def __init__(self, contract: TaskContract) -> None:
        self._contract = contract
        self._wei: int | None = None

    def has(self, role: Role, member: str) -> bool:
        """Return whether a member's deposit is there."""
        return bool(self._contract.call("hasDeposit", role, Web3.to_checksum_address(member)))

    def missing(self, role: Role, members: Iterable[str]) -> frozenset[str]:
        """Return who of ``members`` cannot take part for want of a deposit; nobody in a task that asks for none."""
        if self._wei is None:
            self._wei = TaskTerms(*self._contract.call("terms")).deposit  # fixed for good
        return frozenset(member for member in members if self._wei and not self.has(role, member))

    def make(self, account: LocalAccount, role: Role, wei: int) -> Sent:
        """Deposit the ``wei`` that the terms ask for."""
        intent = f"deposit of {role.name.lower()} {account.address}"
        return self._contract.send(account, "deposit", intent, "deposit", role, value=wei)

    def refund(self, account: LocalAccount, role: Role) -> Sent:
        """Take a deposit back: during the admission, or some time after the task has ended."""
        return self._contract.send(
            account, "refund", f"refund of {role.name.lower()} {account.address}", "refund", role
        )

    def slash_customer(self, account: LocalAccount, one: SignedReceipt, two: SignedReceipt) -> Sent:
        """Prove that a customer signed two receipts for one round; half its deposit goes to ``account``."""
        arguments = (astuple(one.receipt), one.signature, astuple(two.receipt), two.signature)
        return self._contract.send(account, "slash", f"slash {one.customer}", "slashCustomer", *arguments)

    def slash_miner(self, account: LocalAccount, one: FinaliseCall, two: FinaliseCall, customers: int) -> Sent:
        """Prove that a miner signed two verdicts on one sealed round; half its deposit goes to ``account``.

        Parameters
        ----------
        account : LocalAccount
            Who brings the proof.
        one, two : FinaliseCall
            The verdicts, each with that miner's signature first.
        customers : int
            How many customers the task has.
        """
        proof = (one.verdict(customers), one.signatures[0], two.verdict(customers), two.signatures[0])
        return self._contract.send(account, "slash", f"slash a miner for round {one.round}", "slashMiner", *proof)
