"""Whatever customers send, the task goes on, and only who sent it pays for it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from app import client_app, server_app
from app.cli import main as audit_command
from app.config import compose
from app.customer.simulation import simulated_customer
from app.local_grid import LocalGrid
from app.protocol.errors import RoundError
from app.protocol.keys import simulation_account
from app.protocol.policy import Policy
from app.protocol.receipt import UNBOUNDED
from app.reporting.progress import SilentProgress
from app.run_directory import RunDirectory
from app.task import Task, prepare
from strategies.wire import Assignment, Reply
from tests.customer.hostile_customers import SPOILS, hostile
from tests.played import address, play

HONEST = 9
ROUNDS = 2


def app_of(spoils: dict[int, str]) -> ClientApp:
    """Return a ClientApp in which some customers are hostile, by index."""
    app = ClientApp()

    @app.train()
    def train(message: Message, context: Context) -> Message:
        task = Assignment.from_records(message.content)
        customer: Any = simulated_customer(Policy.from_bytes(task.policy), task.customer, Path(task.home))
        if task.customer in spoils:
            customer = hostile(customer, spoils[task.customer])
        contribution = customer.participate(task.announcement, task.policy, task.frozen, task.model)
        return Message(Reply(contribution.update, contribution.receipt).to_records(), reply_to=message)

    return app


class LossyGrid(LocalGrid):
    """Loses the reply of the first node, and delivers that of the second three times, last first."""

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        replies = list(super().send_and_receive(messages, timeout=timeout))
        return [*reversed(replies[1:]), replies[1], replies[1]] if replies else []


def run(
    tmp_path: Path,
    customers: int,
    spoils: dict[int, str],
    grid_class: type[LocalGrid] = LocalGrid,
    attack: tuple[str, ...] = ("attack=none",),
) -> dict[str, Any]:
    prepared = prepare(compose(["data=digits", f"customers={customers}", f"rounds={ROUNDS}", *attack]))
    grid = grid_class(app_of(spoils), customers, workers=2)
    return play(prepared, grid, tmp_path)


def test_every_kind_of_hostile_reply_costs_its_customer_the_round_and_nobody_else(tmp_path: Path) -> None:
    spoils = {HONEST + i: name for i, name in enumerate(SPOILS)}
    result = run(tmp_path, HONEST + len(spoils), spoils)
    honest, bad = {address(i) for i in range(HONEST)}, {address(i) for i in spoils}

    assert result["rounds"] == ROUNDS
    assert all(result["aggregated"][customer] == 0 for customer in bad)
    assert all(max(result["reputation_by_round"][customer]) <= 5 for customer in bad)  # never an H
    left_out = sum(ROUNDS - result["aggregated"][customer] for customer in honest)
    assert left_out <= ROUNDS  # Multi-Krum leaves f = 1 of the valid updates out, whether or not it is bad
    assert all(result["reputation"][customer] == 5 + ROUNDS for customer in honest)
    for number in map(str, range(1, ROUNDS + 1)):
        assert set(result["rejected"][number]) | set(result["absent"][number]) == bad


def test_a_reply_that_is_lost_and_one_that_comes_thrice(tmp_path: Path) -> None:
    result = run(tmp_path / "lossy", 8, {}, LossyGrid)

    assert all(set(absent) == {address(0)} for absent in result["absent"].values())
    assert len(result["absent"]) == ROUNDS
    assert result["reputation"][address(0)] == 5
    assert all(result["reputation"][address(i)] == 5 + ROUNDS for i in range(1, 8))


def test_too_few_valid_updates_leave_the_model_as_it_is_and_blame_nobody_who_is_honest(tmp_path: Path) -> None:
    spoils = dict.fromkeys(range(4, 8), "raises")  # four are left, 2f + 3 = 5 are needed
    result = run(tmp_path, 8, spoils)

    assert result["accuracy_by_round"] == [result["accuracy_by_round"][0]] * (ROUNDS + 1)
    assert all(result["aggregated"][address(i)] == 0 for i in range(8))
    assert all(result["reputation"][address(i)] == 5 + ROUNDS for i in range(4))
    assert all(result["reputation"][address(i)] == 5 for i in range(4, 8))


def test_a_receipt_cannot_rewrite_what_the_task_promises(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One customer signs that it spent everything: it is named, and the statement stays the task's."""

    def boastful(of: Any, told: Any, _: Policy, honest: Any) -> Any:
        return of.signed(told, honest, honest.update, epsilonMicros=UNBOUNDED)

    monkeypatch.setitem(SPOILS, "boastful", boastful)
    privacy = run(tmp_path, 6, {5: "boastful"})["privacy"]

    assert (privacy["epsilon"], privacy["delta"], privacy["releases"]) == (8.0, 1e-5, 1)
    assert privacy["contradicting"] == [address(5)]


