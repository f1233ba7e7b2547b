"""Miners as processes of their own would be: each with its service, on a real chain, and nobody above them."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest
from byzantine import Idle, Lying

from app.ledger.chain import Chain, embedded_chain
from app.ledger.docket import TaskDocket
from app.ledger.task_ledger import Phase, TaskLedger, TaskTerms
from app.mining.daemon import MinerDaemon
from app.mining.distant import DistantCommittee
from app.mining.election import electorate, rank
from app.mining.follower import Follower
from app.mining.messages import SERVICE, Question
from app.mining.miner import Miner
from app.mining.outcome import evaluate
from app.mining.peer import Peer
from app.mining.promises import Promises
from app.mining.round import SealedRound
from app.protocol.digest import sha256
from app.protocol.errors import (
    BlobMissingError,
    ProtocolError,
    RoundError,
    ServiceError,
    ServiceUnavailableError,
    StoreError,
)
from app.protocol.keys import simulation_account
from app.service.client import Client
from app.service.listen import ListenConfig
from app.service.metrics import Metrics
from app.service.server import Server

MANUFACTURER = simulation_account(7, "manufacturer")
LISTEN = ListenConfig("127.0.0.1:0", None, None, 2**20, 10_000, 8, None)


class Miners:
    """The task of the tests' world on an embedded chain, and daemons that mine it."""

    def __init__(self, world, chain: Chain, **terms: int) -> None:
        self.world, self.stack = world, ExitStack()
        seed = sha256(b"genesis")
        given = {"leader_window": 60} | terms
        fixed = TaskTerms(world.policy.digest, world.model.sha256, seed, 3, 2, 5, 10, **given)
        self.ledger = TaskLedger.publish(chain, MANUFACTURER, fixed, world.customers, world.seal().miners)
        world.domain, world.docket = self.ledger.domain, TaskDocket(self.ledger, MANUFACTURER)
        self.daemons: dict[int, MinerDaemon] = {}
        self.servers: dict[int, Server] = {}
        self.ahead = 0.0

    def start(self, *indices: int, kind: type[Miner] = Miner, promises: Path | None = None) -> None:
        """Start miners; each gets to know all that run, and they get to know it."""
        for index in indices:
            account, secret = self.world.miner_accounts[index], self.world.secrets[index]
            kept = Promises(promises) if promises else None
            miner = kind(account, secret, self.world.store, TaskDocket(self.ledger, account), kept)
            follower = Follower(self.ledger, self.world.store, self.world.policy)
            clock = lambda: time.time() + self.ahead  # noqa: E731
            daemon = MinerDaemon(miner, [], self.ledger, follower, Metrics("miner"), clock=clock)
            server = Server(SERVICE, daemon.methods, LISTEN, Metrics("miner"))
            server.start()
            self.stack.callback(server.stop, 0)
            self.daemons[index], self.servers[index] = daemon, server
        for index, daemon in self.daemons.items():
            daemon._peers = [
                Peer(self.world.miner_accounts[other].address, self.client(other), 60.0)
                for other in self.daemons
                if other != index
            ]

    def client(self, index: int) -> Client:
        return Client(SERVICE, self.servers[index].address, None, key="peer", patience=0.5)

    def seal(self, round_number: int) -> SealedRound:
        sealed = self.world.seal(round_number=round_number, reputation=self.ledger.reputation())
        self.ledger.seal(MANUFACTURER, round_number, sealed.root, sealed.manifest, sealed.participants)
        return replace(sealed, seed=self.ledger.state().seed, earlier=self.follower()._history.before(round_number))

    def follower(self) -> Follower:
        return Follower(self.ledger, self.world.store, self.world.policy)

    def ranking(self, sealed: SealedRound) -> list[int]:
        """Return the miners' indices by rank."""
        tickets = [miner.ticket(sealed) for miner in self.world.miners()]
        addresses = [account.address for account in self.world.miner_accounts]
        return [addresses.index(candidate.miner) for candidate in rank(tickets, electorate(sealed))]

    def put_forward(self, seconds: int) -> None:
        """Let so many seconds go by since the seal (the chain may be a little ahead of the time of day)."""
        self.ahead = self.ledger.state().since + seconds + 1 - time.time()

    def mine(self, round_number: int, *indices: int, steps: int = 20) -> None:
        """Let daemons look at the chain side by side until the round is over."""

        def work(daemon: MinerDaemon) -> None:
            for _ in range(steps):
                daemon.step()
                if self.ledger.finalised(round_number) is not None:
                    return
                daemon._not_before = 0.0
                time.sleep(0.02)

        chosen = [self.daemons[index] for index in indices or self.daemons]
        with ThreadPoolExecutor(len(chosen)) as pool:
            list(pool.map(work, chosen))


@pytest.fixture
def make(make_world, tmp_path: Path) -> Iterator[object]:
    made: list[Miners] = []

    def build(**terms: int) -> Miners:
        world = make_world()
        members = [MANUFACTURER, *world.accounts, *world.miner_accounts]
        path = tmp_path / f"chain-{len(made)}.sqlite"
        chain = embedded_chain(path, funded={who.address: 10**18 for who in members})
        made.append(Miners(world, chain, **terms))
        return made[-1]

    yield build
    for miners in made:
        miners.stack.close()
        miners.ledger.chain.close()


