from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.protocol.cid import cid_to_bytes, cid_to_text
from app.protocol.errors import ProtocolError

HELLO = "bafkreifzjut3te2nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e"  # raw "hello world", known from IPFS


def test_known() -> None:
    assert cid_to_bytes(HELLO) == b"\x01\x55\x12\x20" + hashlib.sha256(b"hello world").digest()


@given(st.binary(min_size=32, max_size=32), st.sampled_from([0x55, 0x70, 0x00, 0x7F]))
def test_there_and_back(digest: bytes, codec: int) -> None:
    data = bytes([1, codec, 0x12, 0x20]) + digest
    assert cid_to_bytes(cid_to_text(data)) == data


@pytest.mark.parametrize(
    "text",
    [
        "",
        "b",
        HELLO[1:],
        HELLO[:-1],
        HELLO + "a",
        HELLO.upper(),
        "z" + HELLO[1:],
        HELLO[:-1] + "f",  # the spare bits of the last character are not zero
        HELLO[:-1] + "1",
        HELLO[:10] + "é" + HELLO[11:],
        "QmT5NvUtoM5nWFfrQdVrFtvGfKFmG7AHE8P34isapyhCxX",
        "bbk" + HELLO[3:],  # not version 1
    ],
)
def test_refused_texts(text: str) -> None:
    with pytest.raises(ProtocolError):
        cid_to_bytes(text)


@pytest.mark.parametrize("data", [b"", bytes(36), b"\x01\x55\x12\x20" + bytes(31), b"\x01\x55\x13\x20" + bytes(32)])
def test_refused_bytes(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        cid_to_text(data)
