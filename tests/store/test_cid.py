from __future__ import annotations

import contextlib
import re
from base64 import b32encode
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.protocol.errors import BlobTamperedError, HearthError, ProtocolError
from app.store.cid import CID, DAG_PB, RAW, uvarint

HELLO = "bafkreifzjut3te2nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e"
CIDS = st.builds(CID, st.sampled_from([RAW, DAG_PB]), st.binary(min_size=32, max_size=32))
BASE58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"


def base58(data: bytes) -> str:
    number, text = int.from_bytes(data, "big"), ""
    while number:
        number, digit = divmod(number, 58)
        text = BASE58[digit] + text
    return "1" * (len(data) - len(data.lstrip(b"\0"))) + text


def test_known_text() -> None:
    assert str(CID.of(b"hello world", RAW)) == HELLO
    assert CID.parse(HELLO) == CID(RAW, sha256(b"hello world").digest())


@given(CIDS)
def test_text_and_bytes_round_trip(cid: CID) -> None:
    assert CID.parse(str(cid)) == cid == CID.from_bytes(bytes(cid))
    assert re.fullmatch("baf[a-z2-7]{56}", str(cid))


@given(CIDS)
def test_a_node_may_print_base58_and_version_0(cid: CID) -> None:
    assert CID.parse_any("z" + base58(bytes(cid))) == cid
    assert CID.parse_any(str(cid)) == cid
    old = base58(cid.multihash)
    assert CID.parse_any(old) == CID(DAG_PB, cid.digest)
    for text in ("z" + base58(bytes(cid)), old):
        with pytest.raises(ProtocolError):
            CID.parse(text)


def test_version_0_of_the_empty_file() -> None:
    # What `ipfs add` prints for b"" by default: a dag-pb node that holds a UnixFS record.
    assert CID.parse_any("QmbFMke1KXqnYyBBWxB74N4c5SBnJMVAiMNRcGu6x1AwQH") == CID.of(
        b"\x0a\x04\x08\x02\x18\x00", DAG_PB
    )


def other_bases() -> list[str]:
    raw = b"\x01\x55\x12\x20" + sha256(b"x").digest()

    def text(data: bytes) -> str:
        return "b" + b32encode(data).decode().lower().rstrip("=")

    return [
        "",
        "b",
        HELLO + "a",
        HELLO[:-1],
        HELLO.upper(),
        HELLO[:-1] + "f",  # a spare bit is set
        "f" + raw.hex(),
        "/ipfs/" + HELLO,
        HELLO + "/x",
        "../" + HELLO[3:],
        HELLO[:-1] + "\n",
        HELLO[:-1] + "é",
        HELLO[:-1] + "1",
        text(b"\x00" + raw[1:]),  # version 0 with a prefix
        text(b"\x02" + raw[1:]),
        text(b"\x01\x71" + raw[2:]),  # dag-cbor
        text(b"\x01\x55\x13\x20" + raw[4:]),  # sha2-512
        text(b"\x01\x55\x00\x20" + raw[4:]),  # identity: the content inside the name
        text(b"\x01\x55\x12\x14" + raw[4:]),
        text(raw[:-1]),
        "Qm" + "1" * 44,
        "Qm" + "0" * 44,
        "z" + "1" * 48,
        "z" * 59,
        "9" * 5000,
    ]


@pytest.mark.parametrize("text", other_bases())
def test_anything_else_is_refused(text: str) -> None:
    for parse in (CID.parse, CID.parse_any):
        with pytest.raises(ProtocolError) as caught:
            parse(text)
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 200


@given(st.text() | st.text("abcdefghijklmnopqrstuvwxyz234567", min_size=58, max_size=58).map("b".__add__) | st.none())
def test_hostile_text_raises_only_our_errors(text: str) -> None:
    for parse in (CID.parse, CID.parse_any):
        with contextlib.suppress(HearthError):
            assert parse(text).digest


@given(st.binary(max_size=64) | st.binary(min_size=32, max_size=32).map(b"\x01\x55\x12\x20".__add__))
def test_hostile_bytes_raise_only_our_errors(data: bytes) -> None:
    with contextlib.suppress(ProtocolError):
        assert bytes(CID.from_bytes(data)) == data


def test_verify() -> None:
    CID.of(b"block", RAW).verify(b"block")
    with pytest.raises(BlobTamperedError, match="does not hash"):
        CID.of(b"block", RAW).verify(b"blocK")


@pytest.mark.parametrize(
    ("number", "code"), [(0, "00"), (127, "7f"), (128, "8001"), (300, "ac02"), (1 << 20, "808040")]
)
def test_uvarint(number: int, code: str) -> None:
    assert uvarint(number).hex() == code
