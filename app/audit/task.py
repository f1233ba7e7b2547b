"""A task as its contract's transactions and events tell it, from publication to the last round."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from app.audit.abi import compiled, decode_call, decode_event, decode_terms
from app.audit.history import History, Transaction
from app.audit.report import AuditError, holds, same
from app.protocol.bitmap import indices
from app.protocol.cid import cid_to_text
from app.protocol.digest import BlobRef
from app.protocol.errors import ProtocolError
from app.protocol.receipt import Receipt, SignedReceipt
from app.protocol.seat import Seat
from app.protocol.signing import Domain

_OPENING = {"TaskPublished", "CustomersAdmitted", "MinersAdmitted", "TaskOpened"}
_OTHER = {
    "DepositMade",
    "DepositRefunded",
    "DepositSlashed",
    "RewardsClaimed",
    "RemainderReturned",
    "EIP712DomainChanged",
}
"""Events that move money and change neither rounds nor reputation."""


@dataclass(frozen=True, slots=True)
class Seal:
    """A round's set of updates, as sealed."""

    root: bytes
    manifest: BlobRef
    participants: tuple[int, ...]
    gas: int
    tx: bytes


@dataclass(frozen=True, slots=True)
class Finalisation:
    """A round's verdict: the signed struct by member, the signatures, and what the contract made of it."""

    verdict: dict[str, Any]
    outcome: dict[str, Any]
    manifest: bytes
    signatures: tuple[bytes, ...]
    sender: str
    gas: int
    tx: bytes

    @property
    def record(self) -> BlobRef:
        """The round's record."""
        verdict = self.verdict
        return BlobRef(verdict["record"], verdict["recordSize"], cid_to_text(verdict["recordCid"]))


@dataclass(slots=True)
class Round:
    """One round on chain."""

    number: int
    submissions: list[SignedReceipt] = field(default_factory=list)
    seal: Seal | None = None
    finalisation: Finalisation | None = None
    expired: bool = False

    @property
    def over(self) -> bool:
        """Whether the contract has gone on."""
        return self.finalisation is not None or self.expired


@dataclass(slots=True)
class ChainTask:
    """One task on chain.

    Attributes
    ----------
    domain : Domain
        Chain id and contract.
    manufacturer : str
        Who published it.
    terms : dict
        What it fixed.
    customers : list of str
        Checksum addresses by index.
    miners : list of Seat
        By index.
    opening : dict or None
        Members of the event that ended the admission.
    rounds : list of Round
        By number, from 1.
    claimed : dict of str to int
        Points that each customer has claimed.
    ended : str
        How the task ended; empty while it goes on.
    gas : dict of str to int
        Of the transactions that are no part of a round, by kind.
    transactions : int
        How many concern the task.
    """

    domain: Domain
    manufacturer: str
    terms: dict[str, Any]
    customers: list[str] = field(default_factory=list)
    miners: list[Seat] = field(default_factory=list)
    opening: dict[str, Any] | None = None
    rounds: list[Round] = field(default_factory=list)
    claimed: dict[str, int] = field(default_factory=dict)
    ended: str = ""
    gas: dict[str, int] = field(default_factory=lambda: {"deploy": 0, "admit": 0, "open": 0, "deposit": 0})
    transactions: int = 0

    def round(self, number: int) -> Round:
        """Return the round ``number``, begun if it is the next."""
        if number == len(self.rounds) + 1:
            self.rounds.append(Round(number))
        holds(1 <= number <= len(self.rounds), f"round {number} on chain", f"up to {len(self.rounds) + 1}", number)
        return self.rounds[number - 1]


def find_contract(history: History, policy: bytes | None = None) -> str:
    """Return the address of the one task contract that a chain has (of that policy digest, if given)."""
    found = [
        tx.created
        for tx in history.transactions
        if tx.created and tx.succeeded and tx.data.startswith(compiled().bytecode)
        if policy is None or decode_terms(tx.data)["policy"] == policy
    ]
    holds(len(found) == 1, f"{history.where}, task contracts", 1, len(found))
    return str(found[0])


