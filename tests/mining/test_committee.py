from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from app.mining.committee import Committee, Decision
from app.mining.miner import Miner, Vote
from app.mining.round import SealedRound
from app.protocol.digest import BlobRef, sha256
from app.protocol.errors import ProtocolError, RoundError, StoreError, StoreUnavailableError
from app.protocol.record import Mark, RoundRecord, Ticket
from app.protocol.verdict import quorum_of


class Silent(Miner):
    """Shows its ticket and then says nothing."""

    def vote(self, sealed: SealedRound, tickets: Sequence[Ticket], rank: int = 0) -> Vote:
        raise StoreUnavailableError("the miner does not answer")


class Absent(Silent):
    """Does not even show a ticket."""

    def ticket(self, sealed: SealedRound) -> Ticket:
        raise StoreUnavailableError("the miner does not answer")


class Lying(Miner):
    """Votes for another model, consistently and well signed."""

    def vote(self, sealed: SealedRound, tickets: Sequence[Ticket], rank: int = 0) -> Vote:
        vote = super().vote(sealed, tickets, rank)
        verdict = replace(vote.verdict, model=sha256(b"mine"))
        return replace(vote, verdict=verdict, model=b"mine", signature=verdict.sign(self.account, sealed.domain))


class Equivocating(Lying):
    """Votes for something else each time it is asked."""

    asked = 0

    def vote(self, sealed: SealedRound, tickets: Sequence[Ticket], rank: int = 0) -> Vote:
        self.asked += 1
        return super().vote(sealed, tickets, rank) if self.asked % 2 else Miner.vote(self, sealed, tickets, rank)


class Thief(Miner):
    """Shows another miner's vote as its own."""

    victim: Miner

    def vote(self, sealed: SealedRound, tickets: Sequence[Ticket], rank: int = 0) -> Vote:
        return self.victim.vote(sealed, tickets, rank)


class Swapping(Miner):
    """Signs what it should and hands out other blobs."""

    def vote(self, sealed: SealedRound, tickets: Sequence[Ticket], rank: int = 0) -> Vote:
        return replace(super().vote(sealed, tickets, rank), model=b"other")


class Usurper(Miner):
    """Always names itself the leader."""

    def vote(self, sealed: SealedRound, tickets: Sequence[Ticket], rank: int = 0) -> Vote:
        vote = super().vote(sealed, tickets, rank)
        verdict = replace(vote.verdict, leader=self.address)
        return replace(vote, verdict=verdict, signature=verdict.sign(self.account, sealed.domain))


class Broken(Miner):
    """Votes with members that no verdict can have."""

    def vote(self, sealed: SealedRound, tickets: Sequence[Ticket], rank: int = 0) -> Vote:
        vote = super().vote(sealed, tickets, rank)
        return replace(vote, verdict=replace(vote.verdict, honest=(0, 10**6)))


class Withholding(Miner):
    """Agrees, but publishes nothing."""

    def publish(self, vote: Vote) -> tuple[BlobRef, BlobRef]:
        raise StoreError("the disk is full")


class Misplacing(Miner):
    """Agrees, but publishes something else."""

    def publish(self, vote: Vote) -> tuple[BlobRef, BlobRef]:
        record, _ = super().publish(vote)
        return record, record


BYZANTINE = [Silent, Absent, Lying, Equivocating, Swapping, Usurper, Broken, Thief]


def _with(world, sealed: SealedRound, *kinds: type[Miner], places: Sequence[int]) -> list[Miner]:
    """Return the miners, those at the given places of the ranking replaced."""
    miners = world.miners()
    reference = miners[0].vote(sealed, [miner.ticket(sealed) for miner in miners])
    ranking = [candidate.miner for candidate in RoundRecord.from_bytes(reference.record).election.candidates]
    for kind, place in zip(kinds, places, strict=True):
        index = next(i for i, miner in enumerate(miners) if miner.address == ranking[place])
        miners[index] = kind(world.miner_accounts[index], world.secrets[index], world.store)
        if isinstance(miners[index], Thief):
            miners[index].victim = miners[index - 1]
    return miners


