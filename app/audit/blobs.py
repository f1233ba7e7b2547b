"""Blobs as the audit reads them: every byte is hashed here, whoever gave it.

A CID names a graph of blocks (UnixFS, profile ``unixfs-v1-2025`` of IPIP-499). It is rebuilt here from the bytes, so
that a blob counts only under the one CID that its bytes have.

Sources: https://specs.ipfs.tech/unixfs/, https://github.com/multiformats/cid
"""

from __future__ import annotations

import base64
import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from app.audit.report import AuditError, holds
from app.protocol.cid import cid_to_bytes, cid_to_text
from app.protocol.digest import BlobRef, sha256
from app.protocol.errors import (
    BlobMissingError,
    BlobTamperedError,
    ConfigError,
    ProtocolError,
    StoreUnavailableError,
)

_CHUNK, _LINKS = 2**20, 1024
_RAW, _DAG_PB = 0x55, 0x70
_CID_BYTES = 36
_MOST_BLOCK = 2**21  # bytes
_FOLDER, _SUFFIX = "blocks", ".data"
HOUSEKEEPING = ("pins", "lock", f"{_FOLDER}/SHARDING")
"""Files of an embedded store that are no evidence: which blobs are kept and what people call them, the writers' lock,
and the name of the folders' layout. No blob is read by them: a blob is named by a record, and hashes to its name."""

_TIMEOUT = 60  # seconds for one block


def reference(data: bytes) -> BlobRef:
    """Return the digest, the size and the one CID of ``data``."""
    return BlobRef(sha256(data), len(data), cid_to_text(_cid(data, _height(len(data)))))


class Blocks(Protocol):
    """Where blocks come from; what it gives is not believed."""

    def block(self, cid: bytes) -> bytes:
        """Return the block of a binary CID, at most `_MOST_BLOCK` + 1 bytes; raise `BlobMissingError`."""


class BlockDirectory:
    """The blocks of an embedded store, in Kubo's own layout (flatfs)."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def block(self, cid: bytes) -> bytes:
        """Return the bytes of the file that should hold the block."""
        try:
            with self.path(cid[4:]).open("rb") as file:
                return file.read(_MOST_BLOCK + 1)
        except OSError as error:
            raise BlobMissingError(f"block {cid_to_text(cid)} cannot be read: {error.strerror}") from error

    def path(self, digest: bytes) -> Path:
        """Return where a block lies: by its multihash in base32, in a folder of its next-to-last letters."""
        key = base64.b32encode(b"\x12\x20" + digest).decode().rstrip("=")
        return self.root / _FOLDER / key[-3:-1] / (key + _SUFFIX)


class BlockNode:
    """The blocks of an IPFS node, by its RPC (``block/get``)."""

    def __init__(self, url: str) -> None:
        if not url.startswith(("http://", "https://")):
            raise ConfigError("--store", f"{url:.80} is no store", "http://..., https://..., or a directory")
        self._url = url.rstrip("/").removesuffix("/api/v0")

    def block(self, cid: bytes) -> bytes:
        """Return what the node gives as the block."""
        url = f"{self._url}/api/v0/block/get?arg={cid_to_text(cid)}&timeout={_TIMEOUT}s"
        request = urllib.request.Request(url, method="POST")  # noqa: S310 - the scheme was checked
        try:
            with urllib.request.urlopen(request, timeout=_TIMEOUT + 10) as answer:  # noqa: S310
                return bytes(answer.read(_MOST_BLOCK + 1))
        except urllib.error.HTTPError as error:
            raise BlobMissingError(f"block {cid_to_text(cid)}: {_words(error)}") from error
        except OSError as error:
            raise StoreUnavailableError(f"IPFS node {self._url} cannot be reached: {error}") from error


class Blobs:
    """The blobs of one task.

    Parameters
    ----------
    place : str
        Where they are, for messages.
    blocks : Blocks
        Where their blocks come from.
    """

    def __init__(self, place: str, blocks: Blocks) -> None:
        self.place, self._blocks = place, blocks
        self._read: set[bytes] = set()

    def get(self, ref: BlobRef, most: int) -> bytes:
        """Return a blob whose digest, size and CID are those of ``ref``.

        Raises
        ------
        BlobMissingError
            If a block of it is not there.
        BlobTamperedError
            If its bytes are others, or the reference contradicts itself.
        ProtocolError
            If its CID is none of ours, or it is larger than ``most`` bytes.
        """
        cid = cid_to_bytes(ref.cid)
        if cid[1] not in (_RAW, _DAG_PB):
            raise ProtocolError(f"not the CID of a file: {ref.cid}")
        if ref.size > most:
            raise ProtocolError(f"blob {ref.cid} has {ref.size} bytes (allowed: up to {most})")
        height = _height(ref.size)
        if cid[1] != (_DAG_PB if height else _RAW) or (height == 0 and cid[4:] != ref.sha256):
            raise BlobTamperedError(f"blob {ref.cid}: its CID, sha-256 and size ({ref.size}) contradict each other")
        data = b"".join(self._leaves(cid, ref.size, height))
        if sha256(data) != ref.sha256:
            raise BlobTamperedError(f"blob {ref.cid} hashes to 0x{sha256(data).hex()}")
        return data

    def small(self, what: str, digest: bytes) -> bytes:
        """Return a blob of one block, of which only the digest is known; raise `AuditError` if it cannot be had."""
        try:
            return self._block(_cid_of(digest, _RAW))
        except (BlobMissingError, BlobTamperedError) as error:
            raise AuditError(f"{self.place}, {what}", f"sha-256 0x{digest.hex()}", error) from error

    def needed(self, what: str, ref: BlobRef, most: int) -> bytes:
        """Return a blob without which the audit cannot go on; raise `AuditError` if it cannot be had."""
        try:
            return self.get(ref, most)
        except (BlobMissingError, BlobTamperedError, ProtocolError) as error:
            raise AuditError(f"{self.place}, {what}", f"sha-256 0x{ref.sha256.hex()}", error) from error

    def check_directory(self, folder: BlockDirectory) -> tuple[int, int]:
        """Check every file of an embedded store: it is a block under its own name, or housekeeping.

        Returns
        -------
        blocks, unread : int
            How many there are, and how many of them no record led to.
        """
        digests = set()
        for path in sorted(file for file in folder.root.rglob("*") if not file.is_dir()):
            name = path.relative_to(folder.root).as_posix()
            if name in HOUSEKEEPING:
                continue
            digest = sha256(path.read_bytes())
            holds(path == folder.path(digest), f"{self.place}/{name}", "a block of that name", f"0x{digest.hex()}")
            digests.add(digest)
        return len(digests), len(digests - self._read)

    def _block(self, cid: bytes) -> bytes:
        block = self._blocks.block(cid)
        if sha256(block) != cid[4:]:
            raise BlobTamperedError(f"block {cid_to_text(cid)} hashes to 0x{sha256(block).hex()}")
        self._read.add(cid[4:])
        return block

    def _leaves(self, cid: bytes, size: int, height: int) -> Iterator[bytes]:
        """Yield a file's chunks, refusing every node that is not the one of a file of this size."""
        block = self._block(cid)
        if height == 0:
            if len(block) != size:
                raise BlobTamperedError(f"block {cid_to_text(cid)} has {len(block)} bytes, not {size}")
            yield block
            return
        sizes, children, start = _child_sizes(size, height), [], 0
        # All of a node but its children's digests follows from the size, so it is known where they lie.
        for part in sizes:
            link = _link(bytes(_CID_BYTES), part, height)
            place = start + link.index(bytes(_CID_BYTES))
            children.append(block[place : place + _CID_BYTES])
            start += len(link)
        codec = _DAG_PB if height > 1 else _RAW
        proper = all(child[:4] == _cid_of(b"", codec) for child in children)
        if not proper or block != _node(children, sizes, height):
            raise BlobTamperedError(f"block {cid_to_text(cid)} is not a node of a file of {size} bytes")
        for child, part in zip(children, sizes, strict=True):
            yield from self._leaves(child, part, height - 1)


