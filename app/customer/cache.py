"""The releases that a MEC server keeps for many phones: a folder each, never more bytes than it may have."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from threading import Lock

from app.customer.cipher import Cipher
from app.customer.shelf import Shelf
from app.protocol.errors import StoreError

_LOG = logging.getLogger(__name__)


class Cache:
    """Bounded shelves on disk.

    What has not been used for the longest goes first: a phone that finds its release gone sends the same bytes again.

    Parameters
    ----------
    folder : Path
        Where all of them are.
    most_bytes : int
        How much they may hold together.
    cipher : Cipher, optional
        Encrypts them at rest.
    """

    def __init__(self, folder: Path, most_bytes: int, cipher: Cipher | None = None) -> None:
        self._folder, self._most, self._cipher, self._lock = folder, most_bytes, cipher, Lock()

    def shelf(self, customer: str) -> Shelf:
        """Return a customer's shelf; it keeps nothing in memory."""
        return Shelf(self._folder / customer, cipher=self._cipher, remember=False)

    def used(self, customer: str, key: str) -> None:
        """Say that a release was used."""
        with suppress(OSError):  # it is gone, or the disk is read-only: no reason to fail
            os.utime(self.shelf(customer).path(key))

    def size(self) -> int:
        """Return how many bytes there are."""
        return sum(size for _, size, _ in self._files())

    def make_room(self, size: int) -> None:
        """Delete releases until ``size`` bytes more fit.

        Raises
        ------
        StoreError
            If they are more than the whole cache, or the disk refuses.
        """
        if size > self._most:
            raise StoreError(f"a release of {size} bytes is more than the cache may hold ({self._most})")
        with self._lock:
            files = sorted(self._files())
            held = sum(held for _, held, _ in files)
            for _, freed, path in files:
                if held + size <= self._most:
                    return
                try:
                    path.unlink(missing_ok=True)
                except OSError as error:
                    raise StoreError(f"{path} cannot be deleted: {error.strerror or error}") from error
                held -= freed
                _LOG.info("cache: %s made room, %d bytes", path.name, freed)

    def _files(self) -> Iterator[tuple[float, int, Path]]:
        """Yield when each release was last used, its size and its file."""
        for path in self._folder.glob("*/*.safetensors"):
            with suppress(FileNotFoundError):
                status = path.stat()
                yield status.st_mtime, status.st_size, path
