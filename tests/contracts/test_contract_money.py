"""Rewards and deposits: who gets what, to the wei, and who gets nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from eth_account.signers.local import LocalAccount
from task_world import (
    ETHER,
    MANUFACTURER,
    STRANGER,
    TERMS,
    World,
    account,
    customers,
    digest,
    funded,
    miners,
    now,
    reverts,
    set_time,
)

from app.ledger.chain import Chain, embedded_chain
from app.ledger.deposits import Role
from app.ledger.rewards import Claim
from app.ledger.task_ledger import TaskLedger
from app.protocol.errors import LedgerError

REWARD = (
    1_000_007  # rounds 3 * customers 7 * gamma_max 5 = 105 points at most: a point is worth 9523 wei, 1517 are left
)
PRICE = REWARD // 105
DEPOSIT = 1001
REENTERER = json.loads((Path(__file__).parent / "Reenterer.json").read_text())


@pytest.fixture
def chain(tmp_path: Path) -> Iterator[Chain]:
    chain = embedded_chain(tmp_path / "chain.sqlite", funded=funded(7, 4), genesis_time=1_700_000_000)
    set_time(chain, 0)
    yield chain
    chain.close()


def play(world: World, round: int, low: set[int] = frozenset(), **changes: object) -> None:  # type: ignore[assignment]
    world.seal(round)
    world.finalise(round, honest=set(range(world.n)) - low, **changes)


def held(world: World) -> int:
    return world.task.chain.balance(world.task.address)


def relayed(world: World, index: int, recipient: str, *, signer: LocalAccount | None = None, **changes: int) -> None:
    who = customers(world.n)[index]
    nonce = world.task.rewards.nonce(who.address)
    claim = replace(Claim(who.address, recipient, nonce, now(world.task.chain) + 100), **changes)
    world.task.rewards.relay(STRANGER, claim, claim.sign(signer or who, world.task.domain))


class TestEscrow:
    def test_open_takes_exactly_the_reward(self, chain: Chain) -> None:
        for wrong in (0, REWARD - 1, REWARD + 1):
            with reverts("WrongValue", wrong, REWARD):
                open_with(chain, wrong, reward=REWARD)
        with reverts("WrongValue", 1, 0):
            open_with(chain, 1)
        task = open_with(chain, REWARD, reward=REWARD)
        assert (chain.balance(task.address), task.rewards.price()) == (REWARD, PRICE)

    def test_a_point_is_worth_something(self, chain: Chain) -> None:
        with reverts("RewardTooSmall", 104, 105):
            open_with(chain, 104, reward=104)
        assert open_with(chain, 105, reward=105).rewards.price() == 1

    def test_points_fit_their_lanes(self, chain: Chain) -> None:
        with reverts("WrongTerms", 257, 3, 255):
            TaskLedger.deploy(chain, MANUFACTURER, replace(TERMS, rounds=257, gamma_max=255))
        TaskLedger.deploy(chain, MANUFACTURER, replace(TERMS, rounds=256, gamma_max=255))

    def test_who_cannot_pay_is_told_so(self, chain: Chain) -> None:
        with pytest.raises(LedgerError, match=r"open the task|insufficient|funds"):
            open_with(chain, 10**6 * ETHER, reward=10**6 * ETHER)


def open_with(chain: Chain, value: int, **terms: int) -> TaskLedger:
    task = TaskLedger.deploy(chain, MANUFACTURER, replace(TERMS, **terms))
    task._send(MANUFACTURER, "admit", "admit", "admitCustomers", [who.address for who in customers(7)])
    task._send(MANUFACTURER, "admit", "admit", "admitMiners", [(miners(1)[0].address, 1, digest("vrf"))])
    task.open(MANUFACTURER, value)
    return task


class TestRewards:
    def test_reputation_times_accepted_rounds(self, chain: Chain) -> None:
        """By hand: gamma 3 at first, 5 at most; customer 6 is evaluated L in round 2, at the threshold."""
        world = World(chain, reward=REWARD)
        owed = world.task.rewards.owed
        play(world, 1)
        assert [owed(who) for who in world.addresses] == [3 * PRICE] * 7
        play(world, 2, low={6})
        assert [owed(who) for who in world.addresses] == [7 * PRICE] * 6 + [3 * PRICE]
        play(world, 3)  # customer 6 has gamma 0, below h = 4: isolated, and not paid although H
        assert [owed(who) for who in world.addresses] == [12 * PRICE] * 6 + [3 * PRICE]
        done = [world.task.finalised(r) for r in (1, 2, 3)]
        assert [one and one.credited for one in done] == [21, 24, 30]
        assert world.task.state().credited == 75

        for index, who in enumerate(customers(7)):
            before, points = held(world), 3 if index == 6 else 12
            chain.transfer(MANUFACTURER, who.address, ETHER)
            world.task.rewards.claim(who)
            assert before - held(world) == points * PRICE
            assert owed(who.address) == 0
            with reverts("NothingToClaim", who.address):
                world.task.rewards.claim(who)
        assert held(world) == REWARD - 75 * PRICE
        before = chain.balance(MANUFACTURER.address)
        world.task.rewards.reclaim(STRANGER)
        assert chain.balance(MANUFACTURER.address) - before == REWARD - 75 * PRICE
        assert held(world) == 0
        with reverts("NothingToClaim", MANUFACTURER.address):
            world.task.rewards.reclaim(STRANGER)

    def test_each_round_is_paid_at_once_and_once(self, chain: Chain) -> None:
        world = World(chain, reward=REWARD)
        target = account("nobody at all").address
        for round, points in ((1, 3), (2, 4), (3, 5)):
            play(world, round)
            before = chain.balance(target)
            relayed(world, 2, target)
            assert chain.balance(target) - before == points * PRICE

    def test_the_remainder_waits_for_the_end(self, chain: Chain) -> None:
        world = World(chain, reward=REWARD)
        with reverts("WrongPhase", 1):
            world.task.rewards.reclaim(MANUFACTURER)

    def test_cancel_returns_what_is_owed_to_nobody_else(self, chain: Chain) -> None:
        world = World(chain, reward=REWARD)
        play(world, 1)
        world.task.cancel(MANUFACTURER)
        world.task.rewards.reclaim(MANUFACTURER)
        assert held(world) == 21 * PRICE
        for index in range(7):
            relayed(world, index, account("purse").address)
        assert held(world) == 0

    def test_a_failed_task_pays_what_was_earned(self, chain: Chain) -> None:
        world = World(chain, reward=REWARD, seal_window=10)
        play(world, 1)
        set_time(chain, now(chain) + 10)
        world.task.expire(STRANGER)
        world.task.rewards.reclaim(STRANGER)
        assert held(world) == 21 * PRICE
        relayed(world, 0, STRANGER.address)
        assert held(world) == 18 * PRICE

    def test_a_task_cancelled_before_it_opened_has_nothing(self, chain: Chain) -> None:
        task = TaskLedger.deploy(chain, MANUFACTURER, replace(TERMS, reward=REWARD))
        task.cancel(MANUFACTURER)
        with reverts("NothingToClaim", MANUFACTURER.address):
            task.rewards.reclaim(MANUFACTURER)

    def test_a_task_without_reward_keeps_no_points(self, chain: Chain) -> None:
        world = World(chain)
        play(world, 1)
        assert (world.task.state().credited, world.task.rewards.owed(world.addresses[0])) == (0, 0)
        with reverts("NothingToClaim", world.addresses[0]):
            world.task.rewards.claim(customers(1)[0])

    def test_only_customers_have_any(self, chain: Chain) -> None:
        world = World(chain, reward=REWARD)
        play(world, 1)
        with reverts("NotCustomer", STRANGER.address):
            world.task.rewards.claim(STRANGER)

    def test_neighbours_in_a_word_do_not_mix(self, chain: Chain) -> None:
        """One customer of 70 is paid at a time, the highest gamma over the longest possible task's worth of rounds."""
        for index in (0, 1, 31, 32, 33, 63, 69):
            world = World(chain, n=70, m=1, f=0, rounds=2, reward=ETHER, gamma_initial=255, gamma_max=255)
            for round in (1, 2):
                world.seal(round, [index])
                world.finalise(round, [index])
            price = world.task.rewards.price()
            assert [i for i, who in enumerate(world.addresses) if world.task.rewards.owed(who)] == [index]
            assert world.task.rewards.owed(world.addresses[index]) == 510 * price
            relayed(world, index, account("purse").address)
            assert held(world) == ETHER - 510 * price


