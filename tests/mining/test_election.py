from __future__ import annotations

import logging
import random
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.mining import sortition
from app.mining.election import Electorate, draw, election_message, electorate, next_seed, rank, ticket_output
from app.protocol import vrf
from app.protocol.digest import sha256
from app.protocol.errors import ConfigError, ProtocolError
from app.protocol.keys import simulation_account, simulation_secret
from app.protocol.record import Candidate, Ticket
from app.protocol.signing import Domain

DOMAIN = Domain(31337, simulation_account(0, "contract").address)
TASK, SEED = b"\1" * 32, b"\2" * 32
MINERS = [simulation_account(0, "miner", i).address for i in range(5)]
SECRETS = [simulation_secret(0, "vrf", i) for i in range(5)]
KEYS = {miner: vrf.public_key(secret) for miner, secret in zip(MINERS, SECRETS, strict=True)}
MESSAGE = election_message(DOMAIN, TASK, 3, SEED)
EQUAL = Electorate(MESSAGE, 5, KEYS, dict.fromkeys(MINERS, 1))
TICKETS = [draw(miner, secret, MESSAGE) for miner, secret in zip(MINERS, SECRETS, strict=True)]


def test_messages_of_different_elections_differ() -> None:
    others = [
        (Domain(1, DOMAIN.contract), TASK, 3, SEED),
        (Domain(31337, MINERS[0]), TASK, 3, SEED),
        (DOMAIN, SEED, 3, SEED),
        (DOMAIN, TASK, 4, SEED),
        (DOMAIN, TASK, 3, TASK),
        (DOMAIN, SEED, 3, TASK),
    ]
    messages = {MESSAGE, *(election_message(*other) for other in others)}
    assert len(messages) == 7
    assert len({len(message) for message in messages}) == 1


@pytest.mark.parametrize(("task", "seed"), [(b"", SEED), (TASK, b""), (TASK + SEED, b"")])
def test_task_and_seed_have_fixed_length(task: bytes, seed: bytes) -> None:
    with pytest.raises(ProtocolError, match="32 bytes each"):
        election_message(DOMAIN, task, 3, seed)


def drawn(candidate: Candidate, voters: Electorate = EQUAL) -> bytes:
    return ticket_output(Ticket(candidate.miner, candidate.proof), voters)


def test_the_lowest_priority_leads() -> None:
    """Where all have one sub-user and all are selected."""
    ranked = rank(TICKETS, EQUAL)
    outputs = [drawn(candidate) for candidate in ranked]
    priorities = [sha256(b"hearth/sub-user/1" + output + bytes(4)) for output in outputs]
    assert priorities == sorted(priorities)
    assert {candidate.miner for candidate in ranked} == set(MINERS)
    assert {(candidate.weight, candidate.selected) for candidate in ranked} == {(1, 1)}
    assert next_seed(ranked[0].proof) == outputs[0][:32]


ELECTORATES = st.builds(
    lambda tau, weights: replace(EQUAL, tau=tau, weights=dict(zip(MINERS, weights, strict=True))),
    st.integers(1, 30),
    st.lists(st.integers(0, 12), min_size=5, max_size=5),
)


@given(ELECTORATES, st.permutations(TICKETS), st.integers(1, 5))
@settings(max_examples=60, deadline=None)
def test_a_round_always_has_one_order(voters: Electorate, tickets: list[Ticket], shown: int) -> None:
    """Total, whatever the weights (also none at all) and the order of arrival; nobody is lost, nobody twice."""
    ranked = rank(tickets[:shown], voters)
    assert ranked == rank(sorted(tickets[:shown], key=lambda ticket: ticket.miner), voters)
    assert sorted(c.miner for c in ranked) == sorted(ticket.miner for ticket in tickets[:shown])
    assert [c.weight for c in ranked] == [voters.weights[c.miner] for c in ranked]
    p = sortition.chance(voters.tau, sum(voters.weights.values()))
    assert [c.selected for c in ranked] == [sortition.selected(drawn(c), c.weight, p) for c in ranked]
    tiers = [0 if c.selected else 1 if c.weight else 2 for c in ranked]
    assert tiers == sorted(tiers)
    for tier in range(3):
        own = [
            sortition.priority(drawn(c), c.selected or c.weight or 1)
            for c, of in zip(ranked, tiers, strict=True)
            if of == tier
        ]
        assert own == sorted(own)


def test_who_leaves_does_not_change_the_order_of_the_others() -> None:
    voters = replace(EQUAL, tau=4, weights=dict(zip(MINERS, (1, 2, 3, 4, 5), strict=True)))
    ranked = rank(TICKETS, voters)
    for gone in MINERS:
        assert rank([t for t in TICKETS if t.miner != gone], voters) == tuple(c for c in ranked if c.miner != gone)


def simulated(rng: random.Random, weights: list[int], tau: int) -> tuple[int, bool]:
    """Who leads with these weights, and whether anybody was selected: outputs as the VRF would give them."""
    p = sortition.chance(tau, sum(weights))
    outputs = [rng.randbytes(64) for _ in weights]
    counts = [sortition.selected(output, weight, p) for output, weight in zip(outputs, weights, strict=True)]
    places = [
        (0 if j else 1 if m else 2, sortition.priority(output, j or m or 1))
        for output, m, j in zip(outputs, weights, counts, strict=True)
    ]
    return min(range(len(weights)), key=lambda i: places[i]), any(counts)


