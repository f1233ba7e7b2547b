"""The typed client, on the embedded chain and (where HEARTH_ANVIL names one) on an independent node."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from task_world import ETHER, MANUFACTURER, STRANGER, World, account, blob, customers, digest, now

from app.ledger.chain import Chain, open_chain
from app.ledger.deposits import Role
from app.ledger.task_ledger import Phase, TaskLedger
from app.protocol.errors import ContractRevertedError, LedgerError, ProtocolError
from app.protocol.seat import Seat


def test_whole_task(any_chain: Chain) -> None:
    world = World(any_chain, rounds=2)
    task = world.task
    state = task.state()
    assert (state.round, state.rounds, state.phase, state.quorum) == (1, 2, Phase.COLLECTION, 3)
    assert (state.policy, state.model, state.seed) == (digest("policy"), digest("model"), digest("seed"))
    assert (state.block, state.block_hash) == any_chain.head()
    assert task.terms() == world.terms
    assert task.manufacturer() == MANUFACTURER.address
    assert task.customers() == tuple(world.addresses)
    assert task.miners() == tuple(Seat(who.address, digest("vrf", i), i + 1) for i, who in enumerate(world.miners))
    assert task.reputation() == (3,) * 7
    assert task.sealed(1) is task.finalised(1) is None

    world.submit(5)
    assert task.submissions(1) == (world.receipt(5),)
    assert task.submitted(1) == (5,)
    sent = task.seal(MANUFACTURER, 1, digest("root", 1), blob("manifest", 1), [0, 1, 2, 3, 5, 6])
    assert task.state().phase is Phase.SEALED
    seal = task.sealed(1)
    assert seal is not None
    assert (seal.root, seal.manifest, seal.participants) == (digest("root", 1), blob("manifest", 1), (0, 1, 2, 3, 5, 6))
    assert (seal.tx, seal.block, seal.gas) == (sent.hash, sent.block, sent.gas)

    call = world.call(1, participants=[0, 1, 2, 3, 5, 6], honest=[0, 1, 2, 3, 5])
    sent = task.finalise(world.miners[0], call)
    done = task.finalised(1)
    assert done is not None
    assert (done.round, done.leader, done.root) == (1, world.miners[0].address, call.root)
    assert (done.model, done.record, done.seed) == (call.model, call.record, call.seed)
    assert (done.participants, done.honest, done.threshold) == (call.participants, call.honest, 3)
    assert done.signers == (0, 1, 2)
    assert (done.tx, done.block, done.gas) == (sent.hash, sent.block, sent.gas)
    assert task.reputation() == (4, 4, 4, 4, 3, 4, 0)
    assert task.reputation(block=done.block - 1) == (3,) * 7
    state = task.state()
    assert (state.round, state.phase, state.model, state.seed) == (2, Phase.COLLECTION, call.model, call.seed)
    assert task.sealed(1) == seal
    assert task.sealed(2) is task.finalised(2) is None

    world.seal(2)
    world.finalise(2)
    state = task.state()
    assert (state.round, state.finalised, state.phase) == (2, 2, Phase.COMPLETED)
    fresh = TaskLedger.attach(any_chain, task.address.lower())  # it walks back from the newest event
    assert fresh.finalised(1) == done
    assert fresh.sealed(1) == seal
    assert [fresh.finalised(r) is None for r in (0, 1, 2, 3)] == [True, False, False, True]
    assert fresh.sealed(2) is not None
    assert set(task.gas_spent) == {"deploy", "admit", "open", "submit", "seal", "finalise"}
    assert fresh.gas_spent == {}


def test_history_is_read_from_the_file_alone(chain: Chain, tmp_path: Path) -> None:
    world = World(chain)
    for number in (1, 2, 3):
        world.seal(number)
        world.finalise(number, honest=range(number, 7))
    expected = [(world.task.sealed(r), world.task.finalised(r)) for r in (1, 2, 3)]
    chain.close()
    evidence = open_chain(tmp_path / "chain.sqlite", readonly=True)
    task = TaskLedger.attach(evidence, world.task.address)
    assert [(task.sealed(r), task.finalised(r)) for r in (1, 2, 3)] == expected
    evidence.close()


def test_a_refusal_names_the_error_and_sends_nothing(any_chain: Chain) -> None:
    task = World(any_chain).task
    nonce = any_chain.w3.eth.get_transaction_count(STRANGER.address)
    with pytest.raises(ContractRevertedError) as caught:
        task.seal(STRANGER, 1, digest("root"), blob("manifest"), [0])
    assert (caught.value.call, caught.value.error) == ("seal 1", "NotManufacturer")
    assert caught.value.arguments == (STRANGER.address,)
    assert any_chain.w3.eth.get_transaction_count(STRANGER.address) == nonce


def test_a_view_that_reverts_is_named(chain: Chain) -> None:
    task = World(chain).task
    with pytest.raises(ContractRevertedError, match="NotMiner"):
        task._call("minerIndex", STRANGER.address)


def test_indices_out_of_range_never_leave(chain: Chain) -> None:
    task = World(chain).task
    with pytest.raises(ProtocolError, match="customer index 7 is out of range"):
        task.seal(MANUFACTURER, 1, digest("root"), blob("manifest"), [7])


def test_values_of_a_wrong_length_are_one_line(chain: Chain) -> None:
    task = World(chain).task
    with pytest.raises(LedgerError) as caught:
        task.seal(MANUFACTURER, 1, b"short", blob("manifest"), [0])
    assert "\n" not in str(caught.value)


def test_attach_refuses_what_is_not_ours(any_chain: Chain) -> None:
    with pytest.raises(LedgerError, match="not an address"):
        TaskLedger.attach(any_chain, "0x12")
    with pytest.raises(LedgerError, match=r"there is no contract at .* on chain 2020"):
        TaskLedger.attach(any_chain, account("nobody").address)
    other = any_chain.send(MANUFACTURER, {"data": "0x6001600c60003960016000f300", "value": 0}, "deploy STOP")
    assert other.contract is not None
    with pytest.raises(LedgerError, match="not this version's HearthTask"):
        TaskLedger.attach(any_chain, other.contract)


def test_many_customers_come_in_pages_and_batches(chain: Chain) -> None:
    world = World(chain, n=1001, m=1, f=1)
    assert world.task.customers() == tuple(world.addresses)
    assert world.task.reputation() == (3,) * 1001


def test_transfer(any_chain: Chain) -> None:
    nobody = account("nobody in particular").address
    before = any_chain.balance(nobody)
    sent = any_chain.transfer(MANUFACTURER, nobody, ETHER)
    assert any_chain.balance(nobody) == before + ETHER
    assert sent.gas == 21_000


def test_waiting_on_an_embedded_chain_takes_no_time(chain: Chain) -> None:
    """Left-out customers have their window, and the second leader its turn, and nobody sleeps."""
    world = World(chain, submission_window=3600, leader_window=600)
    with pytest.raises(ContractRevertedError, match="TooEarly"):
        world.seal(1, range(6))
    world.task.await_submissions()
    world.seal(1, range(6))
    call = world.call(1, range(6), leader=world.miners[1].address, rank=2)
    before = now(chain)
    world.task.finalise(world.miners[1], call)
    assert now(chain) >= before + 1200
    finalised = world.task.finalised(1)
    assert finalised is not None
    assert finalised.rank == 2


def test_an_independent_node_is_waited_for(any_chain: Chain) -> None:
    start = now(any_chain)
    any_chain.wait_until(start - 1)
    any_chain.wait_until(int(time.time()) + 1)
    any_chain.transfer(MANUFACTURER, STRANGER.address, 1)
    assert now(any_chain) > start


def test_who_has_no_deposit_is_missing(chain: Chain) -> None:
    assert World(chain).task.deposits.missing(Role.CUSTOMER, [customers(1)[0].address]) == frozenset()
    deposits = World(chain, deposit=5).task.deposits
    deposits.make(customers(1)[0], Role.CUSTOMER, 5)
    addresses = [who.address for who in customers(3)]
    assert deposits.missing(Role.CUSTOMER, addresses) == set(addresses[1:])
