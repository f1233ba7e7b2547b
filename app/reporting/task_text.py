"""A task on chain, as a person wants to read it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from decimal import Decimal

from app.command_line import columns
from app.ledger.overview import Member, PastRound, TaskOverview
from app.ledger.task_records import Phase, TaskState


def describe(task: TaskOverview) -> str:
    """Return everything about a task, in a page of text."""
    lines = columns(list(_facts(task)), indent="")
    lines += ["", "customers", *_members(task, task.customers)]
    lines += ["", "miners", *_members(task, task.miners)]
    if task.history:
        lines += ["", "rounds", *columns([_past(past) for past in task.history])]
    return "\n".join(lines)


def phase(state: TaskState) -> str:
    """Return in a few words where a task stands."""
    round_of = f"round {state.round} of {state.rounds}"
    return {
        Phase.ADMISSION: "admits members",
        Phase.COLLECTION: f"{round_of}: collects updates",
        Phase.SEALED: f"{round_of}: sealed, waits for the miners' verdict",
        Phase.COMPLETED: f"completed, {state.finalised} of {state.rounds} rounds finalised",
        Phase.CANCELLED: f"cancelled by the manufacturer, {state.finalised} rounds finalised",
        Phase.FAILED: f"failed in round {state.round} of {state.rounds}",
    }[state.phase]


def ether(wei: int) -> str:
    """Return an amount in ether, exactly."""
    exact = f"{Decimal(wei).scaleb(-18):.18f}".rstrip("0").rstrip(".")
    return f"{exact} ether"


def when(seconds: int, now: int) -> str:
    """Return a time of the chain as date and distance from the chain's newest block."""
    date = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))
    return f"{date} ({_span(seconds - now)})"


def _facts(task: TaskOverview) -> Iterator[tuple[str, str]]:
    state, terms = task.state, task.terms
    yield "task", f"{task.contract} on chain {task.chain_id}"
    yield "chain", f"{task.where}, block {state.block} 0x{state.block_hash.hex()}"
    yield "phase", phase(state)
    for text in _deadlines(task):
        yield "deadline", text
    yield "skipped", f"{state.skipped} rounds expired (at most {terms.skips} may before the task fails)"
    yield "manufacturer", task.manufacturer
    yield (
        "members",
        f"{len(task.customers)} customers (f = {terms.f}), {len(task.miners)} miners, quorum {state.quorum}",
    )
    yield "policy", f"0x{state.policy.hex()}"
    yield "model", f"0x{state.model.hex()} after round {state.over}" if state.over else f"0x{state.model.hex()}"
    yield "escrow", f"{ether(terms.reward)}; the contract holds {ether(task.balance)}"
    if state.price:
        earned = f"{state.credited} points at {ether(state.price)} earned"
        yield "rewards", f"{earned}, {ether(task.owed)} of it not claimed yet"
    if terms.deposit:
        yield "deposit", f"{ether(terms.deposit)} a member"


def _deadlines(task: TaskOverview) -> Iterator[str]:
    state, terms, now = task.state, task.terms, task.now
    if state.phase is Phase.COLLECTION:
        window = state.since + terms.submission_window
        if terms.submission_window:
            yield f"a seal without all customers counts from {when(window, now)}"
        yield f"anyone may end the round unsealed from {when(state.since + terms.seal_window, now)}"
    elif state.phase is Phase.SEALED:
        if terms.leader_window:
            turn = (now - state.since) // terms.leader_window
            yield f"leaders up to rank {turn} may finalise, the next from {_next_turn(task, turn)}"
        yield f"anyone may end the round without a verdict from {when(state.since + terms.finalise_window, now)}"
    elif state.phase.ended and terms.deposit:
        yield f"deposits can be taken back from {when(state.since + terms.finalise_window, now)}"


def _next_turn(task: TaskOverview, turn: int) -> str:
    return when(task.state.since + (turn + 1) * task.terms.leader_window, task.now)


def _members(task: TaskOverview, members: tuple[Member, ...]) -> list[str]:
    if not members:
        return ["  none"]
    rows = []
    for index, member in enumerate(members):
        row = [str(index), member.address]
        if member.reputation is not None:
            row.append(f"reputation {member.reputation} of {task.terms.gamma_max}")
        if member.owed is not None and task.state.price:
            row.append(f"owed {ether(member.owed)}")
        if member.stake is not None:
            row.append(f"stake {member.stake}")
        if task.terms.deposit:
            row.append("deposit made" if member.deposit else "no deposit")
        rows.append(tuple(row))
    return columns(rows)


def _past(past: PastRound) -> tuple[str, ...]:
    if past.expired is not None or past.leader is None:
        return (str(past.round), f"expired {past.expired or ''}".strip(), "", "", f"block {past.block}")
    judged = f"{len(past.honest)} of {len(past.participants)} customers honest"
    return (
        str(past.round),
        f"leader {past.leader} (rank {past.rank})",
        judged,
        f"{past.credited} points",
        f"block {past.block}",
    )


def _span(seconds: int) -> str:
    """Return a distance in time in its two largest units."""
    if seconds == 0:
        return "now"
    units = (("d", 86_400), ("h", 3600), ("min", 60), ("s", 1))
    left = abs(seconds)
    parts: list[str] = []
    for name, size in units:
        if left >= size and len(parts) < 2:
            parts.append(f"{left // size} {name}")
            left %= size
        elif parts:
            break
    return f"in {' '.join(parts)}" if seconds > 0 else f"{' '.join(parts)} ago"