def test_miners_finalise_round_after_round_and_nobody_tells_them_the_model(make) -> None:
    miners = make()
    miners.start(0, 1, 2, 3)
    for number in (1, 2):
        sealed = miners.seal(number)
        outcome = evaluate(sealed, miners.world.store)
        miners.mine(number)
        done = miners.ledger.finalised(number)
        assert (done.model, done.rank, len(done.signers)) == (sha256(outcome.model), 0, 4)
        assert done.leader == miners.world.miner_accounts[miners.ranking(sealed)[0]].address
        miners.world.model = miners.world.store.put(outcome.model)


def test_a_miner_that_is_away_is_done_without_and_finds_its_way_back(make) -> None:
    miners = make()
    sealed = miners.seal(1)
    away, *there = miners.ranking(sealed)
    miners.start(*there)
    miners.mine(1)
    done = miners.ledger.finalised(1)
    assert sorted(done.signers) == sorted(there)
    assert done.rank == 0  # it showed no ticket: the next one is first

    miners.world.model = miners.world.store.put(evaluate(sealed, miners.world.store).model)
    miners.start(away)  # it has seen nothing of round 1
    second = miners.seal(2)
    miners.mine(2)
    assert len(miners.ledger.finalised(2).signers) == 4
    assert miners.ledger.finalised(2).model == sha256(evaluate(second, miners.world.store).model)


def test_a_leader_that_does_not_finalise_gives_way_after_its_window(make) -> None:
    miners = make()
    sealed = miners.seal(1)
    first, *others = miners.ranking(sealed)
    miners.start(first, kind=Idle)
    miners.start(*others)
    miners.mine(1, steps=3)
    assert miners.ledger.finalised(1) is None  # nobody else's turn has come
    miners.put_forward(60)
    miners.mine(1)
    done = miners.ledger.finalised(1)
    assert (done.rank, done.leader) == (1, miners.world.miner_accounts[others[0]].address)


@pytest.mark.parametrize("place", [0, 2])
def test_a_lying_miner_changes_nothing(make, place: int) -> None:
    miners = make()
    sealed = miners.seal(1)
    ranking = miners.ranking(sealed)
    miners.start(ranking[place], kind=Lying)
    miners.start(*(index for index in ranking if index != ranking[place]))
    if place == 0:
        miners.put_forward(60)
    miners.mine(1)
    done = miners.ledger.finalised(1)
    assert done.model == sha256(evaluate(sealed, miners.world.store).model)
    assert ranking[place] not in done.signers
    assert done.rank == (1 if place == 0 else 0)


def test_without_a_quorum_nothing_is_finalised(make) -> None:
    miners = make()
    miners.seal(1)
    miners.start(0, 1)
    miners.mine(1, steps=2)
    assert miners.ledger.finalised(1) is None
    assert miners.ledger.state().phase is Phase.SEALED
    miners.start(2, 3)
    miners.mine(1)
    assert miners.ledger.finalised(1) is not None


def test_a_store_that_is_away_is_waited_for(make) -> None:
    miners = make()
    miners.start(0, 1, 2, 3)
    miners.seal(1)
    miners.world.store.down = True
    stopped, health = threading.Event(), []

    def well(fine: bool) -> None:
        health.append(fine)
        if not fine and len(health) > 2:
            stopped.set()

    assert not miners.daemons[0].run(stopped, 0.01, well)
    assert not any(health)
    miners.world.store.down = False
    miners.mine(1)
    assert miners.ledger.finalised(1) is not None


def test_a_finished_task_ends_the_work(make) -> None:
    miners = make()
    miners.start(0, 1, 2, 3)
    miners.ledger.cancel(MANUFACTURER)
    assert miners.daemons[0].run(threading.Event(), 0.01)


def test_the_manufacturer_goes_on_with_what_distant_miners_finalised(make) -> None:
    miners = make()
    miners.start(0, 1, 2)
    sealed = miners.seal(1)
    waiting = DistantCommittee(miners.ledger, miners.world.store, MANUFACTURER, 0.01)
    worker = threading.Thread(target=miners.mine, args=(1,))
    worker.start()
    decision = waiting.decide(sealed)
    worker.join()
    outcome = evaluate(sealed, miners.world.store)
    assert decision.model.sha256 == sha256(outcome.model)
    assert decision.entries == outcome.evaluation.customers
    assert decision.dissent == {miners.world.miner_accounts[3].address: "did not sign"}
    assert decision.verdict.leader == miners.ledger.finalised(1).leader


