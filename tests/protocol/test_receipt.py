from __future__ import annotations

import contextlib
import json
import math
from dataclasses import replace
from decimal import Decimal

import pytest
from eth_abi import encode
from eth_utils import keccak
from hypothesis import given, settings
from hypothesis import strategies as st

from app.protocol.errors import HearthError, ProtocolError
from app.protocol.keys import simulation_account
from app.protocol.receipt import ENCODING, UNBOUNDED, Receipt, SignedReceipt, privacy_units
from app.protocol.signing import Domain

ACCOUNT = simulation_account(1, "customer")
DOMAIN = Domain(31337, simulation_account(1, "contract").address)
U64 = st.integers(0, 2**64 - 1)
DIGEST = st.binary(min_size=32, max_size=32)
RECEIPTS = st.builds(
    Receipt,
    task=DIGEST,
    round=U64,
    customer=st.just(ACCOUNT.address),
    model=DIGEST,
    update=DIGEST,
    size=U64,
    cid=st.from_regex(r"b[a-z0-9]{1,127}", fullmatch=True),
    encoding=st.just(ENCODING),
    examples=U64,
    epsilonMicros=U64,
    deltaPicos=U64,
    releases=U64,
)
RECEIPT = Receipt(b"\1" * 32, 3, ACCOUNT.address, b"\2" * 32, b"\3" * 32, 99, "bafkrei", ENCODING, 10, 4_000_000, 5, 1)
SIGNED = RECEIPT.sign(ACCOUNT, DOMAIN)


@given(RECEIPTS)
@settings(max_examples=25, deadline=None)
def test_sign_write_read_verify(receipt: Receipt) -> None:
    signed = receipt.sign(ACCOUNT, DOMAIN)
    again = SignedReceipt.from_json(json.loads(json.dumps(signed.to_json())))
    assert again == signed
    assert again.signer(DOMAIN) == ACCOUNT.address


CHANGES = {
    "task": b"\7" * 32,
    "round": 4,
    "customer": simulation_account(1, "customer", 1).address,
    "model": b"\7" * 32,
    "update": b"\7" * 32,
    "cid": "bafkreo",
    "size": 98,
    "encoding": "other",
    "examples": 11,
    "epsilonMicros": 1,
    "deltaPicos": 6,
    "releases": 2,
}


def test_every_member_is_tried() -> None:
    assert set(CHANGES) == set(SIGNED.to_json()) - {"signature"}


@pytest.mark.parametrize("name", CHANGES)
def test_every_member_is_signed(name: str) -> None:
    changed = replace(RECEIPT, **{name: CHANGES[name]})
    assert SignedReceipt(changed, SIGNED.signature).signer(DOMAIN) != ACCOUNT.address
    assert changed.digest(DOMAIN) != RECEIPT.digest(DOMAIN)


def test_a_receipt_of_another_task_or_chain_is_not_signed() -> None:
    assert SIGNED.signer(Domain(1, DOMAIN.contract)) != ACCOUNT.address
    assert SIGNED.signer(Domain(31337, ACCOUNT.address)) != ACCOUNT.address


def test_the_leaf_binds_customer_receipt_and_signature() -> None:
    row = encode(["address", "bytes32", "bytes32"], [ACCOUNT.address, RECEIPT.digest(DOMAIN), keccak(SIGNED.signature)])
    assert SIGNED.leaf(DOMAIN) == keccak(keccak(row))


@pytest.mark.parametrize("name", [*CHANGES, "signature"])
@pytest.mark.parametrize("value", [None, True, -1, 2**64, 1.0, "", "0x", "0x" + "0g" * 32, [], {}, "0x" + "AB" * 32])
def test_bad_members_are_refused(name: str, value: object) -> None:
    with pytest.raises(ProtocolError):
        SignedReceipt.from_json(SIGNED.to_json() | {name: value})


@pytest.mark.parametrize("name", ["task", "model", "update"])
def test_digests_with_blanks_are_refused(name: str) -> None:
    with pytest.raises(ProtocolError):
        SignedReceipt.from_json(SIGNED.to_json() | {name: "0x" + "ab" * 31 + "  "})


@pytest.mark.parametrize("change", [str.upper, lambda digits: digits[:-2] + "  "])
def test_signatures_have_one_text(change) -> None:
    text = "0x" + change(SIGNED.signature.hex())
    with pytest.raises(ProtocolError):
        SignedReceipt.from_json(SIGNED.to_json() | {"signature": text})


@pytest.mark.parametrize("value", [None, [], "text", {}, {"signature": "0x"}, SIGNED.to_json() | {"extra": 1}])
def test_other_members_are_refused(value: object) -> None:
    with pytest.raises(ProtocolError, match="exactly these members"):
        SignedReceipt.from_json(value)


def test_an_address_without_its_checksum_is_refused() -> None:
    with pytest.raises(ProtocolError, match="checksum"):
        SignedReceipt.from_json(SIGNED.to_json() | {"customer": ACCOUNT.address.lower()})


@given(
    st.dictionaries(
        st.sampled_from(sorted(SIGNED.to_json())), st.none() | st.integers() | st.text(max_size=70), max_size=4
    )
)
def test_hostile_members_raise_our_error(changes: dict[str, object]) -> None:
    value = SIGNED.to_json() | changes
    with contextlib.suppress(HearthError):
        assert SignedReceipt.from_json(value).to_json() == value


@given(st.floats(0, 1e6), st.floats(0, 1))
def test_privacy_is_never_understated(epsilon: float, delta: float) -> None:
    micros, picos = privacy_units(epsilon, delta)
    assert micros >= Decimal(str(epsilon)) * 10**6 > micros - 1
    assert picos >= Decimal(str(delta)) * 10**12 > picos - 1


@pytest.mark.parametrize(("epsilon", "delta"), [(8.3, 1e-9), (0.1, 1e-5), (4.0, 1e-12)])
def test_what_fits_the_units_is_exact(epsilon: float, delta: float) -> None:
    micros, picos = privacy_units(epsilon, delta)
    assert (micros / 1e6, picos / 1e12) == (epsilon, delta)


def test_no_finite_epsilon_is_unbounded() -> None:
    assert privacy_units(math.inf, 0.0) == (UNBOUNDED, 0)
