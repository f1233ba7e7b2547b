"""Writing files so that a killed process or a lost power supply leaves the old state or the new one."""

from __future__ import annotations

import fcntl
import logging
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from app.protocol.errors import ProtocolError, StoreError

_T = TypeVar("_T")
_log = logging.getLogger(__name__)

TEMPORARY = ".temp-"
"""Start of the name of a file that is being written; found without its writer, it is garbage."""
_PUBLIC, _PRIVATE = 0o644, 0o600


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the exclusive lock ``path`` against all other threads and processes; a dead holder lets go of it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, _PUBLIC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def replace_file(path: Path, data: bytes, fsync: bool, mode: int = _PUBLIC) -> None:
    """Write ``data`` to ``path``, all or nothing.

    Parameters
    ----------
    path : Path
        The file; what was there is replaced.
    data : bytes
        Its new content.
    fsync : bool
        Whether it must survive a lost power supply, not only a killed process.
    mode : int, optional
        Who may read a new file.

    Raises
    ------
    OSError
        If the disk is full, or anything else that the operating system says; no temporary file stays behind.
    """
    temporary = path.with_name(f"{TEMPORARY}{path.name}-{os.getpid()}-{threading.get_ident()}")
    try:
        with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode), "wb") as file:
            file.write(data)
            file.flush()
            if fsync:
                os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if fsync:
        sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Make the names in a directory durable: without this, a new file can vanish with the power."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_privately(path: Path, data: bytes) -> None:
    """Replace a file that only its owner may read; it is on the disk when this returns.

    Raises
    ------
    StoreError
        If the disk refuses.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, data, fsync=True, mode=_PRIVATE)
    except OSError as error:
        raise StoreError(f"cannot write {path}: {error.strerror}") from error


def append_privately(path: Path, line: bytes) -> None:
    """Append to a file that only its owner may read, see `write_privately`."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, _PRIVATE), "ab") as file:
            file.write(line)
            file.flush()
            os.fsync(file.fileno())
        sync_directory(path.parent)
    except OSError as error:
        raise StoreError(f"cannot write {path}: {error.strerror}") from error


def read_if_whole(path: Path, read: Callable[[bytes], _T]) -> _T | None:
    """Return what ``read`` makes of a file; None if there is none, or a damaged one, which is told in the log.

    Parameters
    ----------
    path : Path
        The file.
    read : callable
        From its bytes to what they hold; raises `ProtocolError` on anything else.

    Raises
    ------
    StoreError
        If the operating system refuses to read it.
    """
    try:
        return read(path.read_bytes())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StoreError(f"cannot read {path}: {error.strerror}") from error
    except ProtocolError as error:
        _log.warning("%s is damaged and taken as lost: %s", path, error)
        return None
