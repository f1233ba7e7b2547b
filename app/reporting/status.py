"""Who of a task's members is up, who lags, and what their budgets still have: what an operator looks at first."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from app.command_line import columns
from app.ledger.task_ledger import TaskLedger
from app.ledger.task_records import Finalisation, Phase, TaskState
from app.members import Members
from app.mining.recovery import manifest_of
from app.protocol.errors import HearthError
from app.protocol.policy import Policy
from app.reporting.task_text import phase, when
from app.service.health import AWAY, UNWELL, health_of
from app.store.base import BlobStore

RECENT = 5
"""Rounds that are looked back on."""


@dataclass(frozen=True, slots=True)
class MinerStatus:
    """A miner: how its service is (None: not asked), and how many of the recent rounds it signed."""

    address: str
    service: str | None
    signed: int
    of: int

    @property
    def lags(self) -> bool:
        """Whether it missed any of the recent rounds."""
        return self.signed < self.of


@dataclass(frozen=True, slots=True)
class CustomerStatus:
    """A customer: in how many of the recent rounds it took part and got an H, and its privacy (None: unknown)."""

    address: str
    reputation: int
    present: int
    honest: int
    of: int
    spent: float | None
    budget: float | None


@dataclass(frozen=True, slots=True)
class Status:
    """Where a task and its members stand. Times are the chain's, in seconds since 1970."""

    contract: str
    chain: str
    phase: str
    round: int
    deadline: int | None
    now: int
    miners: tuple[MinerStatus, ...]
    customers: tuple[CustomerStatus, ...]
    quorum: int
    ended: bool

    @property
    def worries(self) -> tuple[str, ...]:
        """What somebody should look after."""
        if self.ended:
            return ()
        unwell = [miner for miner in self.miners if miner.service in (AWAY, UNWELL)]
        found = [f"miner {miner.address} is {miner.service}" for miner in unwell]
        found += [
            f"miner {miner.address} signed {miner.signed} of the last {miner.of} rounds"
            for miner in self.miners
            if miner.lags
        ]
        up = len(self.miners) - len(unwell)
        if up < self.quorum:
            found.append(f"{up} miners are up, and a verdict needs {self.quorum}: no round can be finalised")
        if self.deadline is not None and self.now > self.deadline:
            found.append("the deadline has passed: anyone may end the round (hearth task expire)")
        return tuple(found)

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON holds it."""
        return asdict(self) | {"worries": list(self.worries)}


def status_of(
    ledger: TaskLedger, members: Members | None, authority: str | None, policy: Policy | None, store: BlobStore | None
) -> Status:
    """Look at a task from outside.

    Parameters
    ----------
    ledger : TaskLedger
        The task.
    members : Members or None
        Where the miners' services are; None asks none of them.
    authority : str or None
        File of the certificate that vouches for them.
    policy, store : Policy and BlobStore, or None
        For what customers have spent of their budgets; None leaves it out.

    Raises
    ------
    LedgerError
        If the chain cannot be read.
    """
    state, terms = ledger.state(), ledger.terms()
    with ledger.chain.guard("eth_getBlockByNumber"):
        now = int(ledger.chain.w3.eth.get_block(state.block)["timestamp"])
    windows = {Phase.COLLECTION: terms.seal_window, Phase.SEALED: terms.finalise_window}
    rounds = [done for number in _recent(state) if (done := ledger.finalised(number)) is not None]
    return Status(
        contract=ledger.address,
        chain=ledger.chain.where,
        phase=phase(state),
        round=state.round,
        deadline=state.since + windows[state.phase] if state.phase in windows else None,
        now=now,
        miners=_miners(ledger, rounds, members, authority),
        customers=_customers(ledger, state, rounds, policy, store),
        quorum=state.quorum,
        ended=state.phase.ended,
    )


def _recent(state: TaskState) -> range:
    return range(max(1, state.over - RECENT + 1), state.over + 1)


def _miners(
    ledger: TaskLedger, rounds: list[Finalisation], members: Members | None, authority: str | None
) -> tuple[MinerStatus, ...]:
    services = {card.member: card.service for card in members.miners} if members else {}
    return tuple(
        MinerStatus(
            seat.miner,
            health_of(services[seat.miner], authority, key="--authority") if seat.miner in services else None,
            sum(index in done.signers for done in rounds),
            len(rounds),
        )
        for index, seat in enumerate(ledger.miners())
    )


def _customers(
    ledger: TaskLedger, state: TaskState, rounds: list[Finalisation], policy: Policy | None, store: BlobStore | None
) -> tuple[CustomerStatus, ...]:
    spent, budget = _spent(ledger, state, policy, store)
    return tuple(
        CustomerStatus(
            who,
            gamma,
            sum(index in done.participants for done in rounds),
            sum(index in done.honest for done in rounds),
            len(rounds),
            spent.get(who),
            budget,
        )
        for index, (who, gamma) in enumerate(zip(ledger.customers(), ledger.reputation(), strict=True))
    )


def _spent(
    ledger: TaskLedger, state: TaskState, policy: Policy | None, store: BlobStore | None
) -> tuple[dict[str, float], float | None]:
    """Return what each customer's last receipt says it has spent, and the budget that the task's policy gives."""
    if policy is None or store is None:
        return {}, None
    spent: dict[str, float] = {}
    for number in _recent(state):
        seal = ledger.sealed(number)
        if seal is None:
            continue
        try:
            receipts = manifest_of(store, seal).receipts
        except HearthError:
            continue  # one round's receipts are not to be had: the others tell
        spent |= {signed.customer: signed.receipt.epsilonMicros / 1e6 for signed in receipts}
    budget = policy.config.get("privacy", {}).get("budget")
    return spent, float(budget) if isinstance(budget, int | float) else None


def describe(status: Status) -> str:
    """Return a status as a few lines of text, what is wrong last."""
    lines = [f"task {status.contract} on {status.chain}", status.phase]
    if status.deadline is not None:
        lines.append(f"deadline {when(status.deadline, status.now)}")
    lines += ["", "miners", *columns([_miner(index, miner) for index, miner in enumerate(status.miners)])]
    lines += ["", "customers", *columns([_customer(index, one) for index, one in enumerate(status.customers)])]
    worries = status.worries
    lines += ["", *(f"! {worry}" for worry in worries)] if worries else ["", "nothing is wrong"]
    return "\n".join(lines)


def _miner(index: int, miner: MinerStatus) -> tuple[str, ...]:
    return (
        str(index),
        miner.address,
        miner.service or "not asked",
        f"signed {miner.signed} of the last {miner.of} rounds",
    )


def _customer(index: int, one: CustomerStatus) -> tuple[str, ...]:
    spent = "" if one.spent is None else f"epsilon {one.spent:g}"
    if spent and one.budget is not None:
        spent += f" of {one.budget:g}"
    took_part = f"took part in {one.present} of the last {one.of} rounds, H in {one.honest}"
    return str(index), one.address, f"reputation {one.reputation}", took_part, spent
