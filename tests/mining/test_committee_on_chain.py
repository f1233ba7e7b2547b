"""The committee and Byzantine miners against the contract itself: turns, deposits, and what is finalised."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from byzantine import Equivocating, Idle, Lying, Silent, with_byzantine

from app.ledger.chain import Chain, embedded_chain
from app.ledger.deposits import Role
from app.ledger.docket import TaskDocket
from app.ledger.task_ledger import Phase, TaskLedger, TaskTerms
from app.mining.committee import Committee
from app.mining.round import SealedRound
from app.protocol.digest import sha256
from app.protocol.errors import RoundError
from app.protocol.keys import simulation_account

DEPOSIT, WINDOW = 1000, 60
MANUFACTURER = simulation_account(7, "manufacturer")


@pytest.fixture
def world(make_world, tmp_path: Path) -> Iterator[object]:
    """The task in memory, with its contract on an embedded chain; everybody's deposit is there."""
    world = make_world()
    members = [MANUFACTURER, *world.accounts, *world.miner_accounts]
    chain = embedded_chain(tmp_path / "chain.sqlite", funded={who.address: 10**18 for who in members})
    seats = world.seal().miners
    seed = sha256(b"genesis")
    terms = TaskTerms(world.policy.digest, world.model.sha256, seed, 3, 2, 5, 10, deposit=DEPOSIT, leader_window=WINDOW)
    world.ledger = TaskLedger.publish(chain, MANUFACTURER, terms, world.customers, seats)
    for role, accounts in ((Role.CUSTOMER, world.accounts), (Role.MINER, world.miner_accounts)):
        for who in accounts:
            world.ledger.deposits.make(who, role, DEPOSIT)
    world.domain, world.docket = world.ledger.domain, TaskDocket(world.ledger, MANUFACTURER)
    yield world
    chain.close()


def seal(world, round_number: int = 1) -> SealedRound:
    """Seal a round in which all customers take part, in memory and on chain."""
    sealed = world.seal(round_number=round_number, reputation=world.ledger.reputation())
    world.ledger.seal(MANUFACTURER, round_number, sealed.root, sealed.manifest, sealed.participants)
    return replace(sealed, seed=world.ledger.state().seed)


def time_of(chain: Chain, block: int) -> int:
    return int(chain.w3.eth.get_block(block)["timestamp"])


def test_honest_miners(world) -> None:
    sealed = seal(world)
    decision = Committee(world.miners(), world.docket).decide(sealed)
    done = world.ledger.finalised(1)
    assert (done.leader, done.rank, done.model, done.record) == (
        decision.verdict.leader,
        0,
        decision.model.sha256,
        decision.record,
    )
    assert (decision.gas, done.signers, decision.dissent) == (done.gas, (0, 1, 2, 3), {})
    assert decision.chain_seconds > 0
    assert world.ledger.state().seed == decision.verdict.seed


def test_leaders_that_withhold_cost_a_window_each(world) -> None:
    """Ranks 0 and 1 publish and never send; rank 2 may only after two windows, and the chain's clock says so."""
    sealed = seal(world)
    decision = Committee(with_byzantine(world, sealed, Idle, Idle, places=[0, 1]), world.docket).decide(sealed)
    done, seal_block = world.ledger.finalised(1), world.ledger.sealed(1).block
    assert (done.rank, done.leader) == (2, decision.verdict.leader)
    assert time_of(world.ledger.chain, done.block) >= time_of(world.ledger.chain, seal_block) + 2 * WINDOW
    assert len(decision.dissent) == 2


def test_an_equivocator_loses_its_deposit_and_its_vote(world) -> None:
    sealed = seal(world)
    miners = with_byzantine(world, sealed, Equivocating, places=[0])
    traitor = next(miner for miner in miners if type(miner) is Equivocating)
    before = world.ledger.chain.balance(world.ledger.address)
    first = Committee(miners, world.docket).decide(sealed)
    assert first.dissent == {traitor.address: "signed two contradicting verdicts, which cost it its deposit"}
    assert not world.ledger.deposits.has(Role.MINER, traitor.address)
    assert before - world.ledger.chain.balance(world.ledger.address) == DEPOSIT // 2

    world.model = first.model  # the next round goes on without it
    second = Committee(world.miners(), world.docket).decide(seal(world, 2))
    assert second.dissent == {traitor.address: "has no deposit"}
    assert len(second.signatures) == 3
    assert world.ledger.state().round == 3


@pytest.mark.parametrize("kind", [Lying, Silent])
def test_more_than_f_stop_the_round_and_finalise_nothing(world, kind: type) -> None:
    sealed = seal(world)
    with pytest.raises(RoundError, match="no quorum, 3 of 4 miners must agree"):
        Committee(with_byzantine(world, sealed, kind, kind, places=[0, 2]), world.docket).decide(sealed)
    assert world.ledger.state().phase is Phase.SEALED
    assert world.ledger.finalised(1) is None
    honest = Committee(world.miners(), world.docket).decide(sealed)  # once they are well again
    assert world.ledger.finalised(1).model == honest.verdict.model
