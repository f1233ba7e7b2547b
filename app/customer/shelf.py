"""Where a party keeps releases: in memory, and on its disk if it has one."""

from __future__ import annotations

import logging
from pathlib import Path

from app.customer.wire import FeatureRelease
from app.durable import write_privately
from app.protocol.errors import ProtocolError, StoreError

_log = logging.getLogger(__name__)
_SUFFIX = ".safetensors"


class Shelf:
    """Releases by key.

    A file that is damaged is the same as none: it is reported in the log, and never used.

    Parameters
    ----------
    folder : Path or None
        Where releases outlive the process; None keeps them in memory alone.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._memory: dict[str, FeatureRelease] = {}

    def put(self, release: FeatureRelease) -> None:
        """Keep a release; it is on the disk when this returns. Raise `StoreError` if the disk refuses."""
        if self._folder is not None:
            write_privately(self._folder / (release.key + _SUFFIX), release.to_bytes())
        self._memory[release.key] = release

    def get(self, key: str) -> FeatureRelease | None:
        """Return the release under ``key``, or None if there is none that is whole."""
        if key not in self._memory and (release := self._load(key)) is not None:
            self._memory[key] = release
        return self._memory.get(key)

    def remove(self, key: str) -> None:
        """Delete the release under ``key``, on disk too, if there is one; raise `StoreError` if the disk refuses."""
        self._memory.pop(key, None)
        if self._folder is None:
            return
        path = self._folder / (key + _SUFFIX)
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise StoreError(f"cannot delete {path}: {error.strerror}") from error

    def _load(self, key: str) -> FeatureRelease | None:
        if self._folder is None:
            return None
        path = self._folder / (key + _SUFFIX)
        try:
            release = FeatureRelease.from_bytes(path.read_bytes())
            if release.key != key:
                raise ProtocolError("it is a release under another key")
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StoreError(f"cannot read {path}: {error.strerror}") from error
        except ProtocolError as error:
            _log.warning("%s is damaged and taken as lost: %s", path, error)
            return None
        return release
