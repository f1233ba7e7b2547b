"""Digests and the one canonical text form that they are taken of."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from typing import Any

from app.protocol.errors import ProtocolError

MAX_DEPTH = 32
"""Deepest nesting of a JSON text from outside."""
_STRINGS = re.compile(rb'"(?:[^"\\]|\\.|\\\Z)*+(?:"|\Z)', re.DOTALL)  # never fails, so it takes linear time
_BRACKETS = re.compile(rb"[\[\]{}]")
_HEX = re.compile("0x[0-9a-f]*")


def sha256(data: bytes) -> bytes:
    """Return the SHA-256 digest (32 bytes) of ``data``."""
    return hashlib.sha256(data).digest()


def canonical_json(value: Any) -> bytes:
    """Encode ``value`` as the only JSON text that Hearth signs or hashes.

    Keys sorted, no white space, UTF-8, finite numbers only: two machines that hold the same value write the same
    bytes.

    Raises
    ------
    ProtocolError
        If ``value`` has no JSON form, or holds NaN or an infinity.
    """
    try:
        text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
        return text.encode("utf-8")
    except (TypeError, ValueError) as error:
        raise ProtocolError(f"no canonical form: {error}") from error


def parse_json(data: bytes, what: str) -> dict[str, Any]:
    """Parse a JSON object from outside; raise `ProtocolError` as `parse_value`, and where it is none."""
    value = parse_value(data, what)
    if not isinstance(value, dict):
        raise ProtocolError(f"{what} must be a JSON object")
    return value


def parse_value(data: bytes, what: str) -> Any:
    """Parse JSON from outside.

    Raises
    ------
    ProtocolError
        If it is none, or is nested deeper than any record of ours. The depth is checked first: another library
        raises the interpreter's recursion limit so far that the parser could exhaust the stack and end the process.
    """
    depth = deepest = 0
    for bracket in _BRACKETS.findall(_STRINGS.sub(b"", data)):
        depth += 1 if bracket in b"[{" else -1
        deepest = max(deepest, depth)
    if deepest > MAX_DEPTH:
        raise ProtocolError(f"{what} is nested {deepest} deep (allowed: {MAX_DEPTH})")
    try:
        return json.loads(data.decode("utf-8"))
    except ValueError as error:
        raise ProtocolError(f"{what} must be JSON: {error}") from error


@dataclass(frozen=True, slots=True)
class BlobRef:
    """Where a blob is and what it must hash to.

    Attributes
    ----------
    sha256 : bytes
        Plain SHA-256 of the blob's bytes (32 bytes): what receipts and the chain bind.
    size : int
        Its length in bytes.
    cid : str
        Its IPFS content identifier (CIDv1, base32, profile ``unixfs-v1-2025``): how a store finds it.
    """

    sha256: bytes
    size: int
    cid: str

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form: ``{"cid", "sha256" (hex with 0x), "size"}``."""
        return {"cid": self.cid, "sha256": "0x" + self.sha256.hex(), "size": self.size}

    @classmethod
    def from_json(cls, value: Any) -> BlobRef:
        """Read what `to_json` wrote; raise `ProtocolError` on anything else."""
        try:
            if set(value) != {"cid", "sha256", "size"} or not isinstance(value["cid"], str):
                raise ValueError("keys must be cid, sha256, size")
            digest = bytes32(value["sha256"])
            size = value["size"]
            if isinstance(size, bool) or not isinstance(size, int) or not 0 <= size < 2**63:
                raise ValueError("size must be a non-negative integer")
        except (TypeError, ValueError) as error:
            raise ProtocolError(f"not a blob reference: {error}") from error
        return cls(digest, size, value["cid"])


def bytes32(text: object) -> bytes:
    """Read 32 bytes from ``0x`` and 64 lower-case hexadecimal digits.

    Raises
    ------
    ProtocolError
        If ``text`` is anything else.
    """
    return unhex(text, 32, "a digest")


def unhex(text: object, length: int, what: str) -> bytes:
    """Read ``length`` bytes from ``0x`` and lower-case hexadecimal digits; raise `ProtocolError` on anything else."""
    if isinstance(text, str) and len(text) == 2 + 2 * length and _HEX.fullmatch(text):
        return bytes.fromhex(text[2:])
    raise ProtocolError(f"{what} is not {length} bytes in lower-case hexadecimal: {text!r:.80}")


def hex32(data: bytes) -> str:
    """Return ``0x`` and the lower-case hexadecimal digits of ``data``."""
    return "0x" + data.hex()
