"""Where a party keeps releases: in memory, and on its disk if it has one."""

from __future__ import annotations

from pathlib import Path

from app.customer.cipher import Cipher
from app.customer.wire import FeatureRelease
from app.durable import read_if_whole, write_privately
from app.protocol.errors import ProtocolError, StoreError

_SUFFIX = ".safetensors"


class Shelf:
    """Releases by key.

    A file that is damaged is the same as none: it is reported in the log, and never used.

    Parameters
    ----------
    folder : Path or None
        Where releases outlive the process; None keeps them in memory alone.
    cipher : Cipher, optional
        Encrypts the files.
    remember : bool, default True
        Whether to keep in memory what was read or written: one customer's few releases, not those of many phones.
    """

    def __init__(self, folder: Path | None, *, cipher: Cipher | None = None, remember: bool = True) -> None:
        self._folder, self._cipher, self._remember = folder, cipher, remember
        self._memory: dict[str, FeatureRelease] = {}

    def put(self, release: FeatureRelease) -> None:
        """Keep a release; it is on the disk when this returns. Raise `StoreError` if the disk refuses."""
        if self._folder is not None:
            data, path = release.to_bytes(), self.path(release.key)
            write_privately(path, self._cipher.seal(data, path.name) if self._cipher else data)
        if self._remember:
            self._memory[release.key] = release

    def get(self, key: str) -> FeatureRelease | None:
        """Return the release under ``key``, or None if there is none that is whole."""
        if key in self._memory:
            return self._memory[key]
        release = self._load(key)
        if release is not None and self._remember:
            self._memory[key] = release
        return release

    def remove(self, key: str) -> None:
        """Delete the release under ``key``, on disk too, if there is one; raise `StoreError` if the disk refuses."""
        self._memory.pop(key, None)
        if self._folder is None:
            return
        path = self.path(key)
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise StoreError(f"cannot delete {path}: {error.strerror}") from error

    def path(self, key: str) -> Path:
        """Return the file of a release; only a shelf with a folder has any."""
        if self._folder is None:
            raise StoreError("this shelf has no folder")
        return self._folder / (key + _SUFFIX)

    def _load(self, key: str) -> FeatureRelease | None:
        if self._folder is None:
            return None
        path = self.path(key)

        def read(data: bytes) -> FeatureRelease:
            release = FeatureRelease.from_bytes(self._cipher.open(data, path.name) if self._cipher else data)
            if release.key != key:
                raise ProtocolError("it is a release under another key")
            return release

        return read_if_whole(path, read)
