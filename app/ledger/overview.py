"""Everything that a task's contract says about it at one time, as one value."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from app.ledger.deposits import Role
from app.ledger.task_ledger import TaskLedger
from app.ledger.task_records import Phase, TaskState, TaskTerms
from app.protocol.digest import hex32
from app.protocol.seat import Seat


@dataclass(frozen=True, slots=True)
class Member:
    """A customer or a miner.

    Attributes
    ----------
    address : str
        Checksum address.
    deposit : bool
        Whether its deposit is there; False in a task that asks for none.
    reputation : int or None
        gamma, of a customer.
    owed : int or None
        Wei that a customer can claim now.
    stake : int or None
        Of a miner: what weighs in elections that are weighted by stake.
    """

    address: str
    deposit: bool
    reputation: int | None = None
    owed: int | None = None
    stake: int | None = None


@dataclass(frozen=True, slots=True)
class PastRound:
    """A round that is over: finalised by ``leader``, or expired in the phase ``expired``.

    Attributes
    ----------
    participants, honest : tuple of int
        Customer indices.
    credited : int
        Points that its customers earned.
    model : str or None
        SHA-256 of the model after it (0x...).
    block : int
        In which it ended.
    """

    round: int
    block: int
    leader: str | None = None
    rank: int | None = None
    participants: tuple[int, ...] = ()
    honest: tuple[int, ...] = ()
    credited: int = 0
    model: str | None = None
    expired: str | None = None


@dataclass(frozen=True, slots=True)
class TaskOverview:
    """One task. Times are the chain's, in seconds since 1970; amounts are wei."""

    where: str
    chain_id: int
    contract: str
    manufacturer: str
    state: TaskState
    terms: TaskTerms
    balance: int
    now: int
    customers: tuple[Member, ...]
    miners: tuple[Member, ...]
    history: tuple[PastRound, ...]

    @property
    def owed(self) -> int:
        """Wei that customers have earned and not claimed."""
        return sum(customer.owed or 0 for customer in self.customers)

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON holds it: digests as 0x..., phases by name, wei as whole numbers."""
        plain = asdict(self)
        plain["state"]["phase"] = self.state.phase.name.lower()
        for part in (plain["state"], plain["terms"]):
            part |= {name: hex32(value) for name, value in part.items() if isinstance(value, bytes)}
        return {**plain, "owed": self.owed}


def overview(task: TaskLedger, rounds: int) -> TaskOverview:
    """Read a task.

    Parameters
    ----------
    task : TaskLedger
        The task.
    rounds : int
        How many of the rounds that are over to tell, the newest.

    Raises
    ------
    LedgerError
        If the chain cannot be read, or goes on in a way that mixes two states.
    """
    state, terms, chain = task.state(), task.terms(), task.chain
    with chain.guard("eth_getBlockByNumber"):
        now = int(chain.w3.eth.get_block(state.block)["timestamp"])
    first = max(1, state.over - rounds + 1)
    return TaskOverview(
        where=chain.where,
        chain_id=chain.chain_id,
        contract=task.address,
        manufacturer=task.manufacturer(),
        state=state,
        terms=terms,
        balance=chain.balance(task.address),
        now=now,
        customers=_customers(task, state, terms),
        miners=tuple(_miner(task, seat, terms) for seat in task.miners()),
        history=tuple(_past(task, number) for number in range(first, state.over + 1)),
    )


def _customers(task: TaskLedger, state: TaskState, terms: TaskTerms) -> tuple[Member, ...]:
    return tuple(
        Member(who, _has(task, Role.CUSTOMER, who, terms), gamma, task.rewards.owed(who) if state.price else 0)
        for who, gamma in zip(task.customers(), task.reputation(), strict=True)
    )


def _miner(task: TaskLedger, seat: Seat, terms: TaskTerms) -> Member:
    return Member(seat.miner, _has(task, Role.MINER, seat.miner, terms), stake=seat.stake)


def _has(task: TaskLedger, role: Role, who: str, terms: TaskTerms) -> bool:
    return terms.deposit > 0 and task.deposits.has(role, who)


def _past(task: TaskLedger, number: int) -> PastRound:
    done = task.finalised(number)
    if done is not None:
        return PastRound(
            number, done.block, done.leader, done.rank, done.participants, done.honest, done.credited, hex32(done.model)
        )
    expired = task.expired(number)
    if expired is None:  # a round that is over is one of the two
        return PastRound(number, 0)
    during = "unsealed" if expired.during is Phase.COLLECTION else "sealed, without a verdict"
    return PastRound(number, expired.block, expired=during)