def test_a_round_without_a_verdict_is_ended_when_its_time_is_over(make, monkeypatch: pytest.MonkeyPatch) -> None:
    miners = make(finalise_window=100, skips=1)
    sealed = miners.seal(1)
    late = time.time() + 200
    monkeypatch.setattr("app.mining.distant.time.time", lambda: late)
    miners.ledger.chain.wait_until(int(late))  # an embedded chain's clock is put forward
    with pytest.raises(RoundError, match="found no verdict in time, and the round was ended on chain"):
        DistantCommittee(miners.ledger, miners.world.store, MANUFACTURER, 0.01).decide(sealed)
    assert miners.ledger.expired(1) is not None
    with pytest.raises(RoundError, match="round 1 ended without a verdict"):
        DistantCommittee(miners.ledger, miners.world.store, MANUFACTURER, 0.01).decide(sealed)


def test_a_model_that_the_updates_do_not_make_stops_the_manufacturer(make) -> None:
    miners = make()
    miners.start(0, 1, 2, 3)
    sealed = miners.seal(1)
    miners.mine(1)
    other = miners.world.seal({i: miners.world.update(i, 2.0) for i in range(10)})
    with pytest.raises(RoundError, match="the miners finalised model 0x"):
        DistantCommittee(miners.ledger, miners.world.store, MANUFACTURER, 0.01).decide(
            replace(other, seed=sealed.seed, root=other.root)
        )


def test_questions_that_make_no_sense_are_refused_and_cost_nothing(make) -> None:
    miners = make()
    sealed = miners.seal(1)
    miners.start(0)
    miners.daemons[0].step()
    client = miners.client(0)
    with pytest.raises(ServiceError, match="must be JSON"):
        client.call("Ticket", b"\xff\x00", timeout=5)
    with pytest.raises(ServiceError, match="another task"):
        client.call("Ticket", replace(Question.about(sealed), task=bytes(32)).to_bytes(), timeout=5)
    with pytest.raises(ServiceUnavailableError, match="does not see round 1 as sealed so"):
        client.call("Ticket", replace(Question.about(sealed), root=bytes(32)).to_bytes(), timeout=5)
    with pytest.raises(ServiceError, match="missing or not valid"):
        client.call("Vote", Question.about(sealed).to_bytes(), timeout=5)
    with pytest.raises(ServiceUnavailableError, match="does not answer"):
        client.call("Ticket", bytes(2**20 + 1), timeout=5)
    with pytest.raises(ServiceError, match="Method not found"):
        client.call("Nonsense", b"", timeout=5)
    assert client.call("Ticket", Question.about(sealed).to_bytes(), timeout=5)


def test_a_peer_that_shows_anothers_ticket_is_not_believed(make) -> None:
    miners = make()
    sealed = miners.seal(1)
    miners.start(0)
    miners.daemons[0].step()
    with pytest.raises(ProtocolError, match="it shows a ticket of"):
        Peer(miners.world.miner_accounts[1].address, miners.client(0), 5.0).ticket(sealed)


class Forgetful:
    """A store that lacks one blob at first."""

    def __init__(self, store, cid: str) -> None:
        self.store, self.cid, self.lacks = store, cid, True

    def get(self, ref, max_bytes):
        if self.lacks and ref.cid == self.cid:
            raise BlobMissingError("not yet")
        return self.store.get(ref, max_bytes)

    def put(self, data, name=""):
        return self.store.put(data, name)


def test_a_restarted_miner_does_not_contradict_itself(make, tmp_path: Path) -> None:
    """A blob was missing when it signed, and is there when it starts anew: another outcome, which it does not sign."""
    miners = make()
    sealed, world = miners.seal(1), miners.world
    update = world.submission(3, world.update(3)).receipt
    forgetful, kept = Forgetful(world.store, update.cid), tmp_path / "promises.jsonl"

    def miner() -> Miner:
        return Miner(world.miner_accounts[0], world.secrets[0], forgetful, world.docket, Promises(kept))

    first = miner()
    vote = first.vote(sealed, [first.ticket(sealed)])
    assert 3 not in vote.verdict.honest
    forgetful.lacks = False
    again = miner()
    with pytest.raises(RoundError, match="does not contradict itself"):
        again.vote(sealed, [again.ticket(sealed)])
    forgetful.lacks = True
    same = miner()
    assert same.vote(sealed, [same.ticket(sealed)]).verdict == vote.verdict
    assert kept.stat().st_mode & 0o077 == 0


def test_promises_survive_half_a_line_and_refuse_what_is_none(make, tmp_path: Path) -> None:
    miners = make()
    sealed, world = miners.seal(1), miners.world
    path = tmp_path / "promises.jsonl"
    miner = Miner(world.miner_accounts[0], world.secrets[0], world.store, world.docket, Promises(path))
    verdict = miner.vote(sealed, [miner.ticket(sealed)]).verdict
    whole = path.read_bytes()
    path.write_bytes(whole + whole[:20])  # the power went while a second line was written
    Promises(path).keep(verdict)
    assert path.read_bytes() == whole
    Promises(path).keep(replace(verdict, round=2))
    assert len(path.read_bytes().splitlines()) == 2
    with pytest.raises(RoundError):
        Promises(path).keep(replace(verdict, honest=verdict.honest[1:]))
    path.write_bytes(b"{}\n" + whole)
    with pytest.raises(StoreError, match="line 1 is no promise"):
        Promises(path)