class TestSignedClaims:
    @pytest.fixture
    def world(self, chain: Chain) -> World:
        world = World(chain, reward=REWARD)
        play(world, 1)
        return world

    def test_a_claim_is_good_once(self, world: World) -> None:
        who, target = customers(7)[0], account("purse").address
        claim = Claim(who.address, target, 0, now(world.task.chain) + 100)
        signature = claim.sign(who, world.task.domain)
        world.task.rewards.relay(STRANGER, claim, signature)
        play(world, 2)  # there is something to claim again
        with reverts("InvalidAccountNonce", who.address, 1):
            world.task.rewards.relay(STRANGER, claim, signature)
        with reverts("WrongSignature", 0):
            world.task.rewards.relay(STRANGER, replace(claim, nonce=1), signature)
        assert world.task.rewards.owed(who.address) == 4 * PRICE

    def test_signed_by_the_customer_for_the_recipient(self, world: World) -> None:
        who, target = customers(7)[0], account("purse").address
        with reverts("WrongSignature", 0):
            relayed(world, 0, target, signer=STRANGER)
        claim = Claim(who.address, target, 0, now(world.task.chain) + 100)
        signature = claim.sign(who, world.task.domain)
        for changed in (replace(claim, recipient=STRANGER.address), replace(claim, deadline=claim.deadline + 1)):
            with reverts("WrongSignature", 0):
                world.task.rewards.relay(STRANGER, changed, signature)

    def test_for_this_task(self, world: World) -> None:
        who = customers(7)[0]
        claim = Claim(who.address, who.address, 0, now(world.task.chain) + 100)
        for foreign in (replace(world.task.domain, chain_id=1), replace(world.task.domain, contract=STRANGER.address)):
            with reverts("WrongSignature", 0):
                world.task.rewards.relay(STRANGER, claim, claim.sign(who, foreign))

    def test_it_expires(self, world: World) -> None:
        deadline = now(world.task.chain)
        with reverts("ClaimExpired", deadline):
            relayed(world, 0, STRANGER.address, deadline=deadline)
        relayed(world, 0, STRANGER.address, deadline=now(world.task.chain) + 1)

    def test_not_into_nowhere(self, world: World) -> None:
        with reverts("ZeroAddress"):
            relayed(world, 0, "0x" + "00" * 20)