def _height(size: int) -> int:
    height, span = 0, _CHUNK
    while span < size:
        height, span = height + 1, span * _LINKS
    return height


def _cid_of(digest: bytes, codec: int) -> bytes:
    """Return a binary CID: version 1, codec, SHA-256, 32 bytes."""
    return bytes((1, codec, 0x12, 0x20)) + digest


def _cid(data: bytes, height: int) -> bytes:
    """Return the CID of the node over ``data``, ``height`` levels above the chunks."""
    if height == 0:
        return _cid_of(sha256(data), _RAW)
    span = _CHUNK * _LINKS ** (height - 1)
    parts = [data[start : start + span] for start in range(0, len(data), span)]
    node = _node([_cid(part, height - 1) for part in parts], [len(part) for part in parts], height)
    return _cid_of(sha256(node), _DAG_PB)


def _node(children: list[bytes], sizes: list[int], height: int) -> bytes:
    """Encode a dag-pb node: its links (field 2), then the UnixFS record of a file (field 1)."""
    links = b"".join(_link(child, size, height) for child, size in zip(children, sizes, strict=True))
    record = b"\x08\x02\x18" + _varint(sum(sizes)) + b"".join(b"\x20" + _varint(size) for size in sizes)
    return links + b"\x0a" + _varint(len(record)) + record


def _link(child: bytes, size: int, height: int) -> bytes:
    """Encode a node's link to a child: hash, empty name, size of the tree below."""
    link = b"\x0a" + _varint(_CID_BYTES) + child + b"\x12\x00\x18" + _varint(_tree_size(size, height - 1))
    return b"\x12" + _varint(len(link)) + link


def _child_sizes(size: int, height: int) -> list[int]:
    span = _CHUNK * _LINKS ** (height - 1)
    return [min(span, size - start) for start in range(0, size, span)]


def _tree_size(size: int, height: int) -> int:
    """Return the bytes of all blocks of a file of ``size`` bytes; the digests in its nodes do not matter."""
    if height == 0:
        return size
    sizes = _child_sizes(size, height)
    node = _node([bytes(_CID_BYTES)] * len(sizes), sizes, height)
    return len(node) + sum(_tree_size(part, height - 1) for part in sizes)


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def _words(error: urllib.error.HTTPError) -> str:
    try:
        return str(json.loads(error.read(4096))["Message"])[:200]
    except (OSError, ValueError, LookupError, TypeError):
        return f"status {error.code}"
