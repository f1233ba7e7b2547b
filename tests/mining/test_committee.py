from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from byzantine import (
    Absent,
    Broke,
    Broken,
    Equivocating,
    Idle,
    Lying,
    Misplacing,
    Overtaken,
    Silent,
    Slow,
    Swapping,
    Thief,
    Usurper,
    Withholding,
    with_byzantine,
)

from app.mining.committee import Committee, Decision
from app.mining.election import electorate, rank
from app.mining.miner import Miner
from app.mining.round import SealedRound
from app.protocol.digest import sha256
from app.protocol.errors import ProtocolError, RoundError
from app.protocol.evaluation import Mark
from app.protocol.record import RoundRecord
from app.protocol.verdict import contradict, quorum_of

BYZANTINE = [Silent, Absent, Lying, Equivocating, Usurper, Broken, Thief]


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
    assert decision.verdict.leader in signers
    done = world.docket.finalised(sealed.round)
    assert (done.leader, done.model, done.record) == (decision.verdict.leader, decision.verdict.model, decision.record)
    assert decision.gas == done.gas
    assert (decision.record, decision.model.sha256) == (decision.verdict.record, decision.verdict.model)
    record = RoundRecord.from_bytes(world.store.get(decision.record, 10**6))
    assert record.evaluation.customers == decision.entries
    assert sha256(world.store.get(decision.model, 10**6)) == decision.verdict.model


def test_four_honest_miners(world) -> None:
    sealed = world.seal({i: world.update(i, -3 if i == 4 else 1) for i in range(10)}, round_number=3)
    decision = Committee(world.miners(), world.docket).decide(sealed)
    _check(world, sealed, decision)
    assert len(decision.signatures) == 4
    assert decision.dissent == {}
    assert not decision.void
    assert [entry.index for entry in decision.entries if entry.mark is Mark.L] == [4]
    task = world.policy.digest[:8].hex()
    assert world.store.names[-2:] == [f"{task}/round-0003/record", f"{task}/round-0003/model"]


@pytest.mark.parametrize("kind", BYZANTINE)
@pytest.mark.parametrize("place", [0, 1, 3])
def test_one_byzantine_miner_of_four_changes_nothing(world, kind: type[Miner], place: int) -> None:
    sealed = world.seal()
    miners = with_byzantine(world, sealed, kind, places=[place])
    traitor = next(miner for miner in miners if type(miner) is kind)
    decision = Committee(miners, world.docket).decide(sealed)
    _check(world, sealed, decision)
    # A usurper that is elected is the leader; an equivocator whose turn is over agrees with the next leader: too late.
    agrees = place == 0 and kind in (Usurper, Equivocating)
    assert (traitor.address in decision.dissent) == (not agrees or kind is Equivocating)
    assert len(decision.signatures) == 3 + agrees
    assert (decision.verdict.leader == traitor.address) == (place == 0 and kind is Usurper)


@pytest.mark.parametrize("kind", [Withholding, Misplacing, Swapping, Idle, Broke])
def test_a_leader_that_does_not_finalise_gives_way(world, kind: type[Miner]) -> None:
    sealed = world.seal()
    miners = with_byzantine(world, sealed, kind, places=[0])
    traitor = next(miner for miner in miners if type(miner) is kind)
    decision = Committee(miners, world.docket).decide(sealed)
    _check(world, sealed, decision)
    assert decision.verdict.leader != traitor.address
    election = RoundRecord.from_bytes(world.store.get(decision.record, 10**6)).election
    assert election.leader == election.candidates[1].miner
    assert election.candidates[0].miner == traitor.address
    assert world.docket.turns == [1]
    assert len(decision.signatures) == 4  # it agreed, and its vote counts
    assert "finalise" in decision.dissent[traitor.address]
    assert world.docket.accused == []  # two leaders, two verdicts of every miner: no contradiction


def test_a_transaction_that_comes_late_counts(world) -> None:
    sealed = world.seal()
    decision = Committee(with_byzantine(world, sealed, Slow, Overtaken, places=[0, 1]), world.docket).decide(sealed)
    _check(world, sealed, decision)
    assert decision.verdict.rank == 0
    assert decision.dissent == {}


def test_a_verdict_from_elsewhere_is_not_ours(world) -> None:
    """Another committee of the same miners was faster: this one does not pass its own blobs off as finalised."""
    sealed = world.seal()
    other = Committee(world.miners(), world.docket).decide(sealed)
    world.docket.rounds[1] = replace(world.docket.rounds[1], record=replace(other.record, sha256=sha256(b"theirs")))
    with pytest.raises(RoundError, match="not this committee's"):
        Committee(world.miners(), world.docket).decide(sealed)


def test_who_has_no_deposit_neither_votes_nor_leads(world) -> None:
    sealed = world.seal()
    ranking = [c.miner for c in rank([miner.ticket(sealed) for miner in world.miners()], electorate(sealed))]
    world.docket.without_deposit = frozenset(ranking[:1])
    decision = Committee(world.miners(), world.docket).decide(sealed)
    _check(world, sealed, decision)
    assert decision.verdict.leader == ranking[1]
    assert decision.dissent == {ranking[0]: "has no deposit"}
    world.docket.without_deposit = frozenset(ranking[:2])
    with pytest.raises(RoundError, match=r"no quorum, 3 of 4 miners must agree.*has no deposit"):
        Committee(world.miners(), world.docket).decide(world.seal())