class TestReentrancy:
    @pytest.fixture
    def attacker(self, chain: Chain) -> str:
        factory = chain.w3.eth.contract(abi=REENTERER["abi"], bytecode=REENTERER["bytecode"])
        sent = chain.send(STRANGER, factory.constructor(), "deploy the attacker")
        assert sent.contract is not None
        return sent.contract

    def contract(self, chain: Chain, attacker: str) -> object:
        return chain.w3.eth.contract(address=attacker, abi=REENTERER["abi"])

    def test_a_customer_that_claims_within_its_payment_gets_it_once(self, chain: Chain, attacker: str) -> None:
        world = World(chain, n=7, reward=REWARD, members=[attacker])
        play(world, 1)
        data = world.task._contract._function("claim")._encode_transaction_data()
        contract = self.contract(chain, attacker)
        chain.send(STRANGER, contract.functions.attack(world.task.address, data), "attack")  # type: ignore[attr-defined]
        assert contract.functions.payments().call() == 1  # type: ignore[attr-defined]
        assert contract.functions.reentries().call() == 0  # type: ignore[attr-defined]
        assert (chain.balance(attacker), held(world)) == (3 * PRICE, REWARD - 3 * PRICE)

    def test_a_relayed_claim_within_its_payment(self, chain: Chain, attacker: str) -> None:
        world = World(chain, reward=REWARD)
        play(world, 1)
        who = customers(7)[0]
        claim = Claim(who.address, attacker, 0, now(chain) + 100)
        signature = claim.sign(who, world.task.domain)
        arguments = (claim.customer, claim.recipient, claim.nonce, claim.deadline, signature)
        data = world.task._contract._function("claimFor", *arguments)._encode_transaction_data()
        contract = self.contract(chain, attacker)
        chain.send(STRANGER, contract.functions.attack(world.task.address, data), "attack")  # type: ignore[attr-defined]
        assert contract.functions.reentries().call() == 0  # type: ignore[attr-defined]
        assert (chain.balance(attacker), held(world)) == (3 * PRICE, REWARD - 3 * PRICE)

    def test_a_deposit_is_refunded_once(self, chain: Chain, attacker: str) -> None:
        task = TaskLedger.deploy(chain, MANUFACTURER, replace(TERMS, deposit=DEPOSIT))
        task._send(MANUFACTURER, "admit", "admit", "admitCustomers", [attacker, customers(1)[0].address])
        task.deposits.make(customers(1)[0], Role.CUSTOMER, DEPOSIT)
        contract = self.contract(chain, attacker)
        for name, value in (("deposit", DEPOSIT), ("refund", 0)):
            data = task._contract._function(name, Role.CUSTOMER)._encode_transaction_data()
            call = contract.functions.attack(task.address, data)  # type: ignore[attr-defined]
            fields = {"to": attacker, "data": call._encode_transaction_data(), "value": value}
            chain.send(STRANGER, fields, name)  # type: ignore[arg-type]
        assert contract.functions.reentries().call() == 0  # type: ignore[attr-defined]
        assert (chain.balance(attacker), chain.balance(task.address)) == (DEPOSIT, DEPOSIT)

    def test_a_recipient_that_refuses_harms_only_itself(self, chain: Chain, attacker: str) -> None:
        world = World(chain, reward=REWARD)
        play(world, 1)
        contract = self.contract(chain, attacker)
        chain.send(STRANGER, contract.functions.refuse(), "refuse")  # type: ignore[attr-defined]
        with reverts("FailedCall"):
            relayed(world, 0, attacker)
        assert world.task.rewards.nonce(world.addresses[0]) == 0
        relayed(world, 0, STRANGER.address)
        relayed(world, 1, STRANGER.address)


