"""A directory of blocks in Kubo's own layout (flatfs): one file a block, named by its hash, in up to 1024 folders.

Kubo and its tools read this directory. Never let two programs write it at once: a running Kubo would not see what was
added behind its back.
"""

from __future__ import annotations

from base64 import b32decode, b32encode
from contextlib import suppress
from pathlib import Path

from app.durable import TEMPORARY, replace_file, sync_directory
from app.protocol.errors import BlobMissingError, BlobTamperedError, StoreError
from app.store.cid import CID, MULTIHASH
from app.store.unixfs import MAX_BLOCK

_SHARDING = b"/repo/flatfs/shard/v1/next-to-last/2\n"
_SUFFIX = ".data"


class BlockDirectory:
    """Blocks on disk, verified on every read.

    Any number of threads and processes may read at any time; writers (`put`, `discard`, `sweep`) exclude each other by
    a lock of their caller.

    Parameters
    ----------
    root : Path
        The directory; it is made by the first `put`.
    fsync : bool, optional
        Whether a block must survive a lost power supply.

    Raises
    ------
    StoreError
        If the directory is there and has another layout.
    """

    def __init__(self, root: Path, fsync: bool = True) -> None:
        self.root, self.fsync = root, fsync
        self._durable_folders: set[Path] = set()
        with suppress(FileNotFoundError):
            if (root / "SHARDING").read_bytes().strip() != _SHARDING.strip():
                raise StoreError(f"{root} is not a block directory of ours (allowed: flatfs next-to-last/2)")

    def path(self, cid: CID) -> Path:
        """Return the file in which a block lies, or would lie."""
        key = b32encode(cid.multihash).decode().rstrip("=")
        return self.root / key[-3:-1] / (key + _SUFFIX)

    def get(self, cid: CID) -> bytes:
        """Return a block.

        Raises
        ------
        BlobMissingError
            If it is not here.
        BlobTamperedError
            If its bytes no longer hash to its name.
        OSError
            If it cannot be read.
        """
        try:
            with open(self.path(cid), "rb") as file:
                block = file.read(MAX_BLOCK + 1)
        except FileNotFoundError as error:
            raise BlobMissingError(f"block {cid} is not in {self.root}") from error
        cid.verify(block)
        return block

    def has(self, cid: CID, size: int | None = None) -> bool:
        """Say whether a file for the block is there, with ``size`` bytes if given; its bytes are not looked at."""
        try:
            found = self.path(cid).stat().st_size
        except FileNotFoundError:
            return False
        return size is None or found == size

    def put(self, cid: CID, block: bytes) -> None:
        """Store a block, durable on return; a damaged copy of it is replaced.

        Raises
        ------
        OSError
            If the disk is full or the like; nothing of the block stays behind.
        """
        path = self.path(cid)
        self._make_folder(path.parent)
        if not self._is_sound(cid):
            replace_file(path, block, self.fsync)
        elif self.fsync:
            # Its writer may have been killed between the rename and this.
            sync_directory(path.parent)

    def size(self) -> int:
        """Return how many bytes the blocks have together."""
        total = 0
        for file in self.root.glob(f"*/*{_SUFFIX}"):
            with suppress(FileNotFoundError):  # collected meanwhile
                total += file.stat().st_size
        return total

    def sweep(self, live: set[bytes]) -> int:
        """Delete the blocks whose multihash is not in ``live``, and what killed writers left; return how many files."""
        dead = [file for file in self.root.glob("*/*") if _is_garbage(file, live)]
        dead += self.root.glob(f"{TEMPORARY}*")
        for file in dead:
            file.unlink()
        return len(dead)

    def _is_sound(self, cid: CID) -> bool:
        try:
            self.get(cid)
        except (BlobMissingError, BlobTamperedError):
            return False
        return True

    def _make_folder(self, folder: Path) -> None:
        """Make the folder of a block and make its name durable, once a process."""
        if folder in self._durable_folders:
            return
        if not self._durable_folders:
            self.root.mkdir(parents=True, exist_ok=True)
            if self.fsync:
                sync_directory(self.root.parent)
            if not (self.root / "SHARDING").exists():
                replace_file(self.root / "SHARDING", _SHARDING, self.fsync)
        folder.mkdir(exist_ok=True)
        if self.fsync:
            sync_directory(self.root)
        self._durable_folders.add(folder)


def _is_garbage(file: Path, live: set[bytes]) -> bool:
    """Say whether a file is half written, or a block that nobody wants; what is neither is not ours to delete."""
    if file.name.startswith(TEMPORARY):
        return True
    if not file.name.endswith(_SUFFIX):
        return False
    key = file.name.removesuffix(_SUFFIX)
    try:
        multihash = b32decode(key + "=" * (-len(key) % 8))
    except ValueError:
        return False
    return multihash.startswith(MULTIHASH) and multihash not in live
