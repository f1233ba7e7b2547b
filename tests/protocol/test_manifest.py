from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.protocol.digest import MAX_DEPTH, canonical_json, parse_json
from app.protocol.errors import ProtocolError
from app.protocol.keys import simulation_account
from app.protocol.manifest import MAX_RECEIPT_BYTES, Manifest
from app.protocol.merkle import MerkleTree, verify_inclusion
from app.protocol.receipt import ENCODING, Receipt, SignedReceipt
from app.protocol.signing import Domain

DOMAIN = Domain(31337, simulation_account(1, "contract").address)


def _entry(index: int, round_number: int = 2) -> SignedReceipt:
    account = simulation_account(1, "customer", index)
    receipt = Receipt(
        b"\1" * 32,
        round_number,
        account.address,
        b"\2" * 32,
        bytes([index]) * 32,
        99,
        f"bafkrei{index}",
        ENCODING,
        10,
        4,
        5,
        1,
    )
    return receipt.sign(account, DOMAIN)


ENTRIES = [_entry(i) for i in range(5)]
MANIFEST = Manifest.of(2, ENTRIES)


def test_round_trip_and_size() -> None:
    data = MANIFEST.to_bytes()
    assert Manifest.from_bytes(data) == MANIFEST
    assert len(data) < (len(ENTRIES) + 1) * MAX_RECEIPT_BYTES


@given(st.permutations(ENTRIES))
@settings(max_examples=20)
def test_the_order_of_arrival_leaves_no_trace(entries: list[SignedReceipt]) -> None:
    manifest = Manifest.of(2, entries)
    assert manifest.to_bytes() == MANIFEST.to_bytes()
    assert manifest.tree(DOMAIN).root == MANIFEST.tree(DOMAIN).root


def test_every_receipt_is_under_the_root() -> None:
    tree = MANIFEST.tree(DOMAIN)
    assert isinstance(tree, MerkleTree)
    for i, entry in enumerate(MANIFEST.receipts):
        assert verify_inclusion(tree.root, entry.leaf(DOMAIN), tree.proof(i))


def test_a_customer_twice_is_refused() -> None:
    with pytest.raises(ProtocolError, match="once"):
        Manifest.of(2, [*ENTRIES, ENTRIES[0]])


def test_another_order_is_refused() -> None:
    value = json.loads(MANIFEST.to_bytes())
    value["receipts"].reverse()
    with pytest.raises(ProtocolError, match="sorted by address"):
        Manifest.from_bytes(canonical_json(value))


def test_a_receipt_of_another_round_is_refused() -> None:
    with pytest.raises(ProtocolError, match="one round"):
        Manifest.of(2, [*ENTRIES, _entry(7, round_number=1)])


def test_an_empty_manifest_has_no_root() -> None:
    with pytest.raises(ProtocolError, match="at least one leaf"):
        Manifest.of(2, []).tree(DOMAIN)


def test_the_blob_is_the_one_that_was_signed() -> None:
    blob = ENTRIES[3].receipt.blob
    assert (blob.sha256, blob.size, blob.cid) == (b"\3" * 32, 99, "bafkrei3")


def test_a_changed_signature_changes_the_root() -> None:
    """The leaf binds the signature's bytes, so a relayer cannot swap one for another under the same root."""
    first = ENTRIES[0]
    swapped = replace(first, signature=ENTRIES[1].signature)
    assert Manifest.of(2, [swapped, *ENTRIES[1:]]).tree(DOMAIN).root != MANIFEST.tree(DOMAIN).root


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data.replace(b'"round":2}', b'"round":2.0}'),
        lambda data: data.replace(b'"round":2}', b'"round":true}'),
        lambda data: data.replace(b'"round":2}', b'"round":2,"round":2}'),
        lambda data: data.replace(b'"round":2}', b'"round":NaN}'),
        lambda data: data + b"\n",
        lambda data: b"\xef\xbb\xbf" + data,
        lambda data: data.replace(b'"cid":"bafkrei1"', b'"cid":"\\u0062afkrei1"'),
        lambda data: data.replace(b'"cid":"bafkrei1"', b'"cid":"\\ud800"'),
        lambda data: data.replace(b'"cid":"bafkrei1"', b'"cid":1'),
        lambda data: data.replace(b'"cid":"bafkrei1",', b""),
        lambda data: b"[" * 5_000,
        lambda data: b'{"a":' * 5_000,
        lambda data: b"1" * 10_000,
    ],
)
def test_another_text_is_refused(change: Callable[[bytes], bytes]) -> None:
    data = change(MANIFEST.to_bytes())
    assert data != MANIFEST.to_bytes()
    with pytest.raises(ProtocolError):
        Manifest.from_bytes(data)


@given(data=st.data())
@settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow], deadline=None)
def test_hostile_bytes_raise_our_error(data: st.DataObject, hostile_to, refuses) -> None:
    refuses(Manifest.from_bytes, data.draw(hostile_to(MANIFEST.to_bytes())))


@pytest.mark.parametrize("data", [b"", b"[]", b"null", b"\xff", b'"text"', b"{"])
def test_parse_json_wants_an_object(data: bytes) -> None:
    with pytest.raises(ProtocolError, match="a thing must be"):
        parse_json(data, "a thing")


def test_brackets_inside_text_are_no_nesting() -> None:
    value = {"a": "[" * 99 + '\\"' + "{" * 99}
    assert parse_json(canonical_json(value), "a thing") == value


def test_no_text_takes_more_than_linear_time() -> None:
    """An unclosed string of escapes must not be tried again from every quote on: 80 kB would take 14 s."""
    for text in (b'{"a":"' + b'\\"' * 500_000, b'{"a":"' + b'\\"' * 500_000 + b"\\", b'"' * 1_000_001):
        with pytest.raises(ProtocolError):
            parse_json(text, "a thing")


@pytest.mark.parametrize("deeper", [0, 1])
def test_the_deepest_nesting_is_exact(deeper: int) -> None:
    depth = MAX_DEPTH - 1 + deeper
    data = b'{"a":' + b"[" * depth + b"]" * depth + b"}"
    if deeper:
        with pytest.raises(ProtocolError, match="nested"):
            parse_json(data, "a thing")
    else:
        assert "a" in parse_json(data, "a thing")


@pytest.mark.parametrize("text", [b"[", b'{"a":'])
def test_nesting_never_kills_the_process(text: bytes) -> None:
    """In a process of its own, since what must not happen is a segmentation fault."""
    program = (
        "from app.protocol.errors import ProtocolError\n"
        "import eth_account\n"
        "from app.protocol.digest import parse_json\n"
        f"try: parse_json({text!r} * 200_000, 'a manifest')\n"
        "except ProtocolError: print('refused')"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout.strip()) == (0, "refused")
