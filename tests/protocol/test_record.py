from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.protocol.digest import BlobRef, canonical_json
from app.protocol.errors import ProtocolError
from app.protocol.evaluation import CustomerEntry, Evaluation, Mark, Reason
from app.protocol.keys import simulation_account
from app.protocol.record import Candidate, Election, RoundRecord

ADDRESSES = sorted((simulation_account(1, "customer", i).address for i in range(4)), key=lambda a: int(a, 16))
COUNT = st.integers(0, 2**63 - 1)
ENTRIES = st.builds(
    CustomerEntry,
    customer=st.just(ADDRESSES[0]),
    index=COUNT,
    gamma=COUNT,
    mark=st.sampled_from(Mark),
    reason=st.sampled_from(Reason),
    score=st.none() | st.integers(0, 10**40 - 1),
    cosine=st.none() | st.integers(-(10**6), 10**6),
    selected=st.booleans(),
    isolated=st.booleans(),
    weight=COUNT,
    saturated=st.none() | COUNT,
)
GOOD = CustomerEntry(ADDRESSES[0], 3, 5, Mark.H, Reason.ACCEPTED, 2**70, -3, True, False, 250, 0)
BAD = CustomerEntry(ADDRESSES[1], 1, 5, Mark.L, Reason.MISSING, None, None, False, False, 0, None)
CANDIDATES = (Candidate(ADDRESSES[2], b"\3" * 80, 7, 2), Candidate(ADDRESSES[3], b"\4" * 80, 1, 0))
ELECTION = Election(CANDIDATES, ADDRESSES[2], b"\5" * 32)
EVALUATION = Evaluation(
    b"\1" * 32, 3, 5, 2, "outlier", "median", 0, False, 2**90, 2**80, BlobRef(b"\2" * 32, 9, "bafk"), (GOOD, BAD)
)
RECORD = RoundRecord(EVALUATION, ELECTION)


@given(ENTRIES)
def test_round_trip(entry: CustomerEntry) -> None:
    record = RoundRecord(replace(EVALUATION, customers=(entry,)), ELECTION)
    again = RoundRecord.from_bytes(record.to_bytes())
    assert again == record
    assert type(again.evaluation.customers[0].mark) is Mark
    assert type(again.evaluation.customers[0].reason) is Reason


def test_participants_and_honest_are_ascending_indices() -> None:
    assert EVALUATION.participants == (1, 3)
    assert EVALUATION.honest == (3,)


def test_text_by_example() -> None:
    value = json.loads(RECORD.to_bytes())
    assert value["evaluation"]["customers"][0] == {
        "customer": ADDRESSES[0],
        "index": 3,
        "gamma": 5,
        "mark": "H",
        "reason": "accepted",
        "score": str(2**70),
        "cosine": -3,
        "selected": True,
        "isolated": False,
        "weight": 250,
        "saturated": 0,
    }
    assert value["election"]["candidates"][0] == {
        "miner": ADDRESSES[2],
        "proof": "0x" + "03" * 80,
        "weight": 7,
        "selected": 2,
    }


@pytest.mark.parametrize("customers", [(BAD, GOOD), (GOOD, GOOD)])
def test_customers_are_sorted_and_unique(customers: tuple[CustomerEntry, ...]) -> None:
    with pytest.raises(ProtocolError, match="sorted by address"):
        replace(EVALUATION, customers=customers)


def _changed(path: tuple[str | int, ...], new: object) -> bytes:
    value = json.loads(RECORD.to_bytes())
    place = value
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = new
    return canonical_json(value)


ENTRY = ("evaluation", "customers", 0)


@pytest.mark.parametrize(
    ("path", "new"),
    [
        ((*ENTRY, "mark"), "M"),
        ((*ENTRY, "reason"), "because"),
        ((*ENTRY, "reason"), []),
        ((*ENTRY, "score"), 7),
        ((*ENTRY, "score"), "-7"),
        ((*ENTRY, "score"), "007"),
        ((*ENTRY, "score"), "٣"),
        ((*ENTRY, "score"), "1_0"),
        ((*ENTRY, "score"), "9" * 5000),
        ((*ENTRY, "score"), ""),
        ((*ENTRY, "cosine"), -1_000_001),
        ((*ENTRY, "cosine"), "5"),
        ((*ENTRY, "cosine"), False),
        ((*ENTRY, "index"), True),
        ((*ENTRY, "weight"), -1),
        ((*ENTRY, "weight"), 2**63),
        ((*ENTRY, "gamma"), 1.0),
        ((*ENTRY, "selected"), 1),
        ((*ENTRY, "customer"), ADDRESSES[0].lower()),
        ((*ENTRY, "extra"), 1),
        (("evaluation", "void"), None),
        (("evaluation", "rule"), 3),
        (("evaluation", "aggregator"), None),
        (("evaluation", "buckets"), -1),
        (("evaluation", "usual"), None),
        (("evaluation", "reach"), 7),
        (("evaluation", "model"), []),
        (("evaluation", "task"), "0x00"),
        (("evaluation", "customers"), {}),
        (("evaluation", "customers"), [[]]),
        (("election", "leader"), "0x00"),
        (("election", "seed"), "0x" + "AB" * 32),
        (("election", "candidates"), [3]),
        (("election", "candidates", 0, "proof"), "0x" + "03" * 79),
        (("election", "candidates", 0, "proof"), "0x" + "03" * 79 + "  "),
        (("election", "candidates", 0, "proof"), "0x" + "AB" * 80),
        (("election", "candidates", 0, "proof"), "0x" + "zz" * 80),
        (("election", "candidates", 0, "miner"), None),
        (("election", "candidates", 0, "weight"), -1),
        (("election", "candidates", 0, "selected"), 1.0),
        (("election",), []),
        (("extra",), 1),
    ],
)
def test_bad_members_are_refused(path: tuple[str | int, ...], new: object) -> None:
    with pytest.raises(ProtocolError):
        RoundRecord.from_bytes(_changed(path, new))


@pytest.mark.parametrize("data", [b"{}", b'{"evaluation":{}}', RECORD.to_bytes() + b" ", RECORD.to_bytes()[:-1]])
def test_another_text_is_refused(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        RoundRecord.from_bytes(data)


@given(data=st.data())
@settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow], deadline=None)
def test_hostile_bytes_raise_our_error(
    data: st.DataObject,
    hostile_to: Callable[[bytes], st.SearchStrategy[bytes]],
    refuses: Callable[[Callable[[bytes], RoundRecord], bytes], None],
) -> None:
    refuses(RoundRecord.from_bytes, data.draw(hostile_to(RECORD.to_bytes())))
