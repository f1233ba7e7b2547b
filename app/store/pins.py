"""The list of blobs that an embedded store keeps: one line a pin, appended, so that a pin costs one small write.

A line is ``cid size name``. A later line of the same CID renames it, unless it has no name. Only lines that end count:
what a killed writer left of its last line is cut off by the next writer.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from app.durable import replace_file, sync_directory
from app.protocol.errors import ProtocolError, StoreError
from app.store.cid import CID


@dataclass(frozen=True, slots=True)
class Pin:
    """A blob that is not collected.

    Attributes
    ----------
    cid : CID
        Root of the blob.
    size : int
        Its length in bytes.
    name : str
        For people; may be empty.
    """

    cid: CID
    size: int
    name: str

    def to_line(self) -> bytes:
        """Return the line of this pin, with its end."""
        return f"{self.cid} {self.size} {self.name}\n".encode()

    @classmethod
    def from_line(cls, line: bytes) -> Pin:
        """Read what `to_line` wrote, without its end; raise `StoreError` on anything else."""
        try:
            cid, size, name = line.decode().split(" ", 2)
            pin = cls(CID.parse(cid), int(size), name)
        except (ValueError, ProtocolError) as error:
            raise StoreError(f"not a pin: {line!r:.120}") from error
        if pin.to_line() != line + b"\n" or pin.size < 0:
            raise StoreError(f"not a pin: {line!r:.120}")
        return pin


class PinFile:
    """The pins of one store; writers exclude each other by a lock of their caller, readers need none.

    Parameters
    ----------
    path : Path
        The file; made by the first `append`.
    fsync : bool, optional
        Whether a pin must survive a lost power supply.
    """

    def __init__(self, path: Path, fsync: bool = True) -> None:
        self.path, self.fsync = path, fsync

    def read(self) -> dict[CID, Pin]:
        """Return all pins, oldest first.

        Raises
        ------
        StoreError
            If a line is damaged: nothing may be collected then.
        """
        try:
            data = self.path.read_bytes()
        except FileNotFoundError:
            return {}
        pins: dict[CID, Pin] = {}
        for number, line in enumerate(data.split(b"\n")[:-1], start=1):
            try:
                pin = Pin.from_line(line)
            except StoreError as error:
                raise StoreError(f"{self.path}, line {number}: {error}") from error
            if not pin.name and pin.cid in pins:
                pin = pins[pin.cid]
            pins[pin.cid] = pin
        return pins

    def append(self, pin: Pin) -> None:
        """Add a pin, durable on return.

        Raises
        ------
        OSError
            If the disk is full or the like; the file is then as it was.
        """
        is_new = not self.path.exists()
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            end = _end_of_last_line(descriptor)
            try:
                _write_at(descriptor, pin.to_line(), end)
                if self.fsync:
                    os.fdatasync(descriptor)
            except OSError:
                os.ftruncate(descriptor, end)
                raise
        finally:
            os.close(descriptor)
        if is_new and self.fsync:
            sync_directory(self.path.parent)

    def rewrite(self, pins: dict[CID, Pin]) -> None:
        """Replace the whole list; raise `OSError` if that fails, and leave it as it was."""
        replace_file(self.path, b"".join(pin.to_line() for pin in pins.values()), self.fsync)


def _end_of_last_line(descriptor: int) -> int:
    """Cut off what a killed writer left of its last line; return the length of the file."""
    end = os.fstat(descriptor).st_size
    while end:
        start = max(0, end - 4096)
        newline = os.pread(descriptor, end - start, start).rfind(b"\n")
        if newline >= 0:
            end = start + newline + 1
            break
        end = start
    os.ftruncate(descriptor, end)
    return end


def _write_at(descriptor: int, data: bytes, offset: int) -> None:
    while data:
        written = os.pwrite(descriptor, data, offset)
        data, offset = data[written:], offset + written
