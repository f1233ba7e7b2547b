"""CIDs between their text (``b...``, multibase base32) and the 36 bytes that go on chain (CIDv1, SHA-256)."""

from __future__ import annotations

import base64
import binascii

from app.protocol.errors import ProtocolError

BYTES = 36
CHARACTERS = 58  # of 36 bytes in base32 without padding
_PADDING = "=" * 6  # to the next multiple of eight
_SHA256_V1 = (b"\x01", b"\x12\x20")  # version; multihash code and length


def cid_to_bytes(text: str) -> bytes:
    """Return the binary form of a CIDv1 with a SHA-256 digest (36 bytes).

    Raises
    ------
    ProtocolError
        If ``text`` is not such a CID in lower-case base32.
    """
    try:
        if len(text) != 1 + CHARACTERS or not text.startswith("b") or text != text.lower():
            raise ValueError
        data = base64.b32decode(text[1:].upper() + _PADDING)
    except (ValueError, binascii.Error) as error:
        raise ProtocolError(f"not a CIDv1 in base32: {text!r:.80}") from error
    if cid_to_text(data) != text:  # the last character has bits to spare: one CID has one text
        raise ProtocolError(f"not a CIDv1 in canonical base32: {text!r:.80}")
    return data


def cid_to_text(data: bytes) -> str:
    """Return the text form of a binary CIDv1; the inverse of `cid_to_bytes`.

    Raises
    ------
    ProtocolError
        If ``data`` is not 36 bytes, or not version 1 with a SHA-256 digest.
    """
    if len(data) != BYTES or (data[:1], data[2:4]) != _SHA256_V1:
        raise ProtocolError(f"not a binary CIDv1 with a SHA-256 digest: {data[:BYTES].hex()}")
    return "b" + base64.b32encode(data).decode().rstrip("=").lower()
