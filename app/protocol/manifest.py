"""The manifest: all receipts of a round, fixed by the seal before anyone evaluates them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from app.protocol.digest import BlobRef, canonical_json
from app.protocol.errors import ProtocolError
from app.protocol.merkle import MerkleTree
from app.protocol.receipt import SignedReceipt
from app.protocol.signing import Domain

MAX_ENTRY_BYTES = 2048  # of one receipt in a manifest, several times what it takes


@dataclass(frozen=True, slots=True)
class ManifestEntry:
    """One customer's receipt, and where its update's blob is."""

    signed: SignedReceipt
    cid: str

    @property
    def customer(self) -> str:
        """The customer's checksum address, as the receipt says."""
        return self.signed.receipt.customer

    @property
    def blob(self) -> BlobRef:
        """The update's blob: digest and size as signed, the CID beside them."""
        return BlobRef(self.signed.receipt.update, self.signed.receipt.size, self.cid)


@dataclass(frozen=True, slots=True)
class Manifest:
    """A round's receipts, sorted by customer.

    Attributes
    ----------
    round : int
        The round, from 1.
    entries : tuple of ManifestEntry
        Sorted by the customer's address (as a number), each customer once.
    """

    round: int
    entries: tuple[ManifestEntry, ...]

    def __post_init__(self) -> None:
        addresses = [int(entry.customer, 16) for entry in self.entries]
        if any(left >= right for left, right in pairwise(addresses)):
            raise ProtocolError("a manifest holds each customer once, sorted by address")
        if any(entry.signed.receipt.round != self.round for entry in self.entries):
            raise ProtocolError("a manifest holds receipts of one round only")

    @classmethod
    def of(cls, round_number: int, entries: list[ManifestEntry]) -> Manifest:
        """Sort the entries and build the manifest."""
        return cls(round_number, tuple(sorted(entries, key=lambda entry: int(entry.customer, 16))))

    def tree(self, domain: Domain) -> MerkleTree:
        """Return the Merkle tree whose root is sealed; raise `ProtocolError` for an empty manifest."""
        return MerkleTree([entry.signed.leaf(domain) for entry in self.entries])

    def to_bytes(self) -> bytes:
        """Return the canonical JSON text, the blob that the seal binds."""
        receipts = [entry.signed.to_json() | {"cid": entry.cid} for entry in self.entries]
        return canonical_json({"round": self.round, "receipts": receipts})

    @classmethod
    def from_bytes(cls, data: bytes) -> Manifest:
        """Read what `to_bytes` wrote; raise `ProtocolError` on anything else, also on another text of the same."""
        value = parse_json(data, "a manifest")
        if (
            set(value) != {"round", "receipts"}
            or type(value["round"]) is not int
            or type(value["receipts"]) is not list
        ):
            raise ProtocolError("a manifest has the members round and receipts")
        manifest = cls(value["round"], tuple(_entry(item) for item in value["receipts"]))
        if manifest.to_bytes() != data:
            raise ProtocolError("the manifest is not in canonical form")
        return manifest


def parse_json(data: bytes, what: str) -> dict[str, Any]:
    """Parse a JSON object from outside; raise `ProtocolError` if it is not one."""
    try:
        value = json.loads(data.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise ProtocolError(f"{what} must be JSON: {error}") from error
    if not isinstance(value, dict):
        raise ProtocolError(f"{what} must be a JSON object")
    return value


def _entry(item: object) -> ManifestEntry:
    if not isinstance(item, dict) or not isinstance(item.get("cid"), str):
        raise ProtocolError("a manifest's entry must be a receipt with a cid")
    receipt = {name: value for name, value in item.items() if name != "cid"}
    return ManifestEntry(SignedReceipt.from_json(receipt), item["cid"])