def read_task(history: History, address: str) -> ChainTask:
    """Return the task at ``address``; raise `AuditError` if its code or its events are not a task's."""
    where = history.where
    holds(compiled().is_deployed_as(history.code(address)), f"{where}, code at {address}", "HearthTask's", "other code")
    creation = [tx for tx in history.transactions if tx.created == address]
    holds(len(creation) == 1, f"{where}, creation of {address}", "one transaction", len(creation))
    (tx,) = creation
    holds(
        tx.data.startswith(compiled().bytecode),
        f"{where}, block {tx.block}, creation of {address}",
        "the committed artifact's bytecode",
        "other bytecode",
    )
    task = ChainTask(Domain(history.chain_id, address), tx.sender, decode_terms(tx.data))
    for tx in history.transactions:
        logs = [log for log in tx.logs if log.address == address]
        task.transactions += bool(logs)
        for log in logs:
            name, event = decode_event(log.topics, log.data)
            _apply(task, tx, name, event, f"{where}, block {tx.block}, {name or 'event'}")
    same(f"{where}, manufacturer", task.manufacturer, history.view(address, "manufacturer"))
    return task


def _apply(task: ChainTask, tx: Transaction, name: str, event: dict[str, Any], place: str) -> None:
    if name in _OPENING:
        _admit(task, tx, name, event, place)
    elif name == "UpdateSubmitted":
        receipt = event["receipt"]
        signed = SignedReceipt(Receipt(**receipt), event["signature"])
        same(f"{place}, signer", receipt["customer"], signed.signer(task.domain))
        task.round(event["round"]).submissions.append(signed)
    elif name == "RoundSealed":
        manifest = BlobRef(event["manifest"], event["size"], cid_to_text(event["cid"]))
        seal = Seal(event["root"], manifest, indices(event["participants"]), tx.gas, tx.hash)
        task.round(event["round"]).seal = seal
        same(f"{place}, sender", task.manufacturer, tx.sender)
    elif name == "RoundFinalised":
        task.round(event["round"]).finalisation = _finalisation(task, tx, event, place)
    elif name == "RoundExpired":
        task.round(event["round"]).expired = True
    elif name == "RewardsClaimed":
        task.claimed[event["customer"]] = task.claimed.get(event["customer"], 0) + event["points"]
    elif name in ("TaskCompleted", "TaskCancelled", "TaskFailed"):
        same(f"{place}, the task had ended before", "", task.ended)
        task.ended = name.removeprefix("Task").lower()
    elif name in _OTHER:
        task.gas["deposit"] += tx.gas if name == "DepositMade" else 0
    else:
        raise AuditError(place, "an event that this audit knows", name or "another contract's event")


def _admit(task: ChainTask, tx: Transaction, name: str, event: dict[str, Any], place: str) -> None:
    if name == "TaskPublished":
        same(f"{place}, terms", task.terms, event["terms"])
        task.gas["deploy"] += tx.gas
    elif name == "TaskOpened":
        task.opening = event
        task.gas["open"] += tx.gas
        sizes = (len(task.customers), len(task.miners))
        same(f"{place}, customers and miners", sizes, (event["customers"], event["miners"]))
        same(f"{place}, quorum", 2 * len(task.miners) // 3 + 1, event["quorum"])
        same(f"{place}, escrow", task.terms["reward"], tx.value)
    else:
        task.gas["admit"] += tx.gas
        if name == "CustomersAdmitted":
            same(f"{place}, first index", len(task.customers), event["first"])
            task.customers += event["customers"]
        else:
            same(f"{place}, first index", len(task.miners), event["first"])
            task.miners += [Seat(item["account"], item["vrfKey"], item["stake"]) for item in event["miners"]]


def _finalisation(task: ChainTask, tx: Transaction, event: dict[str, Any], place: str) -> Finalisation:
    function, arguments = decode_call(tx.data)
    if function != "finalise" or tx.to != task.domain.contract:
        # A wallet contract could pass it on; then the signatures are not where the audit looks for them.
        raise ProtocolError(f"{place}: the verdict was not sent straight to the contract")
    same(f"{place}, verdict in the event", arguments["verdict"], event["verdict"])
    return Finalisation(
        verdict=event["verdict"],
        outcome=event["outcome"],
        manifest=arguments["manifest"],
        signatures=tuple(arguments["signatures"]),
        sender=tx.sender,
        gas=tx.gas,
        tx=tx.hash,
    )
