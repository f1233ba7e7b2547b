"""What a task's parties do with its contract from the command line: each is tried, shown, agreed to, and then sent."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from web3 import Web3

from app.ledger.chain import Chain, Sent
from app.ledger.claim_file import SignedClaim
from app.ledger.deposits import Role
from app.ledger.keystore import key_path, keys_home, load
from app.ledger.password import password
from app.ledger.rewards import Claim
from app.ledger.task_ledger import TaskLedger
from app.ledger.tasks import find_tasks
from app.ledger.transaction import Pending
from app.places import contract_of, is_url, open_place, simulated_account
from app.protocol.errors import ConfigError, LedgerError
from app.reporting.task_text import ether
from app.run_directory import RunDirectory

if TYPE_CHECKING:
    from eth_account.signers.local import LocalAccount


def claim(options: argparse.Namespace) -> int:
    """Fetch what a customer earned, or sign or relay an order to do so."""
    if options.sign_only is not None:
        return _sign_claim(options)
    if options.to is not None:
        raise ConfigError("--to", "says where a signed claim is paid to", "--to with --sign-only")
    with _acting(options) as (task, account):
        if options.relay is not None:
            signed = SignedClaim.read(options.relay)
            signature = signed.check(task.domain)
            amount = task.rewards.owed(signed.claim.customer)
            print(f"{ether(amount)} that {signed.claim.customer} earned, to {signed.claim.recipient}")
            return _report(task.rewards.relay(account, signed.claim, signature))
        print(f"{ether(task.rewards.owed(account.address))} that {account.address} earned")
        return _report(task.rewards.claim(account))


def _sign_claim(options: argparse.Namespace) -> int:
    """Write a claim that anybody may relay; it costs nothing and sends nothing."""
    account = _account(options)
    recipient = account.address if options.to is None else options.to
    if not Web3.is_address(recipient):
        raise ConfigError("--to", f"'{recipient}' is not an address", "0x and 40 hexadecimal digits")
    with connected(options) as chain:
        task = task_at(chain, options.place, options.contract)
        owed, nonce = task.rewards.owed(account.address), task.rewards.nonce(account.address)
        with chain.guard("eth_getBlockByNumber"):
            newest = int(chain.w3.eth.get_block("latest")["timestamp"])  # an embedded chain's clock may be ahead
        deadline = max(int(time.time()), newest) + options.hours * 3600
        claim = Claim(account.address, Web3.to_checksum_address(recipient), nonce, deadline)
        SignedClaim.of(claim, task.domain, claim.sign(account, task.domain)).write(options.sign_only)
    print(
        f"{options.sign_only}: good once and for {options.hours} hours, for all that is owed then (now {ether(owed)})"
    )
    return 0


def cancel(options: argparse.Namespace) -> int:
    """End the task; by the manufacturer."""
    with _acting(options) as (task, account):
        print("the task ends; what customers earned stays theirs")
        return _report(task.cancel(account))


def expire(options: argparse.Namespace) -> int:
    """End a round whose deadline has passed."""
    with _acting(options) as (task, account):
        print(f"round {task.state().round} ends without a verdict")
        return _report(task.expire(account))


def reclaim(options: argparse.Namespace) -> int:
    """Return what nobody earned to the manufacturer."""
    with _acting(options) as (task, account):
        print(f"what nobody earned goes back to the manufacturer {task.manufacturer()}")
        return _report(task.rewards.reclaim(account))


def deposit(options: argparse.Namespace) -> int:
    """Make a member's deposit."""
    with _acting(options) as (task, account):
        wei = task.terms().deposit
        print(f"{ether(wei)} as a {options.role}")
        return _report(task.deposits.make(account, Role[options.role.upper()], wei))


def refund(options: argparse.Namespace) -> int:
    """Take a member's deposit back."""
    with _acting(options) as (task, account):
        print(f"the deposit of the {options.role} {account.address} goes back to it")
        return _report(task.deposits.refund(account, Role[options.role.upper()]))


def _report(sent: Sent) -> int:
    print(f"done in block {sent.block}: transaction 0x{sent.hash.hex()}, {sent.gas} gas")
    return 0


# Chain, task and account


@contextmanager
def connected(options: argparse.Namespace, *, readonly: bool = True, journal: Path | None = None) -> Iterator[Chain]:
    """Connect to the chain at ``options.place``, if it is the one that ``options.chain_id`` names."""
    chain = open_place(options.place, readonly=readonly, journal=journal)
    try:
        if options.chain_id not in (None, chain.chain_id):
            raise LedgerError(f"{chain.where}: is the chain with the id {chain.chain_id}, not {options.chain_id}")
        yield chain
    finally:
        chain.close()


@contextmanager
def _acting(options: argparse.Namespace) -> Iterator[tuple[TaskLedger, LocalAccount]]:
    """Connect with a journal, and let nothing leave before its cost was shown and agreed to."""
    account = _account(options)
    with connected(options, readonly=False, journal=_journal(options)) as chain:
        task = task_at(chain, options.place, options.contract)
        print(f"task {task.address} on chain {chain.chain_id} at {chain.where}")
        chain.approve = _asker(chain, options.yes)
        chain.recover(account)
        chain.once = False
        yield task, account


def _asker(chain: Chain, agreed: bool) -> Callable[[Pending], None]:

    def approve(pending: Pending) -> None:
        cost, has = pending.value + pending.gas * pending.fee, chain.balance(pending.sender)
        if has < cost:
            advice = "others can send what was signed with --sign-only" if "claim" in pending.intent else "send it some"
            raise LedgerError(
                f"{chain.where}: {pending.sender} has {ether(has)}, and this may cost {ether(cost)}; {advice}"
            )
        value = f"{ether(pending.value)} and " if pending.value else ""
        gas = f"at most {pending.gas} gas, {ether(pending.gas * pending.fee)}"
        print(f"{pending.intent}, from {pending.sender}: {value}{gas}", flush=True)
        if not agreed and not _agrees():
            raise LedgerError("not sent")

    return approve


def _agrees() -> bool:

    if not sys.stdin or not sys.stdin.isatty():
        raise ConfigError("--yes", "there is no terminal to agree at", "--yes, or a terminal")
    return input("send it? [y/N] ").strip().lower() in ("y", "yes")


def task_at(chain: Chain, place: str, contract: str | None) -> TaskLedger:
    """Return the task that is meant: by its contract, by what the run says, or the only one there is."""
    named = contract or contract_of(place)
    if named is not None:
        return TaskLedger.attach(chain, named)
    found = find_tasks(chain)
    if len(found) != 1:
        allowed = [task.address for task in found] or None
        problem = f"there are {len(found)} tasks on chain {chain.chain_id} at {chain.where}"
        raise ConfigError("--contract", problem, allowed)
    return TaskLedger(chain, found[0].address)


def _account(options: argparse.Namespace) -> LocalAccount:

    if (options.key is None) == (options.party is None):
        raise ConfigError("--key", "says whose key signs", "--key NAME or FILE, or for a simulated run --as ROLE")
    if options.party is not None:
        return simulated_account(options.place, options.party)
    path = Path(options.key).expanduser() if "/" in options.key else key_path(options.key)
    return load(path, password(options.password_file))


def _journal(options: argparse.Namespace) -> Path:

    folder = Path(options.place).expanduser().absolute()
    if options.party is not None and not is_url(options.place) and folder.is_dir():
        return RunDirectory(folder).journal_path
    return keys_home() / "journal"
