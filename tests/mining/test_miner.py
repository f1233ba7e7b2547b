from __future__ import annotations

from dataclasses import replace

import pytest

from app.mining import miner as module
from app.mining.outcome import evaluate
from app.protocol import vrf
from app.protocol.digest import sha256
from app.protocol.errors import RoundError, StoreUnavailableError
from app.protocol.record import RoundRecord, Ticket
from app.store.base import reference


def test_a_vote_binds_what_the_miner_computed(world) -> None:
    sealed, miners = world.seal(), world.miners()
    tickets = [miner.ticket(sealed) for miner in miners]
    vote = miners[1].vote(sealed, tickets)
    verdict, record = vote.verdict, RoundRecord.from_bytes(vote.record)
    assert verdict.signer(vote.signature, sealed.domain) == miners[1].address
    assert (verdict.record, verdict.model) == (reference(vote.record), sha256(vote.model))
    assert (verdict.task, verdict.round, verdict.root) == (world.policy.digest, 1, sealed.root)
    assert (verdict.participants, verdict.honest, verdict.customers) == (tuple(range(10)), tuple(range(10)), 10)
    assert record.evaluation == evaluate(sealed, world.store).evaluation
    assert vote.model == evaluate(sealed, world.store).model


def test_the_leader_is_elected_by_the_tickets(world) -> None:
    sealed, miners = world.seal(), world.miners()
    tickets = [miner.ticket(sealed) for miner in miners]
    leaders = []
    for place in range(4):
        vote = miners[0].vote(sealed, tickets[::-1], place)
        election = RoundRecord.from_bytes(vote.record).election
        leading = election.candidates[place]
        assert vote.verdict.leader == election.leader == leading.miner
        assert vote.verdict.seed == election.seed == vrf.proof_to_hash(leading.proof)[:32]
        leaders.append(vote.verdict.leader)
    assert len(set(leaders)) == 4
    with pytest.raises(RoundError, match="4 valid tickets, none of rank 4"):
        miners[0].vote(sealed, tickets, 4)


def test_all_miners_sign_the_same_digest(world) -> None:
    sealed, miners = world.seal(), world.miners()
    tickets = [miner.ticket(sealed) for miner in miners]
    votes = [miner.vote(sealed, tickets[i:] + tickets[:i]) for i, miner in enumerate(miners)]
    assert len({vote.verdict.digest(sealed.domain) for vote in votes}) == 1
    assert len({vote.signature for vote in votes}) == 4


def test_forged_tickets_elect_nobody(world) -> None:
    """A miner claims another's place, and shows a proof for another seed."""
    sealed, miners = world.seal(), world.miners()
    tickets = [miner.ticket(sealed) for miner in miners]
    honest = miners[0].vote(sealed, tickets[:2]).verdict
    other_seed = miners[3].ticket(replace(sealed, seed=b"\7" * 32))
    forged = [Ticket(miners[2].address, tickets[0].proof), other_seed]
    assert miners[0].vote(sealed, [*tickets[:2], *forged]).verdict == honest


def test_a_miner_stands_for_no_election_that_leaves_it_out(world) -> None:
    sealed, miners = world.seal(), world.miners()
    tickets = [miner.ticket(sealed) for miner in miners]
    with pytest.raises(RoundError, match="missing or not valid"):
        miners[0].vote(sealed, tickets[1:])


def test_a_stranger_cannot_vote(world) -> None:
    sealed, miners = world.seal(), world.miners()
    tickets = [miner.ticket(sealed) for miner in miners]
    with pytest.raises(RoundError, match="missing or not valid"):
        miners[0].vote(replace(sealed, miners=sealed.miners[1:]), tickets)


def test_a_round_is_evaluated_once(world, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def counted(sealed, store):
        calls.append(sealed.round)
        return evaluate(sealed, store)

    monkeypatch.setattr(module, "evaluate", counted)
    miner, sealed, later = world.miners()[0], world.seal(), world.seal(round_number=2)
    first = miner.vote(sealed, [miner.ticket(sealed)])
    second = miner.vote(sealed, [miner.ticket(sealed)])
    assert first.verdict == second.verdict
    assert (first.fetch_seconds > 0, second.fetch_seconds, second.compute_seconds) == (True, 0, 0)
    miner.vote(later, [miner.ticket(later)])
    miner.vote(replace(later, reputation=(4,) * 10), [miner.ticket(later)])
    assert calls == [1, 2, 2]


def test_a_failed_evaluation_is_tried_again(world) -> None:
    miner, sealed = world.miners()[0], world.seal()
    world.store.down = True
    with pytest.raises(StoreUnavailableError):
        miner.vote(sealed, [miner.ticket(sealed)])
    world.store.down = False
    assert miner.vote(sealed, [miner.ticket(sealed)]).verdict.round == 1


def test_the_blobs_are_published_by_name(world) -> None:
    miner, sealed = world.miners()[0], world.seal(round_number=3)
    vote = miner.vote(sealed, [miner.ticket(sealed)])
    record, model = miner.publish(vote)
    assert world.store.get(record, 10**6) == vote.record
    assert world.store.get(model, 10**6) == vote.model
    task = world.policy.digest[:8].hex()
    assert world.store.names[-2:] == [f"{task}/round-0003/record", f"{task}/round-0003/model"]
