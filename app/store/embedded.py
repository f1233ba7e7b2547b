"""The embedded blob store: a directory, no daemon, the same CIDs as a real IPFS node.

::

    store/
      lock       held by whoever writes
      pins       which blobs are kept, and their names
      blocks/    the blocks, in the layout of Kubo's own data store

A blob is durable and pinned when `EmbeddedStore.put` returns. Its pin is written last, so a writer that is killed
leaves blocks that nobody asks for, never a pin without its blocks; `EmbeddedStore.gc` removes them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from app.durable import locked
from app.protocol.digest import BlobRef, sha256
from app.protocol.errors import BlobMissingError, BlobTamperedError, StoreError
from app.store.base import block_cid, check_name, check_reference, reference
from app.store.blocks import BlockDirectory
from app.store.car import read_blocks, read_roots
from app.store.cid import CID
from app.store.pins import Pin, PinFile
from app.store.unixfs import Node, height_of, read_file, size_of, walk


class EmbeddedStore:
    """A `BlobStore` in a directory.

    Threads and processes may share it: any number read, one at a time writes. Reading writes nothing, not even the
    directory, so that evidence can be read from a medium that is write-protected.

    Parameters
    ----------
    path : Path
        The directory; made by the first `put`.
    fsync : bool, optional
        Whether blobs must survive a lost power supply and not only a killed process.
    most_bytes : int, optional
        How much the blocks may have together; what would exceed it is refused before it is written.

    Raises
    ------
    StoreError
        If ``path`` holds something else.
    """

    def __init__(self, path: Path, *, fsync: bool = True, most_bytes: int | None = None) -> None:
        self.path, self._most_bytes = path, most_bytes
        self._used: int | None = None
        with self._readable_errors():
            self._blocks = BlockDirectory(path / "blocks", fsync)
        self._pins = PinFile(path / "pins", fsync)

    def put(self, data: bytes, name: str = "") -> BlobRef:
        """Store and pin a blob (see `BlobStore.put`); one that is here already is checked, and healed if damaged."""
        check_name(name)
        with self._writing():
            self._refuse_beyond_quota(len(data), lambda: self.has(reference(data)))
            ref = reference(data, self._blocks.put)
            self._pins.append(Pin(CID.parse(ref.cid), ref.size, name))
        return ref

    def get(self, ref: BlobRef, max_bytes: int) -> bytes:
        """Return a verified blob (see `BlobStore.get`)."""
        cid = check_reference(ref, max_bytes)
        whole = BytesIO()  # which hands over its buffer: the blob is in memory once, not twice
        with self._readable_errors():
            for chunk in read_file(self._blocks.get, cid, ref.size):
                whole.write(chunk)
        data = whole.getvalue()
        # Block by block the CID is proven by now; a blob of one block has the SHA-256 of that block.
        if height_of(ref.size) and sha256(data) != ref.sha256:
            raise BlobTamperedError(f"blob {cid} does not hash to the sha-256 of its reference")
        return data

    def take(self, archive: BinaryIO) -> tuple[BlobRef, ...]:
        """Store and pin the blobs of an archive (CARv1, `app.store.car`), block by block.

        Raises
        ------
        ProtocolError, BlobTamperedError
            If the archive is none, or a block in it is not what its name says.
        BlobMissingError
            If it lacks a block of one of its roots. Nothing of it is pinned then, and `gc` removes what it left.
        StoreError
            If there is no room.
        """
        with self._writing():
            roots = read_roots(archive)
            for cid, block in read_blocks(archive):
                self._refuse_beyond_quota(len(block), lambda cid=cid: self._blocks.has(cid))  # type: ignore[misc]
                self._blocks.put(cid, block)
            pins = [Pin(root, size_of(self._blocks.get(root), root.codec), "") for root in roots]
            found = [self._reference(pin) for pin in pins]
            for pin in pins:
                self._pins.append(pin)
        return tuple(found)

    def _reference(self, pin: Pin) -> BlobRef:
        """Return the reference of a blob that is here whole, after reading all of it."""
        digest = hashlib.sha256()
        for chunk in read_file(self._blocks.get, pin.cid, pin.size):
            digest.update(chunk)
        return BlobRef(digest.digest(), pin.size, str(pin.cid))

    def _refuse_beyond_quota(self, size: int, is_here: Callable[[], bool]) -> None:
        if self._most_bytes is None:
            return
        if self._used is None or self._used + size > self._most_bytes:
            self._used = self._blocks.size()
        if self._used + size > self._most_bytes and not is_here():
            told = f"it holds {self._used} of the {self._most_bytes} bytes that it may, and {size} more were asked for"
            raise StoreError(f"blob store {self.path} is full: {told} (hearth store gc, or a larger store.most_bytes)")
        self._used += size  # also of what was here already: it is counted anew before anything is refused

    def pins(self) -> list[Pin]:
        """Return what is pinned, oldest first; raise `StoreError` if the list of pins is damaged."""
        with self._readable_errors():
            return list(self._pins.read().values())

    def block(self, cid: CID) -> bytes:
        """Return one block, verified; raises as `get`."""
        with self._readable_errors():
            return self._blocks.get(cid)

    def size(self) -> int:
        """Return how many bytes the blocks have together on the disk."""
        with self._readable_errors():
            return self._blocks.size()

    def get_block(self, digest: bytes) -> bytes:
        """Return a blob of one block by its SHA-256 (see `BlobStore.get_block`)."""
        with self._readable_errors():
            return self._blocks.get(block_cid(digest))

    def has(self, ref: BlobRef) -> bool:
        """Say whether all blocks of the blob are here (see `BlobStore.has`); the leaves are not read."""
        cid = check_reference(ref, ref.size)
        try:
            with self._readable_errors():
                return all(self._is_here(node) for node in walk(self._blocks.get, cid, ref.size))
        except (BlobMissingError, BlobTamperedError):
            return False

    def names(self) -> dict[str, str]:
        """Return the name of each pinned blob by its CID, oldest first; a blob that was put without one has ``""``.

        Raises
        ------
        StoreError
            If the list of pins is damaged.
        """
        with self._readable_errors():
            return {str(pin.cid): pin.name for pin in self._pins.read().values()}

    def unpin(self, cid: str) -> None:
        """Give a blob free for `gc`; one that is not pinned is left alone.

        Raises
        ------
        StoreError
            If the list of pins is damaged or cannot be written.
        """
        unwanted = CID.parse(cid)
        with self._writing():
            pins = self._pins.read()
            if pins.pop(unwanted, None):
                self._pins.rewrite(pins)

    def gc(self) -> int:
        """Delete what no pin needs, and what killed writers left; return how many files that were.

        Raises
        ------
        StoreError
            If the list of pins is damaged or a pinned blob is incomplete; nothing is deleted then.
        """
        with self._writing():
            pins = self._pins.read()
            live = {multihash for pin in pins.values() for multihash in self._multihashes(pin)}
            self._pins.rewrite(pins)
            return self._blocks.sweep(live)

    def close(self) -> None:
        """Do nothing: no file stays open between two calls."""

    def _is_here(self, node: Node) -> bool:
        return self._blocks.has(node.cid, None if node.height else node.size)

    def _multihashes(self, pin: Pin) -> Iterator[bytes]:
        try:
            for node in walk(self._blocks.get, pin.cid, pin.size):
                if not self._is_here(node):
                    raise BlobMissingError(f"block {node.cid} is not in {self._blocks.root}")
                yield node.cid.multihash
        except StoreError as error:
            raise type(error)(
                f"pinned blob {pin.cid} {pin.name!r} is damaged (put it again, or unpin it): {error}"
            ) from error

    @contextmanager
    def _writing(self) -> Iterator[None]:
        with self._readable_errors():
            self.path.mkdir(parents=True, exist_ok=True)
            with locked(self.path / "lock"):
                yield

    @contextmanager
    def _readable_errors(self) -> Iterator[None]:
        """Turn what the operating system says into one line."""
        try:
            yield
        except OSError as error:
            raise StoreError(f"blob store {self.path}: {error.strerror or error}") from error
