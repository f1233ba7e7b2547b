"""Writing files so that a killed process or a lost power supply leaves the old state or the new one."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

TEMPORARY = ".temp-"
"""Start of the name of a file that is being written; found without its writer, it is garbage."""


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the exclusive lock ``path`` against all other threads and processes; a dead holder lets go of it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def replace_file(path: Path, data: bytes, fsync: bool) -> None:
    """Write ``data`` to ``path``, all or nothing; the caller is the only writer in this directory.

    Parameters
    ----------
    path : Path
        The file; what was there is replaced.
    data : bytes
        Its new content.
    fsync : bool
        Whether it must survive a lost power supply, not only a killed process.

    Raises
    ------
    OSError
        If the disk is full, or anything else that the operating system says; no temporary file stays behind.
    """
    temporary = path.with_name(TEMPORARY + path.name)
    try:
        with open(temporary, "wb") as file:
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
