"""The manifest: all receipts of a round, fixed by the seal before anyone evaluates them."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from app.protocol.digest import canonical_json, parse_json
from app.protocol.errors import ProtocolError
from app.protocol.merkle import MerkleTree
from app.protocol.receipt import SignedReceipt
from app.protocol.signing import Domain

MAX_RECEIPT_BYTES = 2048
"""Most bytes of one receipt in a manifest, twice what it takes."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """A round's receipts.

    Attributes
    ----------
    round : int
        The round, from 1.
    receipts : tuple of SignedReceipt
        Sorted by the customer's address (as a number), each customer once.
    """

    round: int
    receipts: tuple[SignedReceipt, ...]

    def __post_init__(self) -> None:
        addresses = [int(signed.customer, 16) for signed in self.receipts]
        if any(left >= right for left, right in pairwise(addresses)):
            raise ProtocolError("a manifest holds each customer once, sorted by address")
        if any(signed.receipt.round != self.round for signed in self.receipts):
            raise ProtocolError("a manifest holds receipts of one round only")

    @classmethod
    def of(cls, round_number: int, receipts: list[SignedReceipt]) -> Manifest:
        """Sort the receipts and build the manifest."""
        return cls(round_number, tuple(sorted(receipts, key=lambda signed: int(signed.customer, 16))))

    def tree(self, domain: Domain) -> MerkleTree:
        """Return the Merkle tree whose root is sealed; raise `ProtocolError` for an empty manifest."""
        return MerkleTree([signed.leaf(domain) for signed in self.receipts])

    def to_bytes(self) -> bytes:
        """Return the canonical JSON text, the blob that the seal binds."""
        return canonical_json({"round": self.round, "receipts": [signed.to_json() for signed in self.receipts]})

    @classmethod
    def from_bytes(cls, data: bytes) -> Manifest:
        """Read what `to_bytes` wrote; raise `ProtocolError` on anything else, also on another text of the same."""
        value = parse_json(data, "a manifest")
        if set(value) != {"round", "receipts"}:
            raise ProtocolError("a manifest has the members round and receipts")
        number, receipts = value["round"], value["receipts"]
        if type(number) is not int or not isinstance(receipts, list):
            raise ProtocolError("a manifest's round must be an integer, its receipts a list")
        manifest = cls(number, tuple(SignedReceipt.from_json(item) for item in receipts))
        if manifest.to_bytes() != data:
            raise ProtocolError("the manifest is not in canonical form")
        return manifest
