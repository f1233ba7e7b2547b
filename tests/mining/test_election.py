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
    assert len({ticket_output(ticket, KEYS, MESSAGE) for ticket in several}) == 1
    for order in (several, several[::-1]):
        assert rank(order, KEYS, MESSAGE) == (Ticket(MINERS[0], min(proofs)),)


def test_nobody_is_favoured() -> None:
    """200 rounds, 5 miners, 40 expected each, standard deviation 5.7: four of them either way."""
    seed, leaders = SEED, Counter[str]()
    outputs = {}
    for number in range(200):
        message = election_message(DOMAIN, TASK, number, seed)
        # The output of a proof is what `rank` sorts by; not verified here, to save time.
        for miner, secret in zip(MINERS, SECRETS, strict=True):
            outputs[miner] = vrf.proof_to_hash(vrf.prove(secret, message))
        leader = min(outputs, key=lambda miner: outputs[miner])
        leaders[leader] += 1
        seed = outputs[leader][:32]
    assert set(leaders) == set(MINERS)
    assert all(17 <= count <= 63 for count in leaders.values()), leaders


def test_the_next_seed_is_not_the_old_one() -> None:
    assert next_seed(TICKETS[0]) not in (SEED, sha256(SEED))
