"""One party against all others: whatever it calls, and whenever, the task goes on or ends by its deadlines.

The others do their duty and no more. The manufacturer seals once the submission window is over, with everybody who may
take part; the miners finalise in the turns of their ranks; a stranger with no interest calls `expire` at a deadline.
The hostile party is one of these, or a customer. It stops doing its duty, and before each step of the others it makes
any calls of its own, with everything that it alone can sign. It may use a second account, to accuse itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from task_world import MANUFACTURER, STRANGER, World, blob, customers, digest, funded, now, set_time

from app.ledger.chain import Chain, embedded_chain
from app.ledger.deposits import Role
from app.ledger.task_ledger import Phase
from app.protocol.errors import ContractRevertedError

N, M, ROUNDS = 4, 4, 2
SUBMISSION, SEAL, LEADER, FINALISE = 100, 1000, 50, 500
TERMS = {
    "rounds": ROUNDS,
    "f": 0,
    "gamma_initial": 1,
    "gamma_max": 3,
    "reward": 10_007,
    "deposit": 1001,
    "submission_window": SUBMISSION,
    "seal_window": SEAL,
    "leader_window": LEADER,
    "finalise_window": FINALISE,
    "skips": ROUNDS,
}
HOSTILE = ["manufacturer", "customer", "miner", "stranger"]


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chain]:
    path = tmp_path_factory.mktemp("liveness") / "chain.sqlite"
    chain = embedded_chain(path, funded=funded(N, M), genesis_time=1_700_000_000)
    yield chain
    chain.close()


class Siege:
    """A task in which one party is hostile."""

    def __init__(self, chain: Chain, hostile: str) -> None:
        self.chain, self.hostile = chain, hostile
        set_time(chain, now(chain))
        self.world = World(chain, n=N, m=M, **TERMS)
        self.task = self.world.task
        for role, members in ((Role.CUSTOMER, customers(N)), (Role.MINER, self.world.miners)):
            for member in members:
                self.task.deposits.make(member, role, TERMS["deposit"])
        self.began = now(chain)

    @property
    def attacker(self) -> Any:
        """The hostile party's account; the hostile miner is the first leader, the hostile customer the last one."""
        accounts = {"manufacturer": MANUFACTURER, "customer": customers(N)[N - 1], "miner": self.world.miners[0]}
        return accounts.get(self.hostile, STRANGER)

    def attacks(self) -> list[Callable[[], Any]]:
        """All that the hostile party can call, with everything that it can sign."""
        who, task, world, round = self.attacker, self.task, self.world, self.task.state().round
        mine = world.call(round, signatures=())
        mine = replace(mine, leader=who.address, signatures=(world.signature(mine, who),))
        calls: list[Callable[[], Any]] = [
            lambda: task.expire(who),
            lambda: task.cancel(who),
            lambda: task.open(who),
            lambda: task.rewards.claim(who),
            lambda: task.rewards.reclaim(who),
            lambda: task.finalise(who, mine),
            lambda: task.seal(who, round, digest("other"), blob("other"), [0]),
            lambda: task.seal(who, round, digest("other"), blob("other"), range(N)),
            *(lambda role=role: task.deposits.make(who, role, TERMS["deposit"]) for role in Role),
            *(lambda role=role: task.deposits.refund(who, role) for role in Role),
        ]
        if self.hostile == "customer":
            one, two = (world.receipt(N - 1, round, examples=examples) for examples in (1, 2))
            calls += [lambda: task.submit(who, one), lambda: task.submit(who, two)] * 2
            calls.append(lambda: task.deposits.slash_customer(STRANGER, one, two))
        if self.hostile == "miner":
            two = replace(mine, model=digest("lie"))
            two = replace(two, signatures=(world.signature(two, who),))
            calls.append(lambda: task.deposits.slash_miner(STRANGER, mine, two, N))
        return calls

    def attack(self, choices: list[int]) -> None:
        for choice in choices:
            calls = self.attacks()
            with suppress(ContractRevertedError):  # it tried
                calls[choice % len(calls)]()

    def duty(self, intrude: Callable[[], None]) -> None:
        """Let the others do what is due next; ``intrude`` runs after each wait, before they act."""
        state = self.task.state()
        deadline = state.since + (SEAL if state.phase is Phase.COLLECTION else FINALISE)
        if state.phase is Phase.COLLECTION and self.hostile != "manufacturer":
            self.until(state.since + SUBMISSION)
            intrude()
            if self.done(lambda: self.seal(state.round)) or self.done(lambda: self.seal(state.round)):
                return  # the second attempt is for what the attacker changed in between
        if state.phase is Phase.SEALED:
            for rank in range(2):
                if rank == 0 and self.hostile == "miner":
                    continue  # it leads, and withholds
                self.until(state.since + rank * LEADER)
                intrude()
                if self.task.state() != state and self.task.state().phase is not Phase.SEALED:
                    return
                if self.done(lambda rank=rank: self.finalise(state.round, rank)):
                    return
        self.until(deadline)
        intrude()
        self.done(lambda: self.task.expire(STRANGER))

    def seal(self, round: int) -> None:
        present = [i for i, who in enumerate(customers(N)) if self.task.deposits.has(Role.CUSTOMER, who.address)]
        self.world.seal(round, present)

    def finalise(self, round: int, rank: int) -> None:
        """The honest miners sign whatever was sealed: of a hostile manufacturer's seal they have the event."""
        sealed = self.task.sealed(round)
        assert sealed is not None
        able = [who for who in self.world.miners if self.task.deposits.has(Role.MINER, who.address)]
        able = [who for who in able if self.hostile != "miner" or who is not self.attacker]
        leader = able[0]
        values = {"root": sealed.root, "manifest": sealed.manifest.sha256, "rank": rank, "leader": leader.address}
        call = self.world.call(round, sealed.participants, **values)
        self.task.finalise(leader, replace(call, signatures=self.world.sign(call, able)))

    def until(self, moment: int) -> None:
        set_time(self.chain, max(moment, now(self.chain) + 1))

    def done(self, act: Callable[[], Any]) -> bool:
        try:
            act()
        except ContractRevertedError:
            return False
        return True


