"""Content identifiers (CID): how IPFS names a block by the SHA-256 of its bytes.

Hearth writes one form only: version 1, base32, codec ``raw`` (a chunk of a file) or ``dag-pb`` (a node above chunks),
multihash ``sha2-256``. In binary it is 36 bytes, ``01 codec 12 20 digest``; as text it is ``b`` and 58 characters. Two
different texts never name the same block, so a CID in a signed record can be compared as text.

Source: https://github.com/multiformats/cid, https://github.com/multiformats/multibase
"""

from __future__ import annotations

from base64 import b32decode, b32encode
from dataclasses import dataclass
from hashlib import sha256

from app.protocol.errors import BlobTamperedError, ProtocolError

RAW = 0x55
"""Codec of a block that is a chunk of a file, nothing around it."""
DAG_PB = 0x70
"""Codec of a block that links to others."""
CID_BYTES = 36
MULTIHASH = b"\x12\x20"
"""What stands before the digest in a multihash: sha2-256, 32 bytes."""

_BASE58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_TEXT_LENGTH = 59  # "b" and ceil(36 * 8 / 5)


@dataclass(frozen=True, slots=True)
class CID:
    """The name of one block.

    Attributes
    ----------
    codec : int
        `RAW` or `DAG_PB`.
    digest : bytes
        SHA-256 of the block (32 bytes).
    """

    codec: int
    digest: bytes

    @classmethod
    def of(cls, block: bytes, codec: int) -> CID:
        """Return the CID of ``block``."""
        return cls(codec, sha256(block).digest())

    def __bytes__(self) -> bytes:
        return bytes((1, self.codec)) + self.multihash

    def __str__(self) -> str:
        return "b" + b32encode(bytes(self)).decode().lower().rstrip("=")

    @property
    def multihash(self) -> bytes:
        """The digest with its type and length before it (34 bytes): the key under which a block is kept."""
        return MULTIHASH + self.digest

    @classmethod
    def from_bytes(cls, data: bytes) -> CID:
        """Read the 36 bytes of a CID.

        Raises
        ------
        ProtocolError
            If they are anything else than version 1, raw or dag-pb, sha2-256.
        """
        if len(data) != CID_BYTES or data[0] != 1 or data[1] not in (RAW, DAG_PB) or data[2:4] != MULTIHASH:
            raise ProtocolError(f"not a CID (allowed: version 1, raw or dag-pb, sha2-256): {data[:40].hex()}")
        return cls(data[1], bytes(data[4:]))

    @classmethod
    def parse(cls, text: str) -> CID:
        """Read a CID from its one canonical text.

        Strict on purpose: no ``/ipfs/`` before it, no path behind it, lower case, no spare bit set. What passes is
        fit to be part of a file name or of a request.

        Raises
        ------
        ProtocolError
            If ``text`` is not what `str` of a CID writes.
        """
        if not isinstance(text, str) or len(text) != _TEXT_LENGTH or not text.isascii() or text[0] != "b":
            raise ProtocolError(f"not a CID (allowed: CIDv1 in base32): {text!r:.80}")
        try:
            cid = cls.from_bytes(b32decode(text[1:].upper() + "======"))
        except ValueError as error:
            raise ProtocolError(f"not a CID ({error}): {text!r:.80}") from error
        if str(cid) != text:
            raise ProtocolError(f"not a CID (its base32 is not canonical): {text!r:.80}")
        return cid

    @classmethod
    def parse_any(cls, text: str) -> CID:
        """Read a CID as a node may print it: also version 0 (``Qm...``) and version 1 in base58 (``z...``).

        Raises
        ------
        ProtocolError
            If ``text`` is none of them.
        """
        if isinstance(text, str) and len(text) == 46 and text.startswith("Qm"):
            return cls.from_bytes(bytes((1, DAG_PB)) + _base58_decode(text))
        if isinstance(text, str) and len(text) < 60 and text.startswith("z"):
            return cls.from_bytes(_base58_decode(text[1:]))
        return cls.parse(text)

    def verify(self, block: bytes) -> None:
        """Raise `BlobTamperedError` unless ``block`` hashes to this CID."""
        if sha256(block).digest() != self.digest:
            raise BlobTamperedError(f"block {self} does not hash to its name")


def uvarint(number: int) -> bytes:
    """Encode a non-negative integer, seven bits a byte, lowest first (unsigned LEB128)."""
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _base58_decode(text: str) -> bytes:
    number = 0
    for character in text:
        digit = _BASE58.find(character)
        if digit < 0:
            raise ProtocolError(f"not a CID (no base58 digit: {character!r}): {text!r:.80}")
        number = number * 58 + digit
    zeros = len(text) - len(text.lstrip("1"))
    return bytes(zeros) + number.to_bytes((number.bit_length() + 7) // 8, "big")
