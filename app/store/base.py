"""What every blob store promises, and what all of them check the same way."""

from __future__ import annotations

from io import BytesIO
from typing import Protocol

from app.protocol.digest import BlobRef, sha256
from app.protocol.errors import BlobTamperedError, StoreError
from app.store.cid import CID, RAW
from app.store.unixfs import PutBlock, height_of, write_file

MAX_NAME_BYTES = 255
"""Longest name of a pin in UTF-8 (Kubo's limit)."""


class BlobStore(Protocol):
    """Keeps blobs under their content identifiers.

    Nothing that a store returns has to be believed: `get` gives the bytes that the reference names, or raises. Any
    number of threads may read while others put.
    """

    def put(self, data: bytes, name: str = "") -> BlobRef:
        """Store and pin ``data``; when this returns, the blob is as durable as the store can make it.

        Parameters
        ----------
        data : bytes
            The blob.
        name : str, optional
            Name of the pin, for people (``task/round-0007/update``): up to 255 bytes of UTF-8, printable.

        Raises
        ------
        StoreUnavailableError
            If the store cannot be reached for now.
        StoreError
            If it refused: no space, no right, a bad name.
        """

    def get(self, ref: BlobRef, max_bytes: int) -> bytes:
        """Return the blob, verified against its CID, its SHA-256 and its size.

        Parameters
        ----------
        ref : BlobRef
            What to read, from a signed record or the chain.
        max_bytes : int
            The most that the caller is ready to hold; a larger blob is refused before a byte is read.

        Raises
        ------
        BlobMissingError
            If the store does not have all of it.
        BlobTamperedError
            If the store gave other bytes, or the reference contradicts itself.
        ProtocolError
            If ``ref.cid`` is not a CID.
        StoreError
            If the blob is larger than ``max_bytes``, or the store failed.
        """

    def get_block(self, digest: bytes) -> bytes:
        """Return a blob of one block (up to 1 MiB) by its SHA-256 alone, verified; see `block_cid`.

        Raises
        ------
        BlobMissingError, BlobTamperedError, StoreError
            As `get`.
        """

    def has(self, ref: BlobRef) -> bool:
        """Say whether the store holds the blob; only `get` proves it."""

    def close(self) -> None:
        """Let go of connections; the store is not used afterwards."""


def _discard(cid: CID, block: bytes) -> None:
    """Put nothing anywhere."""


def reference(data: bytes, put: PutBlock = _discard) -> BlobRef:
    """Return the reference of ``data``.

    Parameters
    ----------
    data : bytes
        The blob.
    put : callable, optional
        Called with each block and its CID, the root last; without it nothing is stored.
    """
    cid = write_file(BytesIO(data), len(data), put)
    # A blob of one block has the digest of that block.
    digest = cid.digest if height_of(len(data)) == 0 else sha256(data)
    return BlobRef(digest, len(data), str(cid))


def block_cid(digest: bytes) -> CID:
    """Return the CID of the blob of one block that has a SHA-256 (32 bytes): such a blob is its own block."""
    return CID(RAW, digest)


def check_reference(ref: BlobRef, max_bytes: int) -> CID:
    """Return the CID of a reference that is fit to be fetched.

    Raises
    ------
    ProtocolError
        If its CID is none.
    BlobTamperedError
        If its three parts contradict each other.
    StoreError
        If it is larger than ``max_bytes``.
    """
    cid = CID.parse(ref.cid)
    if ref.size > max_bytes:
        raise StoreError(f"blob {cid} has {ref.size} bytes (allowed: up to {max_bytes})")
    if height_of(ref.size) == 0 and ref.sha256 != cid.digest:
        raise BlobTamperedError(f"blob {cid}: its CID, sha-256 and size ({ref.size}) contradict each other")
    return cid


def pin_name(task: bytes, what: str, round_number: int | None = None) -> str:
    """Return what a task's blob is called, so that a store which serves many tasks can be tidied task by task.

    Parameters
    ----------
    task : bytes
        Digest of the task's policy (32 bytes); its first 8 bytes begin the name.
    what : str
        ``model``, ``manifest``, ``update/0x...`` and so on.
    round_number : int, optional
        The round that it belongs to.
    """
    middle = "" if round_number is None else f"round-{round_number:04d}/"
    return f"{task[:8].hex()}/{middle}{what}"


def check_name(name: str) -> None:
    """Raise `StoreError` unless ``name`` is fit to be the name of a pin."""
    if not name.isprintable() or len(name.encode(errors="replace")) > MAX_NAME_BYTES:
        raise StoreError(f"pin name {name!r:.80} (allowed: printable, up to {MAX_NAME_BYTES} bytes of UTF-8)")