class TestDeposits:
    def world(self, chain: Chain, but: tuple[int, ...] = ()) -> World:
        """A task whose members all made their deposits, ``but`` for these customers."""
        world = World(chain, deposit=DEPOSIT, reward=REWARD)
        for index, who in enumerate(customers(7)):
            if index not in but:
                world.task.deposits.make(who, Role.CUSTOMER, DEPOSIT)
        for who in world.miners:
            world.task.deposits.make(who, Role.MINER, DEPOSIT)
        return world

    def test_exactly_once_and_by_members(self, chain: Chain) -> None:
        world = self.world(chain, but=(6,))
        who = customers(7)[6]
        for wrong in (DEPOSIT - 1, DEPOSIT + 1):
            with reverts("WrongValue", wrong, DEPOSIT):
                world.task.deposits.make(who, Role.CUSTOMER, wrong)
        with reverts("NotMiner", who.address):
            world.task.deposits.make(who, Role.MINER, DEPOSIT)
        with reverts("NotCustomer", STRANGER.address):
            world.task.deposits.make(STRANGER, Role.CUSTOMER, DEPOSIT)
        world.task.deposits.make(who, Role.CUSTOMER, DEPOSIT)
        with reverts("AlreadyDeposited", Role.CUSTOMER, 6):
            world.task.deposits.make(who, Role.CUSTOMER, DEPOSIT)
        assert world.task.deposits.has(Role.CUSTOMER, who.address)
        assert held(world) == REWARD + 11 * DEPOSIT

    def test_none_where_none_is_asked_for(self, chain: Chain) -> None:
        world = World(chain)
        with reverts("WrongValue", 0, 0):
            world.task.deposits.make(customers(1)[0], Role.CUSTOMER, 0)

    def test_who_has_none_takes_no_part(self, chain: Chain) -> None:
        world = self.world(chain, but=(2, 6))
        with reverts("NoDeposit", Role.CUSTOMER, 0, 1 << 6):
            world.submit(6)
        with reverts("NoDeposit", Role.CUSTOMER, 0, 1 << 6 | 1 << 2):
            world.seal(1)
        world.seal(1, [0, 1, 3, 4, 5])
        world.finalise(1, [0, 1, 3, 4, 5])

    def test_nor_does_a_miner(self, chain: Chain) -> None:
        world = World(chain, deposit=DEPOSIT)
        for who in customers(7):
            world.task.deposits.make(who, Role.CUSTOMER, DEPOSIT)
        for who in world.miners[1:]:
            world.task.deposits.make(who, Role.MINER, DEPOSIT)
        world.seal(1)
        with reverts("NoDeposit", Role.MINER, 0, 1):
            world.finalise(1)
        call = world.call(1)
        world.task.finalise(world.miners[0], replace(call, signatures=world.sign(call, world.miners[1:])))

    def test_refunds_wait_for_the_end_and_the_proofs(self, chain: Chain) -> None:
        world = self.world(chain)
        who = customers(7)[0]
        with reverts("WrongPhase", 1):
            world.task.deposits.refund(who, Role.CUSTOMER)
        world.task.cancel(MANUFACTURER)
        ended = now(chain)
        set_time(chain, ended + 86_399)
        with reverts("TooEarly", ended + 86_399, ended + 86_400):
            world.task.deposits.refund(who, Role.CUSTOMER)
        set_time(chain, ended + 86_400)
        with reverts("WrongPhase", 4):
            world.task.deposits.make(who, Role.CUSTOMER, DEPOSIT)
        world.task.deposits.refund(who, Role.CUSTOMER)
        with reverts("NoDeposit", Role.CUSTOMER, 0, 1):
            world.task.deposits.refund(who, Role.CUSTOMER)
        for miner in world.miners:
            world.task.deposits.refund(miner, Role.MINER)
        for other in customers(7)[1:]:
            world.task.deposits.refund(other, Role.CUSTOMER)
        world.task.rewards.reclaim(STRANGER)
        assert held(world) == 0

    def test_a_task_that_never_opens_keeps_nobodys_deposit(self, chain: Chain) -> None:
        task = TaskLedger.deploy(chain, MANUFACTURER, replace(TERMS, deposit=DEPOSIT))
        task._send(MANUFACTURER, "admit", "admit", "admitCustomers", [customers(1)[0].address])
        task.deposits.make(customers(1)[0], Role.CUSTOMER, DEPOSIT)
        task.deposits.refund(customers(1)[0], Role.CUSTOMER)
        assert chain.balance(task.address) == 0

    def test_two_receipts_cost_the_deposit(self, chain: Chain) -> None:
        world = self.world(chain)
        slash = world.task.deposits.slash_customer
        one, two = world.receipt(4), world.receipt(4, update=digest("another"))
        for wrong in (
            one,
            world.receipt(5),
            world.receipt(4, round=2),
            world.receipt(4, model=digest("reorganised")),
            world.receipt(4, task=digest("another")),
        ):
            with reverts("NoEquivocation"):
                slash(STRANGER, one, wrong)
        other = digest("another task")
        with reverts("NoEquivocation"):
            slash(STRANGER, world.receipt(4, task=other), world.receipt(4, task=other, examples=1))
        with reverts("WrongSignature", 1):
            slash(STRANGER, one, world.receipt(4, update=digest("another"), signer=STRANGER))
        with reverts("WrongSignature", 0):
            slash(STRANGER, replace(one, signature=two.signature), two)
        before = held(world)
        slash(STRANGER, one, two)
        assert before - held(world) == DEPOSIT // 2
        assert not world.task.deposits.has(Role.CUSTOMER, one.customer)
        with reverts("NoDeposit", Role.CUSTOMER, 0, 1 << 4):
            slash(STRANGER, one, two)
        with reverts("NoDeposit", Role.CUSTOMER, 0, 1 << 4):
            world.seal(1)
        with reverts("Expelled", Role.CUSTOMER, 4):
            world.task.deposits.make(customers(7)[4], Role.CUSTOMER, DEPOSIT)
        world.task.cancel(MANUFACTURER)
        balance = chain.balance(MANUFACTURER.address)
        world.task.rewards.reclaim(STRANGER)
        assert chain.balance(MANUFACTURER.address) - balance == REWARD + DEPOSIT - DEPOSIT // 2

    def test_a_slashed_customer_cannot_stop_a_seal_with_what_it_submitted(self, chain: Chain) -> None:
        world = self.world(chain)
        world.submit(4)
        with reverts("Omitted", 0, 1 << 4):
            world.seal(1, [0, 1, 2, 3, 5, 6])
        world.task.deposits.slash_customer(STRANGER, world.receipt(4), world.receipt(4, examples=9))
        world.seal(1, [0, 1, 2, 3, 5, 6])

    def test_two_verdicts_cost_the_deposit(self, chain: Chain) -> None:
        world = self.world(chain)
        miner, slash = world.miners[2], world.task.deposits.slash_miner

        def signed(who: LocalAccount = miner, **changes: object) -> object:
            call = replace(world.call(1), **changes)  # type: ignore[arg-type]
            return replace(call, signatures=(world.signature(call, who),))

        one = signed()
        turn = {"leader": world.miners[1].address, "rank": 1, "seed": digest("its output"), "record": signed().record}
        for honest in (
            one,
            signed(**turn),
            signed(round=2),
            signed(root=digest("reorganised")),
            signed(rank=1),
            signed(seed=digest("reorganised")),
        ):
            with reverts("NoEquivocation"):
                slash(STRANGER, one, honest, 7)
        foreign = {"task": digest("another task")}
        with reverts("NoEquivocation"):
            slash(STRANGER, signed(**foreign), signed(**foreign, model=digest("lie")), 7)
        with reverts("WrongSignature", 1):
            slash(STRANGER, one, signed(world.miners[1], model=digest("lie")), 7)
        for number, lie in enumerate(
            [{"model": digest("lie")}, {"honest": (0, 1)}, {"participants": (0, 1)}, {"model": digest("a lie too")}]
        ):
            liar = world.miners[number]
            before = held(world)
            slash(STRANGER, signed(liar), signed(liar, **lie), 7)
            assert before - held(world) == DEPOSIT // 2
            with reverts("NoDeposit", Role.MINER, 0, 1 << number):
                slash(STRANGER, signed(liar), signed(liar, **lie), 7)
        with reverts("NotMiner", STRANGER.address):
            slash(STRANGER, signed(STRANGER), signed(STRANGER, model=digest("lie")), 7)
