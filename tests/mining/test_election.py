from __future__ import annotations

import logging
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.mining.election import Ticket, draw, election_message, next_seed, rank, ticket_output
from app.protocol import vrf
from app.protocol.digest import sha256
from app.protocol.errors import ProtocolError
from app.protocol.keys import simulation_account, simulation_secret
from app.protocol.signing import Domain

DOMAIN = Domain(31337, simulation_account(0, "contract").address)
TASK, SEED = b"\1" * 32, b"\2" * 32
MINERS = [simulation_account(0, "miner", i).address for i in range(5)]
SECRETS = [simulation_secret(0, "vrf", i) for i in range(5)]
KEYS = {miner: vrf.public_key(secret) for miner, secret in zip(MINERS, SECRETS, strict=True)}
MESSAGE = election_message(DOMAIN, TASK, 3, SEED)
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


def test_the_lowest_output_leads() -> None:
    ranked = rank(TICKETS, KEYS, MESSAGE)
    outputs = [ticket_output(ticket, KEYS, MESSAGE) for ticket in ranked]
    assert outputs == sorted(outputs)
    assert {ticket.miner for ticket in ranked} == set(MINERS)
    assert next_seed(ranked[0]) == outputs[0][:32]


@given(st.permutations(TICKETS))
@settings(max_examples=10, deadline=None)
def test_the_order_of_arrival_does_not_matter(tickets: list[Ticket]) -> None:
    assert rank([*tickets, tickets[0]], KEYS, MESSAGE) == rank(TICKETS, KEYS, MESSAGE)


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
            ticket_output(ticket, KEYS, MESSAGE)
    with pytest.raises(ProtocolError):
        ticket_output(stolen, KEYS, MESSAGE)
    with caplog.at_level(logging.WARNING):
        ranked = rank([*invalid.values(), stolen, TICKETS[4]], KEYS, MESSAGE)
    assert ranked == (TICKETS[4],)
    assert all(reason in caplog.text for reason in invalid)


def test_a_forged_ticket_does_not_displace_the_miners_own() -> None:
    forged = Ticket(MINERS[0], bytes(80))
    assert rank([forged, *TICKETS, forged], KEYS, MESSAGE) == rank(TICKETS, KEYS, MESSAGE)


def test_nobody_is_favoured() -> None:
    """400 rounds, 5 miners, 80 expected each, standard deviation 8: four of them either way."""
    seed, leaders = SEED, Counter[str]()
    outputs = {}
    for number in range(400):
        message = election_message(DOMAIN, TASK, number, seed)
        # The output of a proof is what `rank` sorts by; not verified here, to save time.
        for miner, secret in zip(MINERS, SECRETS, strict=True):
            outputs[miner] = vrf.proof_to_hash(vrf.prove(secret, message))
        leader = min(outputs, key=lambda miner: outputs[miner])
        leaders[leader] += 1
        seed = outputs[leader][:32]
    assert set(leaders) == set(MINERS)
    assert all(48 <= count <= 112 for count in leaders.values()), leaders


def test_the_next_seed_is_not_the_old_one() -> None:
    assert next_seed(TICKETS[0]) not in (SEED, sha256(SEED))