def play(chain: Chain, hostile: str, script: list[list[int]]) -> None:
    siege, steps = Siege(chain, hostile), iter(script)
    held = TERMS["reward"] + (N + M) * TERMS["deposit"]
    assert chain.balance(siege.task.address) == held
    for _ in range(3 * ROUNDS):
        if siege.task.state().phase.ended:
            break
        siege.duty(lambda: siege.attack(next(steps, [])))
    state = siege.task.state()
    assert state.phase.ended, state
    slack = 60  # a block takes a second here
    assert state.since <= siege.began + ROUNDS * (SEAL + FINALISE) + slack
    if hostile != "manufacturer":  # nobody else can even cost the task a round
        assert (state.phase, state.finalised, state.skipped) == (Phase.COMPLETED, ROUNDS, 0)
    settle(siege)


def settle(siege: Siege) -> None:
    """Everything in the task is somebody's, and everybody gets it: to the last wei."""
    set_time(siege.chain, now(siege.chain) + FINALISE)
    task = siege.task
    for who in customers(N):
        if task.rewards.owed(who.address):
            task.rewards.claim(who)
    for role, members in ((Role.CUSTOMER, customers(N)), (Role.MINER, siege.world.miners)):
        for who in members:
            if task.deposits.has(role, who.address):
                task.deposits.refund(who, role)
    if siege.chain.balance(task.address):
        task.rewards.reclaim(STRANGER)
    assert siege.chain.balance(task.address) == 0


SCRIPTS = st.lists(st.lists(st.integers(0, 1000), max_size=4), max_size=8)
QUIET = {"deadline": None, "derandomize": True, "database": None, "suppress_health_check": list(HealthCheck)}


@pytest.mark.parametrize("hostile", ["manufacturer", "miner"])
def test_silence_of_one_party_blocks_nothing(chain: Chain, hostile: str) -> None:
    play(chain, hostile, [])


def test_a_customer_that_leaves_and_returns_stops_no_seal(chain: Chain) -> None:
    """It submits, so that it must be in; then it has itself slashed, so that it may not; and then wants back in."""
    siege = Siege(chain, "customer")
    names = {"submit": 12, "slash": 16, "deposit": 8}
    play(chain, "customer", [[names["submit"], names["slash"]], [names["deposit"]]])
    siege.attack([names["submit"], names["slash"]])
    assert not siege.task.deposits.has(Role.CUSTOMER, siege.attacker.address)  # the script does what it says
    siege.attack([names["deposit"]])
    assert not siege.task.deposits.has(Role.CUSTOMER, siege.attacker.address)


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("hostile", HOSTILE)
def test_no_sequence_of_calls_by_one_party_blocks_the_task(chain: Chain, hostile: str) -> None:
    @settings(max_examples=4, **QUIET)
    @given(SCRIPTS)
    def check(script: list[list[int]]) -> None:
        play(chain, hostile, script)

    check()
