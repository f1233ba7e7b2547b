"""EIP-712: the structured data that customers and miners sign.

The domain binds chain id and contract, so a signature for one task says nothing on another chain or in another task.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from eth_abi import encode
from eth_account import Account
from eth_account.messages import SignableMessage, _hash_eip191_message, encode_typed_data
from eth_account.signers.local import LocalAccount
from eth_keys.exceptions import BadSignature, ValidationError
from eth_utils import keccak, to_checksum_address
from hexbytes import HexBytes

from app.protocol.errors import ProtocolError

SIGNATURE_BYTES = 65
_HALF_ORDER = 0x7FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF5D576E7357A4501DDFE92F46681B20A0


@dataclass(frozen=True, slots=True)
class Domain:
    """Which chain and which task's contract a signature is for.

    Attributes
    ----------
    chain_id : int
        EIP-155 chain id.
    contract : str
        Checksum address of the task's contract.
    """

    chain_id: int
    contract: str

    def to_eip712(self) -> dict[str, Any]:
        """Return the EIP-712 domain; name and version are fixed."""
        return {"name": "Hearth", "version": "1", "chainId": self.chain_id, "verifyingContract": self.contract}


ANYWHERE = Domain(0, "0x0000000000000000000000000000000000000000")
"""Of what is signed for no chain and no contract: it is made before there is one, or has nothing to do with it."""

Fields = tuple[tuple[str, str], ...]
"""Names and Solidity types of a struct's members, in order."""


def struct_digest(domain: Domain, name: str, fields: Fields, values: Mapping[str, Any]) -> bytes:
    """Return the EIP-712 digest (32 bytes) that is signed."""
    return bytes(_hash_eip191_message(_message(domain, name, fields, values)))


def sign(account: LocalAccount, domain: Domain, name: str, fields: Fields, values: Mapping[str, Any]) -> bytes:
    """Return the account's signature: r, s, v in 65 bytes, s in the lower half of the order."""
    return bytes(account.sign_message(_message(domain, name, fields, values)).signature)


def recover(domain: Domain, name: str, fields: Fields, values: Mapping[str, Any], signature: bytes) -> str:
    """Return the checksum address that made ``signature``.

    Raises
    ------
    ProtocolError
        If the signature is malformed. A high s is refused as OpenZeppelin's ECDSA does (EIP-2): every signature has
        one form, so nobody can make a second one from it.
    """
    well_formed = len(signature) == SIGNATURE_BYTES and signature[64] in (27, 28)
    if not well_formed or int.from_bytes(signature[32:64], "big") > _HALF_ORDER:
        raise ProtocolError("malformed signature")
    try:
        address = Account.recover_message(_message(domain, name, fields, values), signature=signature)
    except (BadSignature, ValidationError, ValueError) as error:
        raise ProtocolError("malformed signature") from error
    return to_checksum_address(address)


def _message(domain: Domain, name: str, fields: Fields, values: Mapping[str, Any]) -> SignableMessage:
    """Return what is signed about a flat struct; what does not change from one to the next is hashed once."""
    kinds, words = ["bytes32"], [_type_hash(name, fields)]
    for field, kind in fields:
        value = values[field]
        if kind in ("string", "bytes"):
            kind, value = "bytes32", keccak(value.encode() if kind == "string" else value)
        elif kind.endswith("[]"):
            kind, value = "bytes32", keccak(encode([kind.removesuffix("[]")] * len(value), value))
        kinds.append(kind)
        words.append(value)
    return SignableMessage(HexBytes(b"\x01"), _domain_hash(domain), HexBytes(keccak(encode(kinds, words))))


@lru_cache(maxsize=16)
def _domain_hash(domain: Domain) -> HexBytes:
    return HexBytes(encode_typed_data(domain.to_eip712(), {"Nothing": []}, {}).header)


@lru_cache(maxsize=16)
def _type_hash(name: str, fields: Fields) -> bytes:
    return keccak(text=f"{name}({','.join(f'{kind} {field}' for field, kind in fields)})")
