"""A member's card: what a customer or a miner gives to the manufacturer to be admitted, signed with its wallet's key.

It binds what else others know the member by, a miner's VRF key and service or the key of a customer's Flower node, to
the address that signs its receipts or verdicts: nobody can admit a member with a key that it does not have.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from eth_account.signers.local import LocalAccount

from app.protocol.digest import bytes32, canonical_json, hex32, parse_json, unhex
from app.protocol.errors import ProtocolError
from app.protocol.shapes import Shape, address, check, text
from app.protocol.signing import ANYWHERE, SIGNATURE_BYTES, Fields, recover, sign

CUSTOMER, MINER = "customer", "miner"
MOST_BYTES = 4096
_LONGEST = 1024  # characters of a member
_TYPE = "Card"
_FIELDS: Fields = (
    ("role", "string"),
    ("member", "address"),
    ("vrfKey", "bytes32"),
    ("service", "string"),
    ("nodeKey", "string"),
)


@dataclass(frozen=True, slots=True)
class Card:
    """One member, as it presents itself.

    Attributes
    ----------
    role : str
        ``customer`` or ``miner``.
    member : str
        Its checksum address.
    vrf_key : bytes
        A miner's VRF public key (32 bytes); zeros of a customer.
    service : str
        Where other miners reach a miner, ``host:port``; empty of a customer.
    node_key : str
        The public key of a customer's Flower node, a line in OpenSSH's form; empty of a miner.
    signature : bytes
        The member's (65 bytes); empty until `signed`.
    """

    role: str
    member: str
    vrf_key: bytes = bytes(32)
    service: str = ""
    node_key: str = ""
    signature: bytes = b""

    def signed(self, account: LocalAccount) -> Card:
        """Return the card with the member's signature."""
        return replace(self, signature=sign(account, ANYWHERE, _TYPE, _FIELDS, self._values()))

    def to_bytes(self) -> bytes:
        """Return the card as one line of canonical JSON, without a line's end."""
        return canonical_json(
            {
                "role": self.role,
                "member": self.member,
                "vrfKey": hex32(self.vrf_key),
                "service": self.service,
                "nodeKey": self.node_key,
                "signature": hex32(self.signature),
            }
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> Card:
        """Read a card.

        Raises
        ------
        ProtocolError
            If it is none, or its member did not sign it.
        """
        if len(data) > MOST_BYTES:
            raise ProtocolError(f"a card of {len(data)} bytes is too long")
        value = parse_json(data, "a card")
        check(value, _SHAPE, "a card")
        if value["role"] not in (CUSTOMER, MINER):
            raise ProtocolError(f"a card's role is {CUSTOMER} or {MINER}, not {value['role']!r:.40}")
        card = cls(
            value["role"],
            value["member"],
            bytes32(value["vrfKey"]),
            value["service"],
            value["nodeKey"],
            unhex(value["signature"], SIGNATURE_BYTES, "a card's signature"),
        )
        if recover(ANYWHERE, _TYPE, _FIELDS, card._values(), card.signature) != card.member:
            raise ProtocolError(f"the card of {card.member} is not signed by its key")
        return card

    def _values(self) -> dict[str, Any]:
        return {
            "role": self.role,
            "member": self.member,
            "vrfKey": self.vrf_key,
            "service": self.service,
            "nodeKey": self.node_key,
        }


def _short(value: object) -> bool:
    return text(value) and len(str(value)) <= _LONGEST and str(value).isprintable()


_SHAPE: Shape = {
    "role": text,
    "member": address,
    "vrfKey": text,
    "service": _short,
    "nodeKey": _short,
    "signature": text,
}
