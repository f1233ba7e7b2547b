from __future__ import annotations

import hashlib
import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.protocol.digest import BlobRef, bytes32, canonical_json, hex32, sha256
from app.protocol.errors import ProtocolError

REF = BlobRef(b"\1" * 32, 10, "bafk")
PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8")),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(PLAIN)
def test_canonical_json_is_a_fixed_point(value: object) -> None:
    text = canonical_json(value)
    assert json.loads(text) == value
    assert canonical_json(json.loads(text)) == text


def test_canonical_json_by_example() -> None:
    assert canonical_json({"b": [1, True, None], "a": "ü"}) == '{"a":"ü","b":[1,true,null]}'.encode()
    assert canonical_json({"a": 1, "b": 2}) == canonical_json({"b": 2, "a": 1})


@pytest.mark.parametrize("value", [math.nan, math.inf, {"a": -math.inf}, b"bytes", {1, 2}, "\ud800", object()])
def test_what_has_no_canonical_form_is_refused(value: object) -> None:
    with pytest.raises(ProtocolError, match="no canonical form"):
        canonical_json(value)


def test_sha256() -> None:
    assert sha256(b"abc").hex() == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert sha256(b"") == hashlib.sha256().digest()


@given(st.binary(min_size=32, max_size=32))
def test_hexadecimal_round_trip(data: bytes) -> None:
    assert bytes32(hex32(data)) == data


@pytest.mark.parametrize(
    "text",
    [
        None,
        7,
        b"0x" + b"00" * 32,
        "00" * 33,
        "0x" + "00" * 31,
        "0x" + "00" * 33,
        "0x" + "AB" * 32,
        "0x" + "0g" * 32,
        "0x" + "ab" * 31 + "  ",
    ],
)
def test_what_is_not_32_bytes_is_refused(text: object) -> None:
    with pytest.raises(ProtocolError, match="not 32 bytes"):
        bytes32(text)


def test_blob_reference_round_trip() -> None:
    assert BlobRef.from_json(json.loads(json.dumps(REF.to_json()))) == REF


@pytest.mark.parametrize(
    "value",
    [
        None,
        3,
        [],
        ["cid", "sha256", "size"],
        "cid",
        {},
        REF.to_json() | {"more": 1},
        REF.to_json() | {"cid": 3},
        REF.to_json() | {"size": True},
        REF.to_json() | {"size": -1},
        REF.to_json() | {"size": 2**63},
        REF.to_json() | {"size": 1.0},
        REF.to_json() | {"sha256": "0x"},
    ],
)
def test_bad_blob_references_are_refused(value: object) -> None:
    with pytest.raises(ProtocolError):
        BlobRef.from_json(value)
