"""Random histories of a task with money, against an independent model of it in Python.

Before every call the model says whether the contract must take it, and if not, with which error; after every call the
contract's whole state and every wei in it must be the model's. At the end of each history all parties but one stranger
fall silent: the task must still come to an end, and then everything in it must be paid out to the last wei.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from task_model import Refused, TaskModel
from task_world import MANUFACTURER, STRANGER, World, account, customers, digest, funded, now, set_time

from app.ledger.chain import Chain, embedded_chain
from app.ledger.deposits import Role
from app.ledger.rewards import Claim
from app.ledger.task_ledger import Phase
from app.protocol.errors import ContractRevertedError

N, M = 4, 4
TERMS: dict[str, int] = {
    "rounds": 4,
    "f": 0,
    "gamma_initial": 1,
    "gamma_max": 3,
    "reward": 10_007,
    "deposit": 1001,
    "submission_window": 100,
    "seal_window": 1000,
    "leader_window": 50,
    "finalise_window": 500,
    "skips": 1,
}
PURSE = account("purse").address
WHO = st.integers(0, N - 1)
SOME = st.sets(WHO) | st.just(set(range(N)))


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chain]:
    path = tmp_path_factory.mktemp("machine") / "chain.sqlite"
    chain = embedded_chain(path, funded=funded(N, M), genesis_time=1_700_000_000)
    yield chain
    chain.close()


class Histories(RuleBasedStateMachine):
    """What the parties of one task may try, in any order."""

    def __init__(self, chain: Chain) -> None:
        super().__init__()
        self.chain = chain
        self.results: dict[int, Any] = {}

    @initialize(without=st.sets(WHO, max_size=2))
    def publish(self, without: set[int]) -> None:
        set_time(self.chain, now(self.chain))
        self.world = World(self.chain, n=N, m=M, **TERMS)
        self.task = self.world.task
        self.model = TaskModel(N, M, since=self.task.state().since, **TERMS)
        self.claims: list[tuple[Claim, bytes]] = []
        for index in set(range(N)) - without:
            self.make_deposit(Role.CUSTOMER, index)
        for index in set(range(M)) - ({3} & without):
            self.make_deposit(Role.MINER, index)

    def attempt(self, model: str, arguments: tuple[Any, ...], call: Any) -> None:
        """Do the same to the model and to the contract: both must refuse alike, or neither."""
        self.model.time = now(self.chain) + 1
        set_time(self.chain, self.model.time)
        try:
            getattr(self.model, model)(*arguments)
            refused = None
        except Refused as reason:
            refused = str(reason)
        try:
            call()
            reverted = None
        except ContractRevertedError as error:
            reverted = error.error
        assert reverted == refused, (model, arguments)

    @rule(seconds=st.sampled_from([10, 50, 100, 400, 1000]))
    def wait(self, seconds: int) -> None:
        set_time(self.chain, now(self.chain) + seconds)
        self.chain.transfer(STRANGER, PURSE, 0)  # a block, so that the time is the chain's

    @rule(index=WHO, signer=st.sampled_from([None, None, None, STRANGER]))
    def submit(self, index: int, signer: Any) -> None:
        round = self.model.round
        signed = self.world.receipt(index, round, signer=signer)
        self.attempt("submit", (round, index, signer is None), lambda: self.task.submit(STRANGER, signed))

    @rule(present=SOME, ahead=st.sampled_from([0, 0, 0, 1, -1]), who=st.sampled_from([MANUFACTURER] * 3 + [STRANGER]))
    def seal(self, present: set[int], ahead: int, who: Any) -> None:
        round = self.model.round + ahead
        blob = (digest("root", round), replace(self.world.call(1).record))
        self.attempt(
            "seal",
            (who is MANUFACTURER, round, present),
            lambda: self.task.seal(who, round, blob[0], blob[1], sorted(present)),
        )

    @rule(away=st.sets(WHO, max_size=2), honest=SOME, rank=st.sampled_from([0, 0, 1]), late=st.integers(0, 8))
    def go_on(self, away: set[int], honest: set[int], rank: int, late: int) -> None:
        """What parties that mostly do their duty do next, so that histories get somewhere."""
        if self.model.phase == Phase.COLLECTION:
            able = {i for role, i in self.model.deposits if role == Role.CUSTOMER}
            self.wait(1000 if late == 0 else 100)
            if late == 0:
                self.expire()
            else:
                self.seal(
                    (able - away or able) | self.model.submitted.get(self.model.round, set()) & able, 0, MANUFACTURER
                )
        elif self.model.phase == Phase.SEALED:
            self.wait(500 if late == 0 else 50 * rank)
            if late == 0:
                self.expire()
            else:
                able_miners = tuple(sorted(i for role, i in self.model.deposits if role == Role.MINER))
                self.finalise(honest, rank, able_miners)

    @rule(away=st.sets(WHO, max_size=1), honest=SOME)
    def play_a_round(self, away: set[int], honest: set[int]) -> None:
        for _ in range(2):
            self.go_on(away, honest, 0, 1)

    @rule(
        honest=SOME,
        rank=st.sampled_from([0, 0, 0, 1, 3]),
        signers=st.sampled_from([(0, 1, 2)] * 4 + [(1, 2), (1, 2, 3)]),
    )
    def finalise(self, honest: set[int], rank: int, signers: tuple[int, ...]) -> None:
        round, present = self.model.round, sorted(self.model.present)
        manifest = self.world.call(1).record.sha256
        call = self.world.call(round, present, sorted(honest & self.model.present), rank=rank, manifest=manifest)
        call = replace(call, signatures=self.world.sign(call, [self.world.miners[i] for i in signers]))
        self.attempt(
            "finalise",
            (round, honest & self.model.present, rank, signers),
            lambda: self.task.finalise(self.world.miners[0], call),
        )

    @rule()
    def repeat_an_old_verdict(self) -> None:
        call = self.world.call(self.model.round - 1)
        self.attempt("stale", (), lambda: self.task.finalise(self.world.miners[0], call))

    @rule()
    def expire(self) -> None:
        self.attempt("expire", (), lambda: self.task.expire(STRANGER))

    @rule(who=st.sampled_from([MANUFACTURER, *[STRANGER] * 9]))
    def cancel(self, who: Any) -> None:
        self.attempt("cancel", (who is MANUFACTURER,), lambda: self.task.cancel(who))

    @rule(index=WHO)
    def claim(self, index: int) -> None:
        who = customers(N)[index]
        self.attempt("claim", (index,), lambda: self.task.rewards.claim(who))

    @rule(index=WHO)
    def relay_a_claim(self, index: int) -> None:
        who = customers(N)[index]
        claim = Claim(who.address, PURSE, self.model.nonces[index], now(self.chain) + 1000)
        signature = claim.sign(who, self.task.domain)
        before, owed = self.chain.balance(PURSE), self.model.owed(index)
        self.attempt("relay", (index, claim.nonce), lambda: self.task.rewards.relay(STRANGER, claim, signature))
        assert self.chain.balance(PURSE) - before == owed
        self.claims.append((claim, signature))

    @rule(data=st.data())
    def replay_a_claim(self, data: st.DataObject) -> None:
        if not self.claims:
            return
        claim, signature = data.draw(st.sampled_from(self.claims))
        if claim.deadline <= now(self.chain) + 1:
            return
        index = self.world.addresses.index(claim.customer)
        self.attempt("relay", (index, claim.nonce), lambda: self.task.rewards.relay(STRANGER, claim, signature))

    @rule()
    def reclaim(self) -> None:
        self.attempt("reclaim", (), lambda: self.task.rewards.reclaim(STRANGER))

    @rule(role=st.sampled_from(Role), index=WHO)
    def make_deposit(self, role: Role, index: int) -> None:
        wei = TERMS["deposit"]
        self.attempt("deposit", (role, index), lambda: self.task.deposits.make(self.member(role, index), role, wei))

    @rule(role=st.sampled_from(Role), index=WHO)
    def refund(self, role: Role, index: int) -> None:
        self.attempt("refund", (role, index), lambda: self.task.deposits.refund(self.member(role, index), role))

    @rule(index=WHO, lie=st.booleans())
    def slash_a_customer(self, index: int, lie: bool) -> None:
        one = self.world.receipt(index, self.model.round)
        two = self.world.receipt(index, self.model.round, examples=11 if lie else 10)
        self.attempt(
            "slash", (Role.CUSTOMER, index, lie), lambda: self.task.deposits.slash_customer(STRANGER, one, two)
        )

    @rule(index=WHO, lie=st.sampled_from([False, False, True]))
    def slash_a_miner(self, index: int, lie: bool) -> None:
        one = self.world.call(1)
        two = replace(one, model=digest("lie")) if lie else replace(one, rank=1)
        miner = self.world.miners[index]
        one, two = (replace(call, signatures=(self.world.signature(call, miner),)) for call in (one, two))
        self.attempt("slash", (Role.MINER, index, lie), lambda: self.task.deposits.slash_miner(STRANGER, one, two, N))

    def member(self, role: Role, index: int) -> Any:
        return customers(N)[index] if role is Role.CUSTOMER else self.world.miners[index]

    @invariant()
    def the_contract_is_where_the_model_is(self) -> None:
        if not hasattr(self, "model"):
            return
        state, model = self.task.state(), self.model
        assert (state.phase, state.round, state.skipped) == (model.phase, model.round, model.skipped)
        assert (state.credited, state.finalised) == (model.credited, len(model.finalised))
        assert list(self.task.reputation()) == model.gammas
        assert all(0 <= gamma <= TERMS["gamma_max"] for gamma in model.gammas)
        assert [self.task.rewards.owed(who) for who in self.world.addresses] == [model.owed(i) for i in range(N)]
        assert self.chain.balance(self.task.address) == model.balance
        assert model.paid <= TERMS["reward"]
        self.rounds_are_what_they_were(final=False)

    def rounds_are_what_they_were(self, final: bool) -> None:
        model = self.model
        for round in range(1, model.round + 1):
            if round in self.results and not final:
                continue
            done = self.task.finalised(round)
            assert (done is not None) == (round in model.finalised)
            if done is not None:
                assert (done.honest, done.threshold, done.credited) == model.finalised[round]
                assert self.results.setdefault(round, done) == done  # a finalised round never changes

    def teardown(self) -> None:
        if not hasattr(self, "model"):
            return
        for _ in range(TERMS["rounds"]):
            if not self.task.state().phase.ended:
                set_time(self.chain, now(self.chain) + 1000)
                self.task.expire(STRANGER)
        assert self.task.state().phase in (Phase.COMPLETED, Phase.CANCELLED, Phase.FAILED)
        self.rounds_are_what_they_were(final=True)
        set_time(self.chain, now(self.chain) + 1000)
        for index, who in enumerate(customers(N)):
            if self.task.rewards.owed(who.address):
                self.task.rewards.claim(who)
            for role in Role:
                if self.task.deposits.has(role, self.member(role, index).address):
                    self.task.deposits.refund(self.member(role, index), role)
        if self.chain.balance(self.task.address):
            self.task.rewards.reclaim(STRANGER)
        assert self.chain.balance(self.task.address) == 0


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("histories", [4, pytest.param(15, marks=pytest.mark.long)])
def test_random_histories(chain: Chain, histories: int) -> None:
    run_state_machine_as_test(
        lambda: Histories(chain),
        settings=settings(
            max_examples=histories,
            stateful_step_count=40,
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
