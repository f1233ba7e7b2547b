"""What anyone may send to the strategy is either a reply or a ProtocolError."""

from __future__ import annotations

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict
from hypothesis import given
from hypothesis import strategies as st

from app.protocol.announcement import Announcement
from app.protocol.digest import sha256
from app.protocol.errors import ProtocolError
from app.protocol.keys import simulation_account
from app.protocol.receipt import ENCODING, Receipt
from app.protocol.signing import Domain
from app.store.base import reference
from strategies.wire import Assignment, Reply, array_to_blob, blobs_to_arrays

DOMAIN = Domain(2020, "0x000000000000000000000000000000000000dEaD")
CUSTOMER = simulation_account(0, "customer")


def reply(update: bytes = b"update") -> Reply:
    receipt = Receipt(
        task=b"\1" * 32,
        round=1,
        customer=CUSTOMER.address,
        model=b"\2" * 32,
        update=sha256(update),
        size=len(update),
        cid=reference(update).cid,
        encoding=ENCODING,
        examples=10,
        epsilonMicros=8_000_000,
        deltaPicos=10_000_000,
        releases=1,
    )
    return Reply(update, receipt.sign(CUSTOMER, DOMAIN))


@given(update=st.binary(max_size=200))
def test_reply_round_trip(update: bytes) -> None:
    assert Reply.from_records(reply(update).to_records(), max_bytes=200) == reply(update)


@given(blobs=st.lists(st.binary(max_size=50), min_size=3, max_size=3), customer=st.integers(0, 1000))
def test_assignment_round_trip(blobs: list[bytes], customer: int) -> None:
    announcement = Announcement(DOMAIN, b"\3" * 32, 7, b"\4" * 32)
    assignment = Assignment(announcement, customer, "somewhere", "data", *blobs)
    assert Assignment.from_records(assignment.to_records()) == assignment


def test_a_long_update_is_refused_before_it_is_parsed() -> None:
    with pytest.raises(ProtocolError, match="exceeds"):
        Reply.from_records(reply(bytes(5000)).to_records(), max_bytes=200)


def npy(shape: str) -> bytes:
    """Return the 128 bytes with which a file in NumPy's format begins, with any text as the shape."""
    header = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00v\x00" + header.encode()


@pytest.mark.parametrize("size", [0, 3, 10**6])
def test_a_flat_array_of_bytes_is_read(size: int) -> None:
    assert array_to_blob(Array(np.zeros(size, np.uint8)), size) == bytes(size)


@given(data=st.binary(max_size=400))
def test_arrays_of_garbage_raise_nothing_but_protocol_errors(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        array_to_blob(Array("uint8", (3,), "numpy.ndarray", npy("(3,)")[:100] + data), 1000)


@pytest.mark.parametrize(
    "array",
    [
        Array(np.zeros((2, 2), np.uint8)),
        Array(np.zeros(3, np.float32)),
        Array("uint8", (3,), "numpy.ndarray", b"no npy file"),
        Array("uint8", (3,), "other", b"abc"),
        Array("uint8", (3,), "numpy.ndarray", b"PK\x03\x04" + bytes(200)),
        Array("uint8", (3,), "numpy.ndarray", npy("(100000000000000,)") + b"abc"),
        Array("uint8", (3,), "numpy.ndarray", npy("(99999999999999999999999,)") + b"abc"),
        Array("uint8", (3,), "numpy.ndarray", npy("[[[[") + b"abc"),
        Array("uint8", (3,), "numpy.ndarray", npy("(4,)") + b"abc"),
        Array("uint8", (3,), "numpy.ndarray", npy("(3,)")[:-1] + b" abc"),
    ],
)
def test_other_arrays_are_refused(array: Array) -> None:
    with pytest.raises(ProtocolError):
        array_to_blob(array, 1000)


def without(name: str) -> RecordDict:
    records = reply().to_records()
    del records[name]
    return records


@pytest.mark.parametrize(
    "records",
    [
        RecordDict(),
        without("arrays"),
        without("receipt"),
        RecordDict({"arrays": ArrayRecord(), "receipt": ConfigRecord({"receipt": b"{}"})}),
        RecordDict({"arrays": blobs_to_arrays({"update": b"x"}), "receipt": ConfigRecord({"receipt": "{}"})}),
        RecordDict({"arrays": blobs_to_arrays({"update": b"x"}), "receipt": ConfigRecord({"receipt": b"[" * 5000})}),
        RecordDict({"arrays": blobs_to_arrays({"update": b"x"}), "receipt": ConfigRecord({"receipt": b"\xff"})}),
    ],
)
def test_other_replies_are_refused(records: RecordDict) -> None:
    with pytest.raises(ProtocolError):
        Reply.from_records(records, max_bytes=1000)


@given(receipt=st.binary(max_size=300), update=st.binary(max_size=50))
def test_garbage_raises_nothing_but_protocol_errors(receipt: bytes, update: bytes) -> None:
    records = RecordDict({"arrays": blobs_to_arrays({"update": update}), "receipt": ConfigRecord({"receipt": receipt})})
    with pytest.raises(ProtocolError):
        Reply.from_records(records, max_bytes=1000)
