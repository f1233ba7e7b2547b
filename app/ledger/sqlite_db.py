"""The embedded chain's database: one SQLite file, one writer, every sealed block on disk before it is acknowledged."""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from eth.abc import AtomicWriteBatchAPI
from eth.db.atomic import AtomicDBWriteBatch
from eth.db.backends.base import BaseAtomicDB

from app.protocol.errors import LedgerError


class WriterLock:
    """An exclusive lock beside the database (``PATH.lock``), held by at most one writer and released by its death.

    Raises
    ------
    LedgerError
        If another writer, in this process or another, has it, or no file can be written there.
    """

    def __init__(self, path: Path) -> None:
        self._path = path.with_name(path.name + ".lock")
        while True:
            try:
                self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
            except OSError as error:
                raise LedgerError(f"{path}: cannot be written: {error.strerror}") from error
            try:
                fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(self._fd)
                raise LedgerError(f"{path}: another process writes to this chain (allowed: one writer)") from None
            if self._is_current():
                return
            os.close(self._fd)  # its last holder removed the file between our open and our lock: take the new one

    def _is_current(self) -> bool:
        with contextlib.suppress(FileNotFoundError):
            return os.path.samestat(os.stat(self._path), os.fstat(self._fd))
        return False

    def release(self) -> None:
        """Give the lock up and remove its file; one that stays is taken over by the next writer."""
        with contextlib.suppress(OSError):
            self._path.unlink(missing_ok=True)
        os.close(self._fd)


class SQLiteDB(BaseAtomicDB):
    """Key-value store for py-evm.

    A table ``kv`` holds what py-evm stores, a table ``meta`` what we say about the chain (texts). While it is open
    for writing, the file is in WAL mode with ``synchronous=FULL``: a committed transaction survives the death of the
    process and of the machine. Closing folds the log back, so that the one file is all of the chain.

    Parameters
    ----------
    path : Path
        The file.
    create : bool
        Make the file and its tables; without it a file that has no such tables is left as it is.
    readonly : bool
        Never write to the file, and take no lock.

    Raises
    ------
    LedgerError
        If the file cannot be opened, is no SQLite database, or another writer has it.
    """

    def __init__(self, path: Path, *, create: bool = False, readonly: bool = False) -> None:
        self.path, self.readonly = path, readonly
        self._lock = None if readonly else WriterLock(path)
        try:
            self._connection = self._connect(create)
        except sqlite3.Error as error:
            if self._lock is not None:
                self._lock.release()
            raise LedgerError(f"{path}: cannot be opened as a chain: {error}") from error

    def _connect(self, create: bool) -> sqlite3.Connection:
        mode = "ro" if self.readonly else "rwc" if create else "rw"
        uri = f"{self.path.absolute().as_uri()}?mode={mode}"
        connection = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False)
        if create:
            connection.execute("CREATE TABLE IF NOT EXISTS kv(k BLOB PRIMARY KEY, v BLOB NOT NULL) WITHOUT ROWID")
            connection.execute("CREATE TABLE IF NOT EXISTS meta(name TEXT PRIMARY KEY, value TEXT NOT NULL)")
        connection.execute("SELECT value FROM meta LIMIT 1")  # the file is only read now: fail here, and unchanged
        if not self.readonly:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=FULL")
        return connection

    def __getitem__(self, key: bytes) -> bytes:
        row = self._connection.execute("SELECT v FROM kv WHERE k=?", (key,)).fetchone()
        if row is None:
            raise KeyError(key)
        return bytes(row[0])

    def __setitem__(self, key: bytes, value: bytes) -> None:
        self._connection.execute("INSERT OR REPLACE INTO kv VALUES(?, ?)", (key, value))

    def __delitem__(self, key: bytes) -> None:
        if self._connection.execute("DELETE FROM kv WHERE k=?", (key,)).rowcount == 0:
            raise KeyError(key)

    def _exists(self, key: bytes) -> bool:
        return self._connection.execute("SELECT 1 FROM kv WHERE k=?", (key,)).fetchone() is not None

    def meta(self, name: str) -> str | None:
        """Return what was noted under ``name``, or None."""
        row = self._connection.execute("SELECT value FROM meta WHERE name=?", (name,)).fetchone()
        return None if row is None else str(row[0])

    def set_meta(self, name: str, value: str) -> None:
        """Note ``value`` under ``name``."""
        self._connection.execute("INSERT OR REPLACE INTO meta VALUES(?, ?)", (name, value))

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing, on disk when it ends; a nested one is a savepoint."""
        nested = self._connection.in_transaction
        self._connection.execute("SAVEPOINT nested" if nested else "BEGIN IMMEDIATE")
        try:
            yield
            self._connection.execute("RELEASE nested" if nested else "COMMIT")
        except BaseException:
            # A disk that is full makes SQLite roll everything back by itself.
            if self._connection.in_transaction:
                if nested:
                    self._connection.execute("ROLLBACK TO nested")
                    self._connection.execute("RELEASE nested")
                else:
                    self._connection.execute("ROLLBACK")
            raise

    @contextlib.contextmanager
    def atomic_batch(self) -> Iterator[AtomicWriteBatchAPI]:
        """py-evm's unit of writing: collected, then applied together."""
        with self.transaction(), AtomicDBWriteBatch._commit_unless_raises(self) as batch:
            yield batch

    def close(self) -> None:
        """Fold the write-ahead log into the file, leave it without side files, release the lock.

        Where the disk is full, or a reader still has the file open, the log stays beside the file and both together
        are the chain: what was committed is in one of them, so there is nothing to raise.
        """
        try:
            with contextlib.suppress(sqlite3.Error):
                if not self.readonly:
                    self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
                    self._connection.execute("PRAGMA journal_mode=DELETE")
            with contextlib.suppress(sqlite3.Error):
                self._connection.close()
        finally:
            if self._lock is not None:
                self._lock.release()
                self._lock = None