@pytest.mark.parametrize("fails", [False, True])
def test_an_equivocator_is_reported_with_proof(world, fails: bool) -> None:
    """Also where the round fails: the rest of the leaders idle."""
    sealed = world.seal()
    kinds = [Equivocating, *([Idle] * 3 if fails else [])]
    miners = with_byzantine(world, sealed, *kinds, places=range(len(kinds)))
    traitor = next(miner for miner in miners if type(miner) is Equivocating)
    if fails:
        with pytest.raises(RoundError, match="no leader is left"):
            Committee(miners, world.docket).decide(sealed)
    else:
        decision = Committee(miners, world.docket).decide(sealed)
        assert decision.dissent == {traitor.address: "signed two contradicting verdicts, which cost it its deposit"}
    [(one, two)] = world.docket.accused
    assert contradict(one.verdict, two.verdict)
    for said in (one, two):
        assert said.verdict.signer(said.signature, sealed.domain) == traitor.address


@pytest.mark.parametrize("kind", BYZANTINE)
def test_two_byzantine_miners_of_four_stop_the_round(world, kind: type[Miner]) -> None:
    sealed = world.seal()
    miners = with_byzantine(world, sealed, kind, kind, places=[1, 3])
    before = list(world.store.names)
    with pytest.raises(RoundError, match=r"no quorum, 3 of 4 miners must agree; votes: ") as caught:
        Committee(miners, world.docket).decide(sealed)
    assert "\n" not in str(caught.value)
    assert world.store.names == before


def test_the_error_names_counts_and_digests(world) -> None:
    sealed = world.seal()
    miners = with_byzantine(world, sealed, Lying, Silent, places=[1, 2])
    with pytest.raises(RoundError, match=r"1 for 0x[0-9a-f]{64}") as caught:
        Committee(miners, world.docket).decide(sealed)
    assert "2 for 0x" in str(caught.value)
    assert "the miner does not answer" in str(caught.value)


def test_nobody_answers(world) -> None:
    sealed = world.seal()
    miners = with_byzantine(world, sealed, *[Absent] * 4, places=range(4))
    with pytest.raises(RoundError, match=r"no leader is left\. 4 miners failed: the miner does not answer"):
        Committee(miners, world.docket).decide(sealed)


def test_all_leaders_withhold(world) -> None:
    sealed = world.seal()
    with pytest.raises(RoundError, match=r"no leader is left.*did not finalise as leader: the disk is full"):
        Committee(with_byzantine(world, sealed, *[Withholding] * 4, places=range(4)), world.docket).decide(sealed)


def test_a_void_seal_is_told_as_it_is(world) -> None:
    sealed = world.seal(tweaks={3: lambda sent: replace(sent, signer=4)})
    with pytest.raises(RoundError, match="void seal: a receipt is not signed by the customer it names"):
        Committee(world.miners(), world.docket).decide(sealed)


def test_a_void_round_is_decided_too(world) -> None:
    sealed = world.seal({i: world.update(i) for i in range(4)})
    decision = Committee(world.miners(), world.docket).decide(sealed)
    _check(world, sealed, decision)
    assert decision.void
    assert decision.model.sha256 == world.model.sha256


def test_the_quorum_is_that_of_the_chain(world) -> None:
    """Two of the four miners run in this committee: they alone are no quorum."""
    with pytest.raises(RoundError, match="3 of 4 miners must agree"):
        Committee(world.miners()[:2], world.docket).decide(world.seal())


def test_strangers_do_not_count(world, make_world) -> None:
    """Three of the seven in the committee are unknown to the chain, and vote as one."""
    sealed = world.seal()
    strangers = make_world(miners=7).miners()[4:]
    decision = Committee([*strangers, *world.miners()], world.docket).decide(sealed)
    _check(world, sealed, decision)
    assert len(decision.signatures) == 4


def test_seven_miners_tolerate_two(make_world) -> None:
    world = make_world(miners=7)
    sealed = world.seal()
    decision = Committee(with_byzantine(world, sealed, Silent, Lying, places=[0, 1]), world.docket).decide(sealed)
    _check(world, sealed, decision)
    assert len(decision.signatures) == 5
    assert len(decision.dissent) == 2


def test_one_miner_is_its_own_quorum(make_world) -> None:
    world = make_world(miners=1)
    sealed = world.seal()
    _check(world, sealed, Committee(world.miners(), world.docket).decide(sealed))


def test_miners_have_accounts_of_their_own(world) -> None:
    miner = world.miners()[0]
    with pytest.raises(ProtocolError, match="account of its own"):
        Committee([miner, miner], world.docket)


def test_any_order_of_miners_and_receipts_gives_the_same_verdict(world) -> None:
    updates = {i: world.update(i) for i in range(10)}
    one = Committee(world.miners(), world.docket).decide(world.seal(updates))
    other = Committee(world.miners()[::-1], world.docket).decide(
        world.seal({i: updates[i] for i in reversed(range(10))})
    )
    assert one.verdict == other.verdict
    assert one.signatures == other.signatures


def test_the_chain_of_seeds_changes_leaders(world) -> None:
    """Six rounds, each on the seed that the last one left."""
    sealed, committee, leaders = world.seal(), Committee(world.miners(), world.docket), set()
    for _ in range(6):
        decision = committee.decide(sealed)
        leaders.add(decision.verdict.leader)
        assert decision.verdict.seed != sealed.seed
        sealed = replace(sealed, seed=decision.verdict.seed)
        world.docket.rounds.clear()
    assert len(leaders) >= 2


def test_the_new_model_is_the_next_rounds_model(world) -> None:
    first = Committee(world.miners(), world.docket).decide(world.seal())
    world.model = first.model
    sealed = world.seal(round_number=2)
    second = Committee(world.miners(), world.docket).decide(sealed)
    _check(world, sealed, second)
    assert second.model != first.model
    assert np.array_equal(sealed.participants, range(10))