def test_what_goes_wrong_on_a_phone_stays_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The text of an error may quote a record: neither the evidence nor the result may hold it."""
    honest = client_app.simulated_customer

    def failing(policy: Policy, index: int, *arguments: Any, **options: Any) -> Any:
        if index == 0:
            raise ValueError("secret record 17: [0.3, 0.4]")
        return honest(policy, index, *arguments, **options)

    monkeypatch.setattr(client_app, "simulated_customer", failing)
    prepared = prepare(compose(["data=digits", "attack=none", "customers=6", "rounds=1"]))
    grid = LocalGrid(client_app.app, 6)
    result = server_app.run(grid, prepared, RunDirectory.create(prepared.config, tmp_path), SilentProgress())
    grid.close()

    assert result["absent"] == {"1": {address(0): "the client failed: ValueError"}}
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and b"secret record" in path.read_bytes()]


def _censoring(monkeypatch: pytest.MonkeyPatch) -> type[LocalGrid]:
    """Return a grid that loses the first customer's replies, which another party then brings to the chain."""
    tasks: list[Task] = []
    published = server_app.publish

    def remembered(*arguments: Any) -> Task:
        tasks.append(published(*arguments))
        return tasks[-1]

    class CensoringGrid(LocalGrid):
        def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
            replies = list(super().send_and_receive(messages, timeout=timeout))
            if replies:
                dropped = Reply.from_records(replies.pop(0).content, 10**6)
                tasks[0].store.put(dropped.update)
                tasks[0].ledger.submit(simulation_account(0, "miner", 0), dropped.receipt)
            return replies

    monkeypatch.setattr(server_app, "publish", remembered)
    return CensoringGrid


def test_who_is_left_out_by_the_relayer_goes_to_the_chain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another party relays the receipt, since phones hold no gas; the seal then has to have it."""
    result = run(tmp_path, 8, {}, _censoring(monkeypatch))

    assert result["absent"] == {}
    assert all(result["reputation"][address(i)] == 5 + ROUNDS for i in range(8))


def test_who_came_first_on_chain_wins_against_its_copier(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = run(tmp_path, 8, {}, _censoring(monkeypatch), ("attack=copycat",))

    copier = address(7)
    assert result["reasons"] == {str(number): {copier: "copy"} for number in range(1, ROUNDS + 1)}
    assert all(result["reputation"][address(i)] == 5 + ROUNDS for i in range(7))
    assert (result["aggregated"][copier], result["rewards"][copier]) == (0, 0)


def test_a_claim_of_a_thousand_million_examples_gains_nothing(tmp_path: Path) -> None:
    result = run(tmp_path, 8, {}, attack=("attack=inflate", "attack.scale=1e7"))

    (boaster,) = result["adversaries"]
    for number in range(1, ROUNDS + 1):
        folder = Path(result["place"]) / "rounds" / f"{number:04d}"
        receipts = json.loads((folder / "manifest.json").read_text())["receipts"]
        entries = json.loads((folder / "record.json").read_text())["evaluation"]["customers"]
        claims = {receipt["customer"]: receipt["examples"] for receipt in receipts}
        assert claims.pop(boaster) > 10**9 > max(claims.values())
        weights = {entry["customer"]: entry["weight"] for entry in entries}
        assert weights.pop(boaster) <= max(weights.values()) <= 10 * max(claims.values())
    assert result["rewards"][boaster] == max(result["rewards"].values()) == min(result["rewards"].values()) > 0


def test_who_was_judged_low_often_enough_is_excluded_for_the_rest_of_the_task(tmp_path: Path) -> None:
    once = run(tmp_path / "once", 8, {}, attack=("attack=sign_flip", "strategy.strikes=1"))
    never = run(tmp_path / "never", 8, {}, attack=("attack=sign_flip", "strategy.strikes=0"))

    (attacker,) = once["adversaries"]
    reasons = [
        [result["reasons"][str(number)][attacker] for number in range(1, ROUNDS + 1)] for result in (once, never)
    ]
    assert reasons[0][0] == reasons[1][0] != "excluded"
    assert (reasons[0][1], reasons[1][1]) == ("excluded", reasons[1][0])
    assert audit_command(["audit", once["place"]]) == 0


def test_if_nobody_sends_anything_the_run_ends_with_the_reason(tmp_path: Path) -> None:
    with pytest.raises(RoundError, match="the phone fell into the water"):
        run(tmp_path, 5, dict.fromkeys(range(5), "raises"))
