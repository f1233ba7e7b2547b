from __future__ import annotations

import contextlib

import pytest
from eth_abi.exceptions import EncodingError
from eth_account import Account
from eth_account.messages import encode_typed_data
from eth_utils import keccak
from hypothesis import given, settings
from hypothesis import strategies as st

from app.protocol.errors import HearthError, ProtocolError
from app.protocol.keys import simulation_account
from app.protocol.signing import Domain, recover, sign, struct_digest

ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
ACCOUNT = simulation_account(1, "customer")
DOMAIN = Domain(31337, simulation_account(1, "contract").address)
FIELDS = (("round", "uint256"), ("digest", "bytes32"), ("text", "string"))
VALUES = {"round": 3, "digest": b"\7" * 32, "text": "hello"}
SIGNATURE = sign(ACCOUNT, DOMAIN, "Note", FIELDS, VALUES)


def _recover(signature: bytes, domain: Domain = DOMAIN, **changes: object) -> str:
    return recover(domain, "Note", FIELDS, VALUES | changes, signature)


def test_the_signer_is_recovered() -> None:
    assert _recover(SIGNATURE) == ACCOUNT.address
    assert len(SIGNATURE) == 65


def test_the_digest_is_that_of_eip_712_by_hand() -> None:
    from eth_abi import encode

    domain_type = b"EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"
    separator = keccak(
        encode(
            ["bytes32", "bytes32", "bytes32", "uint256", "address"],
            [keccak(domain_type), keccak(b"Hearth"), keccak(b"1"), 31337, DOMAIN.contract],
        )
    )
    struct = keccak(
        encode(
            ["bytes32", "uint256", "bytes32", "bytes32"],
            [keccak(b"Note(uint256 round,bytes32 digest,string text)"), 3, b"\7" * 32, keccak(b"hello")],
        )
    )
    assert struct_digest(DOMAIN, "Note", FIELDS, VALUES) == keccak(b"\x19\x01" + separator + struct)


@pytest.mark.parametrize("other", [Domain(1, DOMAIN.contract), Domain(31337, ACCOUNT.address)])
def test_another_domain_is_another_signer(other: Domain) -> None:
    assert _recover(SIGNATURE, other) != ACCOUNT.address


@pytest.mark.parametrize("change", [{"round": 4}, {"digest": b"\6" * 32}, {"text": "Hello"}])
def test_another_value_is_another_signer(change: dict[str, object]) -> None:
    assert _recover(SIGNATURE, **change) != ACCOUNT.address


def test_the_second_form_of_a_signature_is_refused() -> None:
    """(r, n - s) with the other parity recovers to the same account; accepting it would make a second leaf."""
    s = int.from_bytes(SIGNATURE[32:64], "big")
    twin = SIGNATURE[:32] + (ORDER - s).to_bytes(32, "big") + bytes([55 - SIGNATURE[64]])
    message = encode_typed_data(
        DOMAIN.to_eip712(), {"Note": [{"name": name, "type": kind} for name, kind in FIELDS]}, VALUES
    )
    assert Account.recover_message(message, signature=twin) == ACCOUNT.address
    with pytest.raises(ProtocolError, match="malformed"):
        _recover(twin)


@pytest.mark.parametrize(
    "signature",
    [
        b"",
        SIGNATURE[:-1],
        SIGNATURE + b"\0",
        SIGNATURE[:64] + b"\0",
        SIGNATURE[:64] + b"\1",
        SIGNATURE[:64] + b"\x1d",
        bytes(64) + b"\x1b",
        bytes(32) + SIGNATURE[32:],
        SIGNATURE[:32] + bytes(32) + SIGNATURE[64:],
        b"\xff" * 32 + SIGNATURE[32:],
        ORDER.to_bytes(32, "big") + SIGNATURE[32:],
    ],
)
def test_malformed_signatures_are_refused(signature: bytes) -> None:
    with pytest.raises(ProtocolError, match="malformed"):
        _recover(signature)


@given(st.binary(min_size=64, max_size=64), st.sampled_from([27, 28]))
@settings(max_examples=150, deadline=None)
def test_any_bytes_give_another_signer_or_our_error(body: bytes, v: int) -> None:
    with contextlib.suppress(HearthError):
        assert _recover(body + bytes([v])) != ACCOUNT.address


def test_a_signature_is_deterministic() -> None:
    """RFC 6979: signing twice gives no second signature, and needs no randomness."""
    assert sign(ACCOUNT, DOMAIN, "Note", FIELDS, VALUES) == SIGNATURE


@given(
    st.fixed_dictionaries(
        {
            "task": st.binary(min_size=32, max_size=32),
            "round": st.integers(0, 2**256 - 1),
            "rank": st.integers(0, 255),
            "text": st.text(max_size=40),
            "cid": st.binary(max_size=70),
            "present": st.lists(st.integers(0, 2**256 - 1), max_size=5),
            "leader": st.just(ACCOUNT.address),
        }
    ),
    st.integers(1, 2**53),
)
@settings(max_examples=100)
def test_digests_are_those_of_eth_account(values: dict[str, object], chain_id: int) -> None:
    names = ("task", "round", "rank", "text", "cid", "present", "leader")
    kinds = ("bytes32", "uint256", "uint8", "string", "bytes", "uint256[]", "address")
    fields = tuple(zip(names, kinds, strict=True))
    domain = Domain(chain_id, DOMAIN.contract)
    types = {"Verdict": [{"name": name, "type": kind} for name, kind in fields]}
    expected = encode_typed_data(domain.to_eip712(), types, values)
    assert struct_digest(domain, "Verdict", fields, values) == keccak(b"\x19\x01" + expected.header + expected.body)


@pytest.mark.parametrize("change", [{"round": -1}, {"round": 2**256}, {"digest": b"\7" * 33}, {"round": None}])
def test_what_does_not_fit_its_type_is_not_signed(change: dict[str, object]) -> None:
    with pytest.raises(EncodingError):
        sign(ACCOUNT, DOMAIN, "Note", FIELDS, VALUES | change)