def _check(world, sealed: SealedRound, decision: Decision) -> None:
    """Whatever went on: this is the honest outcome, a quorum signed it, and its blobs are there."""
    honest = world.miners()[0]
    outcome = honest.vote(sealed, [honest.ticket(sealed)])
    assert decision.verdict.model == sha256(outcome.model)
    assert decision.verdict.honest == outcome.verdict.honest
    signers = [decision.verdict.signer(signature, sealed.domain) for signature in decision.signatures]
    numbers = [int(signer, 16) for signer in signers]
    assert numbers == sorted(set(numbers))
    assert set(signers) <= {seat.miner for seat in sealed.miners}
    assert len(signers) >= quorum_of(len(sealed.miners))
    assert decision.leader.address == decision.verdict.leader
    assert decision.verdict.leader in signers
    assert not set(signers) & set(decision.dissent)
    assert (decision.record, decision.model.sha256) == (decision.verdict.record, decision.verdict.model)
    record = RoundRecord.from_bytes(world.store.get(decision.record, 10**6))
    assert record.evaluation.customers == decision.entries
    assert sha256(world.store.get(decision.model, 10**6)) == decision.verdict.model


def test_four_honest_miners(world) -> None:
    sealed = world.seal({i: world.update(i, -3 if i == 4 else 1) for i in range(10)}, round_number=3)
    decision = Committee(world.miners()).decide(sealed)
    _check(world, sealed, decision)
    assert len(decision.signatures) == 4
    assert decision.dissent == {}
    assert not decision.void
    assert [entry.index for entry in decision.entries if entry.mark is Mark.L] == [4]
    assert world.store.names[-2:] == ["round-0003/record", "round-0003/model"]
    assert min(decision.store_seconds, decision.compute_seconds) > 0


@pytest.mark.parametrize("kind", BYZANTINE)
@pytest.mark.parametrize("place", [0, 1, 3])
def test_one_byzantine_miner_of_four_changes_nothing(world, kind: type[Miner], place: int) -> None:
    sealed = world.seal()
    miners = _with(world, sealed, kind, places=[place])
    traitor = next(miner for miner in miners if type(miner) is kind)
    decision = Committee(miners).decide(sealed)
    _check(world, sealed, decision)
    # A usurper that is elected is the leader; an equivocator whose turn is over agrees with the next leader.
    agrees = place == 0 and kind in (Usurper, Equivocating)
    assert (traitor.address in decision.dissent) != agrees
    assert len(decision.signatures) == 3 + agrees
    assert (decision.leader.address == traitor.address) == (place == 0 and kind is Usurper)


@pytest.mark.parametrize("kind", [Withholding, Misplacing])
def test_a_leader_that_does_not_publish_gives_way(world, kind: type[Miner]) -> None:
    sealed = world.seal()
    miners = _with(world, sealed, kind, places=[0])
    traitor = next(miner for miner in miners if type(miner) is kind)
    decision = Committee(miners).decide(sealed)
    _check(world, sealed, decision)
    assert decision.leader.address != traitor.address
    election = RoundRecord.from_bytes(world.store.get(decision.record, 10**6)).election
    assert election.leader == election.candidates[1].miner
    assert election.candidates[0].miner == traitor.address


@pytest.mark.parametrize("kind", BYZANTINE)
def test_two_byzantine_miners_of_four_stop_the_round(world, kind: type[Miner]) -> None:
    sealed = world.seal()
    miners = _with(world, sealed, kind, kind, places=[1, 3])
    before = list(world.store.names)
    with pytest.raises(RoundError, match=r"no quorum, 3 of 4 miners must agree; votes: ") as caught:
        Committee(miners).decide(sealed)
    assert "\n" not in str(caught.value)
    assert world.store.names == before


