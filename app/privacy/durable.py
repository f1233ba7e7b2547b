"""Files that are either the old or the new ones, also after a power cut."""

from __future__ import annotations

import os
import threading
from pathlib import Path

from app.protocol.errors import StoreError


def write_durably(path: Path, data: bytes) -> None:
    """Replace the file at ``path`` by ``data`` in one step, and return when it is on the disk.

    A reader sees the old bytes or the new ones, never a part. Only the owner may read the file.

    Raises
    ------
    StoreError
        If the disk refuses.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with open(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        _sync_folder(path.parent)
    except OSError as error:
        raise StoreError(f"cannot write {path}: {error.strerror}") from error


def append_durably(path: Path, line: bytes) -> None:
    """Append ``line`` and return when it is on the disk; raise `StoreError` if the disk refuses."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        with open(descriptor, "ab") as file:
            file.write(line)
            file.flush()
            os.fsync(file.fileno())
        _sync_folder(path.parent)
    except OSError as error:
        raise StoreError(f"cannot write {path}: {error.strerror}") from error


def _sync_folder(folder: Path) -> None:
    """Make a file's new name durable; a folder is synced like a file on POSIX."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
