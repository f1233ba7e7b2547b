"""What miners ask each other survives the way, and what anybody else sends raises our errors alone."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.mining.election import electorate, rank
from app.mining.messages import Question, ticket_from_json, ticket_to_json, vote_from_bytes, vote_to_bytes
from app.protocol.errors import ProtocolError
from app.protocol.record import Ticket

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda parts: st.lists(parts, max_size=4) | st.dictionaries(st.text(max_size=8), parts, max_size=4),
    max_leaves=12,
)


@pytest.fixture
def asked(world) -> tuple[Any, ...]:
    sealed = world.seal()
    miners = world.miners()
    tickets = [miner.ticket(sealed) for miner in miners]
    return sealed, tickets, miners[0].vote(sealed, tickets, 1), rank(tickets, electorate(sealed))[1]


def test_there_and_back(asked) -> None:
    sealed, tickets, vote, leader = asked
    question = Question.about(sealed, tickets, 1)
    assert Question.from_bytes(question.to_bytes()) == question
    found = vote_from_bytes(vote_to_bytes(vote), sealed, leader, 1)
    assert (found.verdict, found.signature) == (vote.verdict, vote.signature)
    assert (found.record, found.model) == (b"", b"")
    assert ticket_from_json(ticket_to_json(tickets[0])) == tickets[0]


@pytest.mark.parametrize(
    "change",
    [
        {"honest": [1, 0]},
        {"honest": [0, 0]},
        {"honest": [99]},
        {"honest": [-1]},
        {"honest": ["0"]},
        {"signature": "0x00"},
        {"signature": "zz" * 65},
        {"model": "0x00"},
        {"record": {}},
        {"record": None},
        {"more": 1},
    ],
)
def test_votes_that_are_none(asked, change: dict[str, Any]) -> None:
    sealed, _, vote, leader = asked
    data = json.dumps(json.loads(vote_to_bytes(vote)) | change).encode()
    with pytest.raises(ProtocolError):
        vote_from_bytes(data, sealed, leader, 1)


def test_more_tickets_than_miners_there_can_be_are_not_read(asked) -> None:
    sealed, tickets, _, _ = asked
    with pytest.raises(ProtocolError, match="at most 255 tickets"):
        Question.from_bytes(replace(Question.about(sealed), tickets=(tickets[0],) * 256).to_bytes())
    with pytest.raises(ProtocolError, match="80 bytes"):
        ticket_from_json(ticket_to_json(Ticket(tickets[0].miner, bytes(79))))


@settings(max_examples=300, deadline=None)
@given(data=st.binary(max_size=300), value=JSON)
def test_bytes_from_anybody(data: bytes, value: Any) -> None:
    for candidate in (data, json.dumps(value).encode()):
        with suppress(ProtocolError):
            Question.from_bytes(candidate)
    with suppress(ProtocolError):
        ticket_from_json(value)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.sampled_from(["model", "record", "honest", "signature"]), value=JSON)
def test_a_vote_with_any_member_replaced(make_world, name: str, value: Any) -> None:
    sealed, vote, leader = _kept(make_world)
    data = json.dumps(json.loads(vote_to_bytes(vote)) | {name: value}).encode()
    with suppress(ProtocolError):
        vote_from_bytes(data, sealed, leader, 0)


_made: list[tuple[Any, ...]] = []


def _kept(make_world) -> tuple[Any, ...]:
    if not _made:
        world = make_world()
        sealed, miners = world.seal(), world.miners()
        tickets = [miner.ticket(sealed) for miner in miners]
        _made.append((sealed, miners[0].vote(sealed, tickets), rank(tickets, electorate(sealed))[0]))
    return _made[0]