def test_who_has_a_share_of_the_weight_leads_that_share_of_the_rounds() -> None:
    """5,000 rounds, weights 1, 2, 3, 4; also where nobody is selected (tau = 1: 35 % of them). Standard error 0.7 %."""
    rng, weights = random.Random(1), [1, 2, 3, 4]
    rounds = [simulated(rng, weights, 1) for _ in range(5000)]
    assert 0.3 < sum(not selected for _, selected in rounds) / 5000 < 0.4
    for selected in (True, False):
        leaders = Counter(leader for leader, was in rounds if was == selected)
        for miner, weight in enumerate(weights):
            assert abs(leaders[miner] / leaders.total() - weight / 10) < 0.04


def test_without_weight_one_leads_only_where_nobody_else_is_left() -> None:
    rng = random.Random(2)
    assert {simulated(rng, [0, 1, 1], 1)[0] for _ in range(200)} == {1, 2}
    assert {simulated(rng, [0, 0, 0], 1)[0] for _ in range(200)} == {0, 1, 2}


def test_weights_come_from_the_chain(make_world) -> None:
    world = make_world()
    sealed = world.seal(reputation=tuple(range(10)))
    seats = tuple(seat._replace(stake=10 + i) for i, seat in enumerate(sealed.miners))
    seats = (seats[0]._replace(miner=world.customers[7]), *seats[1:])
    for rule, expected in {"equal": [1, 1, 1, 1], "stake": [10, 11, 12, 13], "reputation": [7, 0, 0, 0]}.items():
        policy = replace(sealed.policy, weighting=rule)
        found = electorate(replace(sealed, policy=policy, miners=seats))
        assert [found.weights[seat.miner] for seat in seats] == expected
        assert found.tau == policy.tau
        assert found.message == election_message(sealed.domain, policy.digest, sealed.round, sealed.seed)
    with pytest.raises(ConfigError, match=r"miners\.weighting: 'luck' is not known"):
        electorate(replace(sealed, policy=replace(sealed.policy, weighting="luck")))


@given(st.permutations(TICKETS))
@settings(max_examples=10, deadline=None)
def test_the_order_of_arrival_does_not_matter(tickets: list[Ticket]) -> None:
    assert rank([*tickets, tickets[0]], EQUAL) == rank(TICKETS, EQUAL)


def test_invalid_tickets_are_dropped_and_the_reason_told(caplog: pytest.LogCaptureFixture) -> None:
    stranger = simulation_account(0, "stranger").address
    invalid = {
        "not a miner": draw(stranger, SECRETS[0], MESSAGE),
        "not for this key and seed": draw(MINERS[0], SECRETS[0], election_message(DOMAIN, TASK, 2, SEED)),
        "malformed": Ticket(MINERS[2], b"\0" * 79),
    }
    stolen = Ticket(MINERS[1], TICKETS[3].proof)
    for reason, ticket in invalid.items():
        with pytest.raises(ProtocolError, match=reason):
            ticket_output(ticket, EQUAL)
    with pytest.raises(ProtocolError):
        ticket_output(stolen, EQUAL)
    with caplog.at_level(logging.WARNING):
        ranked = rank([*invalid.values(), stolen, TICKETS[4]], EQUAL)
    assert ranked == (Candidate(MINERS[4], TICKETS[4].proof, 1, 1),)
    assert all(reason in caplog.text for reason in invalid)


def test_a_forged_ticket_does_not_displace_the_miners_own() -> None:
    forged = Ticket(MINERS[0], bytes(80))
    assert rank([forged, *TICKETS, forged], EQUAL) == rank(TICKETS, EQUAL)


def _another_proof(secret: bytes, message: bytes, nonce: int) -> bytes:
    """A second valid proof of the same output: RFC 9381's, with a nonce of the prover's choice."""
    x, _ = vrf._expand(secret)
    y = vrf._base(x)
    h = vrf._encode_to_curve(y, message)
    gamma = vrf._multiply(x, h)
    c = vrf._challenge(y, h, gamma, vrf._base(nonce), vrf._multiply(nonce, h))
    return gamma + c.to_bytes(16, "little") + vrf._scalar(nonce + c * x)


def test_a_miner_with_several_proofs_has_one_ticket_in_any_order() -> None:
    proofs = [TICKETS[0].proof, *(_another_proof(SECRETS[0], MESSAGE, nonce) for nonce in (5, 6, 7))]
    several = [Ticket(MINERS[0], proof) for proof in proofs]
    assert len(set(proofs)) == 4
    assert len({ticket_output(ticket, EQUAL) for ticket in several}) == 1
    for order in (several, several[::-1]):
        assert rank(order, EQUAL) == (Candidate(MINERS[0], min(proofs), 1, 1),)


def test_the_next_seed_is_not_the_old_one() -> None:
    assert next_seed(TICKETS[0].proof) not in (SEED, sha256(SEED))