def test_the_error_names_counts_and_digests(world) -> None:
    sealed = world.seal()
    miners = _with(world, sealed, Lying, Silent, places=[1, 2])
    with pytest.raises(RoundError, match=r"1 for 0x[0-9a-f]{64}") as caught:
        Committee(miners).decide(sealed)
    assert "2 for 0x" in str(caught.value)
    assert "the miner does not answer" in str(caught.value)


def test_nobody_answers(world) -> None:
    sealed = world.seal()
    miners = _with(world, sealed, *[Absent] * 4, places=range(4))
    with pytest.raises(RoundError, match=r"no leader is left\. 4 miners failed: the miner does not answer"):
        Committee(miners).decide(sealed)


def test_all_leaders_withhold(world) -> None:
    sealed = world.seal()
    with pytest.raises(RoundError, match=r"no leader is left.*disk is full"):
        Committee(_with(world, sealed, *[Withholding] * 4, places=range(4))).decide(sealed)


def test_a_void_seal_is_told_as_it_is(world) -> None:
    sealed = world.seal(tweaks={3: lambda sent: replace(sent, signer=4)})
    with pytest.raises(RoundError, match="void seal: a receipt is not signed by the customer it names"):
        Committee(world.miners()).decide(sealed)


def test_a_void_round_is_decided_too(world) -> None:
    sealed = world.seal({i: world.update(i) for i in range(4)})
    decision = Committee(world.miners()).decide(sealed)
    _check(world, sealed, decision)
    assert decision.void
    assert decision.model.sha256 == world.model.sha256


def test_the_quorum_is_that_of_the_chain(world) -> None:
    """Two of the four miners run in this committee: they alone are no quorum."""
    with pytest.raises(RoundError, match="3 of 4 miners must agree"):
        Committee(world.miners()[:2]).decide(world.seal())


def test_strangers_do_not_count(world, make_world) -> None:
    """Three of the seven in the committee are unknown to the chain, and vote as one."""
    sealed = world.seal()
    strangers = make_world(miners=7).miners()[4:]
    decision = Committee([*strangers, *world.miners()]).decide(sealed)
    _check(world, sealed, decision)
    assert len(decision.signatures) == 4


def test_seven_miners_tolerate_two(make_world) -> None:
    world = make_world(miners=7)
    sealed = world.seal()
    decision = Committee(_with(world, sealed, Silent, Lying, places=[0, 1])).decide(sealed)
    _check(world, sealed, decision)
    assert len(decision.signatures) == 5
    assert len(decision.dissent) == 2


def test_one_miner_is_its_own_quorum(make_world) -> None:
    world = make_world(miners=1)
    sealed = world.seal()
    _check(world, sealed, Committee(world.miners()).decide(sealed))


def test_miners_have_accounts_of_their_own(world) -> None:
    miner = world.miners()[0]
    with pytest.raises(ProtocolError, match="account of its own"):
        Committee([miner, miner])


def test_any_order_of_miners_and_receipts_gives_the_same_verdict(world) -> None:
    updates = {i: world.update(i) for i in range(10)}
    one = Committee(world.miners()).decide(world.seal(updates))
    other = Committee(world.miners()[::-1]).decide(world.seal({i: updates[i] for i in reversed(range(10))}))
    assert one.verdict == other.verdict
    assert one.signatures == other.signatures


def test_the_chain_of_seeds_changes_leaders(world) -> None:
    """Six rounds, each on the seed that the last one left."""
    sealed, committee, leaders = world.seal(), Committee(world.miners()), set()
    for _ in range(6):
        decision = committee.decide(sealed)
        leaders.add(decision.verdict.leader)
        assert decision.verdict.seed != sealed.seed
        sealed = replace(sealed, seed=decision.verdict.seed)
    assert len(leaders) >= 2


def test_the_new_model_is_the_next_rounds_model(world) -> None:
    first = Committee(world.miners()).decide(world.seal())
    world.model = first.model
    sealed = world.seal(round_number=2)
    second = Committee(world.miners()).decide(sealed)
    _check(world, sealed, second)
    assert second.model != first.model
    assert np.array_equal(sealed.participants, range(10))
