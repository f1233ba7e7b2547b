"""Customers that are processes of their own: everybody is asked, and each says itself through which node it answers."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from app.config import compose
from app.customer.simulation import simulated_customer
from app.local_grid import LocalGrid
from app.members import MembersConfig
from app.protocol.errors import ProtocolError, RoundError
from app.protocol.keys import simulation_account
from app.protocol.policy import Policy
from app.protocol.presence import Presence
from app.reporting.progress import SilentProgress
from app.run_directory import RunDirectory
from app.task import prepare
from strategies.wire import NOBODY, Assignment, Reply
from tests.played import address, play

CUSTOMERS, ROUNDS = 6, 2
Say = Callable[[Assignment, int], bytes]
"""From an assignment and the node's id to what a customer says of its node."""


def honest(index: int) -> Say:
    account = simulation_account(0, "customer", index)
    return lambda task, node: Presence(task.announcement.task, task.announcement.round, node).sign(
        account, task.announcement.domain
    )


def app_of(home: Path, says: dict[int, Say], seats: dict[int, int]) -> ClientApp:
    """Return a ClientApp whose node N is the customer ``seats[N]``; it alone knows that."""
    app = ClientApp()

    @app.train()
    def train(message: Message, context: Context) -> Message:
        task, index = Assignment.from_records(message.content), seats[context.node_id]
        assert (task.customer, task.home, task.data_path) == (NOBODY, "", "")
        customer = simulated_customer(Policy.from_bytes(task.policy), index, home)
        contribution = customer.participate(task.announcement, task.policy, task.frozen, task.model)
        presence = says.get(index, honest(index))(task, context.node_id)
        return Message(Reply(contribution.update, contribution.receipt, presence).to_records(), reply_to=message)

    return app


class Grid(LocalGrid):
    """A grid in which some nodes connect late."""

    late: tuple[int, ...] = ()
    asked = 0

    def get_node_ids(self) -> Iterable[int]:
        self.asked += 1
        return [node for node in super().get_node_ids() if self.asked > 3 or node not in self.late]


def run(
    tmp_path: Path,
    says: dict[int, Say] | None = None,
    seats: dict[int, int] | None = None,
    late: tuple[int, ...] = (),
    join_seconds: int = 60,
    nodes: int = CUSTOMERS,
) -> dict[str, Any]:
    prepared = prepare(compose(["data=digits", f"customers={CUSTOMERS}", f"rounds={ROUNDS}", "attack=none"]))
    members = MembersConfig("file", "members.jsonl", join_seconds, 60)
    prepared = replace(prepared, config=replace(prepared.config, members=members))
    seats = seats or {index + 1: index for index in range(CUSTOMERS)}
    grid = Grid(app_of(tmp_path / "phones", says or {}, seats), nodes, workers=2)
    grid.late = late
    return play(prepared, grid, tmp_path)


def test_the_model_is_that_of_a_simulation_whoever_sits_where(tmp_path: Path) -> None:
    turned = {node: CUSTOMERS - node for node in range(1, CUSTOMERS + 1)}
    one, other = run(tmp_path / "one"), run(tmp_path / "other", seats=turned)
    prepared = prepare(compose(["data=digits", f"customers={CUSTOMERS}", f"rounds={ROUNDS}", "attack=none"]))
    from app.engines import run as simulate

    simulated = simulate(prepared, RunDirectory.create(prepared.config, tmp_path), SilentProgress())
    assert one["model_digest"] == other["model_digest"] == simulated["model_digest"]
    assert one["absent"] == {}


def test_an_update_counts_only_through_the_node_that_its_customer_names(tmp_path: Path) -> None:
    def of_another_node(task: Assignment, node: int) -> bytes:
        return honest(0)(task, node + 1)

    def of_another_round(task: Assignment, node: int) -> bytes:
        told = replace(task.announcement, round=task.announcement.round + 1)
        return honest(1)(replace(task, announcement=told), node)

    result = run(tmp_path, {0: of_another_node, 1: of_another_round, 2: honest(3), 3: lambda *_: b""})
    for number in map(str, range(1, ROUNDS + 1)):
        absent = result["absent"][number]
        assert {address(index) for index in range(4)} <= set(absent)
        assert {address(4), address(5)}.isdisjoint(absent)
    told = " ".join(result["absent"]["1"].values())
    assert "no reply" in told
    assert result["rounds"] == ROUNDS


def test_the_first_round_waits_for_everybody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("strategies.hearth._JOINING", 0.01)
    assert run(tmp_path, late=(5, 6))["absent"] == {}


def test_too_few_customers_end_the_run_with_the_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("strategies.hearth._JOINING", 0.01)
    with pytest.raises(RoundError, match=r"4 Flower nodes are connected, and a round needs updates of 5 customers"):
        run(tmp_path, nodes=4, join_seconds=0)


def test_a_presence_is_for_one_node_one_round_one_task() -> None:
    account, domain = simulation_account(0, "customer", 0), _domain()
    said = Presence(b"t" * 32, 3, 77)
    signature = said.sign(account, domain)
    assert said.signer(signature, domain) == account.address
    for other in (replace(said, node=78), replace(said, round=4), replace(said, task=b"u" * 32)):
        assert other.signer(signature, domain) != account.address
    assert said.signer(signature, replace(domain, chain_id=1)) != account.address
    with pytest.raises(ProtocolError):
        said.signer(b"", domain)


def _domain() -> Any:
    from tests.customer.world import DOMAIN

    return DOMAIN
