"""The receipt: what a customer signs about its update of one round."""

from __future__ import annotations

import math
import re
from dataclasses import asdict, dataclass, fields
from decimal import Decimal
from typing import Any

from eth_account.signers.local import LocalAccount
from eth_utils import is_checksum_address, keccak

from app.protocol.digest import BlobRef, bytes32, hex32, unhex
from app.protocol.errors import ProtocolError
from app.protocol.merkle import leaf_hash
from app.protocol.signing import SIGNATURE_BYTES, Domain, Fields, recover, sign, struct_digest

ENCODING = "fixedpoint"
"""Updates in the clear on the task's grid, in integers as wide as its policy says.

The field is the seam for other encodings, such as encrypted updates."""

_TYPE = "Receipt"
_FIELDS: Fields = (
    ("task", "bytes32"),
    ("round", "uint256"),
    ("customer", "address"),
    ("model", "bytes32"),
    ("update", "bytes32"),
    ("size", "uint64"),
    ("cid", "string"),
    ("encoding", "string"),
    ("examples", "uint64"),
    ("epsilonMicros", "uint64"),
    ("deltaPicos", "uint64"),
    ("releases", "uint64"),
)
_INTEGERS = ("round", "size", "examples", "epsilonMicros", "deltaPicos", "releases")
_CID = re.compile("b[a-z0-9]{1,127}")  # 59 characters are in use; a store checks the rest
_DIGESTS = ("task", "model", "update")
UNBOUNDED = 2**64 - 1
"""``epsilonMicros`` of a release without any noise: no finite epsilon holds."""


@dataclass(frozen=True, slots=True)
class Receipt:
    """A customer's statement on its update; chain id and contract are bound by the domain it is signed in.

    Attributes
    ----------
    task : bytes
        Digest of the task's policy (32 bytes).
    round : int
        The round, from 1.
    customer : str
        The customer's checksum address.
    model : bytes
        Digest of the global model that was trained on (32 bytes).
    update : bytes
        Digest of the update's blob (32 bytes).
    size : int
        The blob's length in bytes.
    cid : str
        Its IPFS content identifier: signed too, so that no relayer can send the miners to another place.
    encoding : str
        How the update is encoded; `ENCODING`.
    examples : int
        Records trained on, as the customer claims.
    epsilonMicros, deltaPicos : int
        Privacy spent so far on the customer's most exposed record, rounded up, in units of 1e-6 and 1e-12;
        `UNBOUNDED` where nothing is promised.
    releases : int
        How often that record's features have been released so far.
    """

    task: bytes
    round: int
    customer: str
    model: bytes
    update: bytes
    size: int
    cid: str
    encoding: str
    examples: int
    epsilonMicros: int  # noqa: N815 - the names of the signed struct
    deltaPicos: int  # noqa: N815
    releases: int

    @property
    def blob(self) -> BlobRef:
        """Where the update is and what it must hash to."""
        return BlobRef(self.update, self.size, self.cid)

    def digest(self, domain: Domain) -> bytes:
        """Return the EIP-712 digest (32 bytes)."""
        return struct_digest(domain, _TYPE, _FIELDS, asdict(self))

    def sign(self, account: LocalAccount, domain: Domain) -> SignedReceipt:
        """Sign with the customer's key."""
        return SignedReceipt(self, sign(account, domain, _TYPE, _FIELDS, asdict(self)))


@dataclass(frozen=True, slots=True)
class SignedReceipt:
    """A receipt and its customer's signature (65 bytes)."""

    receipt: Receipt
    signature: bytes

    @property
    def customer(self) -> str:
        """The checksum address that the receipt names; `signer` tells who signed."""
        return self.receipt.customer

    def signer(self, domain: Domain) -> str:
        """Return the address that signed; raise `ProtocolError` if the signature is malformed."""
        return recover(domain, _TYPE, _FIELDS, asdict(self.receipt), self.signature)

    def leaf(self, domain: Domain) -> bytes:
        """Return the receipt's leaf in the round's Merkle tree: (customer, digest, keccak(signature))."""
        values = (self.receipt.customer, self.receipt.digest(domain), keccak(self.signature))
        return leaf_hash(("address", "bytes32", "bytes32"), values)

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form: the struct's members, digests in hexadecimal, and ``signature``."""
        record = asdict(self.receipt) | {name: hex32(getattr(self.receipt, name)) for name in _DIGESTS}
        return record | {"signature": hex32(self.signature)}

    @classmethod
    def from_json(cls, value: Any) -> SignedReceipt:
        """Read what `to_json` wrote.

        Raises
        ------
        ProtocolError
            If a member is missing, superfluous, of another type or out of range.
        """
        names = {field.name for field in fields(Receipt)}
        if not isinstance(value, dict) or set(value) != names | {"signature"}:
            raise ProtocolError("a receipt has exactly these members: " + ", ".join(sorted(names | {"signature"})))
        for name in _INTEGERS:
            if type(value[name]) is not int or not 0 <= value[name] < 2**64:
                raise ProtocolError(f"a receipt's {name} must be an integer from 0 to 2**64 - 1")
        if not isinstance(value["customer"], str) or not is_checksum_address(value["customer"]):
            raise ProtocolError("a receipt's customer must be a checksum address")
        if not isinstance(value["cid"], str) or not _CID.fullmatch(value["cid"]):
            raise ProtocolError("a receipt's cid must be a CIDv1 in base32")
        if value["encoding"] != ENCODING:
            raise ProtocolError(f"unknown encoding of an update: {value['encoding']!r:.40} (allowed: {ENCODING})")
        digests = {name: bytes32(value[name]) for name in _DIGESTS}
        return cls(
            Receipt(**{n: value[n] for n in names} | digests),
            unhex(value["signature"], SIGNATURE_BYTES, "a receipt's signature"),
        )


def privacy_units(epsilon: float, delta: float) -> tuple[int, int]:
    """Return epsilon in micros and delta in picos, both rounded up, as a receipt states them.

    An infinite epsilon becomes `UNBOUNDED`.
    """
    picos = math.ceil(Decimal(str(delta)) * 10**12)  # as the number is written: 8.3 is not a little more than 8.3
    return (math.ceil(Decimal(str(epsilon)) * 10**6) if math.isfinite(epsilon) else UNBOUNDED), picos
