"""The write-ahead journal of one key on one chain: a signed transaction is on disk before any node hears of it.

What makes sending safe is that a nonce is used once. As long as an intent keeps its nonce, broadcasting its bytes
again, or other bytes with higher fees, cannot have a second effect. So the journal knows at every moment which intent
holds which nonce, and gives an intent another one only when the first is proven to be lost.

    signed      on disk; perhaps sent
    broadcast   a node has taken it
    replaced    signed again with higher fees and the same nonce; it may still be the one that is mined
    confirmed   in a block, with the blocks upon it that are waited for (a deeper reorganisation: broadcast again)
    dropped     refused before any node took it, or its nonce went to another transaction
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from app.protocol.errors import LedgerError

_FORMAT = "hearth journal 1"
_TABLES = """
CREATE TABLE IF NOT EXISTS meta(name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS attempt(
    number INTEGER PRIMARY KEY, intent TEXT NOT NULL, content BLOB NOT NULL, nonce INTEGER NOT NULL,
    raw BLOB NOT NULL, hash BLOB NOT NULL UNIQUE, since INTEGER NOT NULL, state TEXT NOT NULL,
    block INTEGER, block_hash BLOB, succeeded INTEGER, gas INTEGER, contract TEXT
);
CREATE UNIQUE INDEX IF NOT EXISTS holder ON attempt(nonce) WHERE state IN ('signed', 'broadcast', 'confirmed');
CREATE INDEX IF NOT EXISTS by_intent ON attempt(intent, content);
"""
_COLUMNS = "intent, content, nonce, raw, hash, since, state, block, block_hash, succeeded, gas, contract"
_OPEN = "state IN ('signed', 'broadcast')"
_NO_OUTCOME = "block=NULL, block_hash=NULL, succeeded=NULL, gas=NULL, contract=NULL"


class State(StrEnum):
    """What is known of a signed transaction."""

    SIGNED = "signed"
    BROADCAST = "broadcast"
    CONFIRMED = "confirmed"
    REPLACED = "replaced"
    DROPPED = "dropped"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a block did with a transaction.

    Attributes
    ----------
    block, block_hash : int and bytes
        Which block: another hash at that number means that the chain was reorganised.
    succeeded : bool
        False where it reverted or ran out of gas.
    gas : int
        The gas it used.
    contract : str or None
        Address of the contract that it created.
    """

    block: int
    block_hash: bytes
    succeeded: bool
    gas: int
    contract: str | None


@dataclass(frozen=True, slots=True)
class Attempt:
    """One signed transaction.

    Attributes
    ----------
    intent : str
        What it is for, in the sender's words.
    content : bytes
        Digest of what it does (recipient, value, data). Intent and content together are what happens once.
    nonce : int
        Its place among the key's transactions.
    raw : bytes
        The signed bytes.
    hash : bytes
        Its hash (32 bytes).
    since : int
        The newest block when it was signed: it is in no block up to this one.
    state : State
        What is known of it.
    outcome : Outcome or None
        Where it is, once it is confirmed.
    """

    intent: str
    content: bytes
    nonce: int
    raw: bytes
    hash: bytes
    since: int
    state: State = State.SIGNED
    outcome: Outcome | None = None


class Journal:
    """One SQLite file; its one writer holds it from the first moment to `close`, or to its death.

    Parameters
    ----------
    path : Path or None
        The file, made where there is none; None keeps the journal in memory, for chains that have no place for it.
    identity : dict of str to str, optional
        Whose journal it is (chain id, genesis, sender): written to a new file, compared with an old one.

    Raises
    ------
    LedgerError
        If another process sends with this key, the journal belongs to another chain or key, or the disk refuses.

    Attributes
    ----------
    path : Path or None
        The file.
    """

    def __init__(self, path: Path | None, identity: dict[str, str] | None = None) -> None:
        self.path = path
        self._lock = threading.RLock()
        self._connection = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
        if path is None:
            self._connection.executescript(_TABLES)
            return
        try:
            self._connection = _open(path)
            self._check_identity({"format": _FORMAT, **(identity or {})})
        except OSError as error:
            raise LedgerError(f"{path}: cannot be written: {error.strerror}") from error
        except sqlite3.Error as error:
            self._connection.close()
            if error.sqlite_errorcode == sqlite3.SQLITE_BUSY:
                raise LedgerError(f"{path}: another process sends with this key (allowed: one)") from error
            raise LedgerError(f"{path}: cannot be opened as a journal: {error}") from error
        except BaseException:
            self._connection.close()
            raise

    def close(self) -> None:
        """Leave the one file, and let another process have it."""
        with self._access():
            self._connection.close()

    # Reading

    def of_intent(self, intent: str, content: bytes) -> list[Attempt]:
        """Return every attempt of an intent, the oldest first."""
        return self._select("intent=? AND content=? ORDER BY number", intent, content)

    def family(self, attempt: Attempt) -> list[Attempt]:
        """Return ``attempt`` and those that differ from it in fees alone, the oldest first: one of them is mined."""
        one = (attempt.nonce, attempt.intent, attempt.content)
        return self._select("nonce=? AND intent=? AND content=? ORDER BY number", *one)

    def unsettled(self) -> list[Attempt]:
        """Return what was signed and is neither confirmed nor given up, by nonce; one attempt a nonce, the newest."""
        return self._select(f"{_OPEN} ORDER BY nonce")

    def holder(self, nonce: int) -> Attempt | None:
        """Return the attempt that holds a nonce, or None where it is free."""
        found = self._select("nonce=? AND state IN ('signed', 'broadcast', 'confirmed')", nonce)
        return found[0] if found else None

    # Writing: each call is on disk when it returns

    def add(self, attempt: Attempt) -> None:
        """Note a freshly signed transaction; one of the same intent that holds its nonce is replaced."""
        with self._transaction() as connection:
            connection.execute(
                f"UPDATE attempt SET state='replaced' WHERE nonce=? AND intent=? AND content=? AND {_OPEN}",  # noqa: S608
                (attempt.nonce, attempt.intent, attempt.content),
            )
            # The very same bytes can come again, where a node refused them and the reason has gone.
            connection.execute(
                "INSERT INTO attempt(intent, content, nonce, raw, hash, since, state) VALUES(?,?,?,?,?,?,'signed') "
                "ON CONFLICT(hash) DO UPDATE SET intent=excluded.intent, content=excluded.content, state='signed', "
                f"since=min(since, excluded.since), {_NO_OUTCOME}",
                (attempt.intent, attempt.content, attempt.nonce, attempt.raw, attempt.hash, attempt.since),
            )

    def broadcast(self, attempt: Attempt) -> None:
        """Note that a node has accepted an attempt."""
        with self._transaction() as connection:
            connection.execute("UPDATE attempt SET state='broadcast' WHERE hash=? AND state='signed'", (attempt.hash,))

    def confirm(self, attempt: Attempt, outcome: Outcome) -> None:
        """Note the block of an attempt; whatever else was signed with its nonce can never be in one."""
        values = (outcome.block, outcome.block_hash, outcome.succeeded, outcome.gas, outcome.contract, attempt.hash)
        with self._transaction() as connection:
            connection.execute(
                f"UPDATE attempt SET state='dropped', {_NO_OUTCOME} WHERE nonce=? AND hash!=?",  # noqa: S608
                (attempt.nonce, attempt.hash),
            )
            connection.execute(
                "UPDATE attempt SET state='confirmed', block=?, block_hash=?, succeeded=?, gas=?, contract=? "
                "WHERE hash=?",
                values,
            )

    def reopen(self, attempt: Attempt) -> None:
        """Note that the block of a confirmed attempt is no longer part of the chain."""
        with self._transaction() as connection:
            connection.execute(
                f"UPDATE attempt SET state='broadcast', {_NO_OUTCOME} WHERE hash=? AND state='confirmed'",  # noqa: S608
                (attempt.hash,),
            )

    def drop(self, attempt: Attempt) -> None:
        """Give up an attempt with all that differ from it in fees alone; its nonce is free for another intent."""
        with self._transaction() as connection:
            connection.execute(
                "UPDATE attempt SET state='dropped' WHERE nonce=? AND intent=? AND content=? AND state!='confirmed'",
                (attempt.nonce, attempt.intent, attempt.content),
            )

    # SQLite

    def _check_identity(self, identity: dict[str, str]) -> None:
        self._connection.execute("BEGIN EXCLUSIVE")
        for statement in filter(str.strip, _TABLES.split(";")):
            self._connection.execute(statement)
        self._connection.executemany("INSERT OR IGNORE INTO meta VALUES(?, ?)", identity.items())
        self._connection.execute("COMMIT")
        found = dict(self._connection.execute("SELECT name, value FROM meta"))
        for name, value in identity.items():
            if found[name] != value:
                raise LedgerError(f"{self.path}: is a journal with the {name} {found[name]}, not {value}")

    def _select(self, where: str, *values: object) -> list[Attempt]:
        with self._access():
            rows = self._connection.execute(f"SELECT {_COLUMNS} FROM attempt WHERE {where}", values)  # noqa: S608
            return [_attempt(row) for row in rows]

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._access():
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    @contextlib.contextmanager
    def _access(self) -> Iterator[None]:
        with self._lock:
            try:
                yield
            except sqlite3.Error as error:
                raise LedgerError(f"{self.path}: the journal failed: {error}") from error


def _open(path: Path) -> sqlite3.Connection:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))  # SQLite would let the umask decide
    connection = sqlite3.connect(path, timeout=0, isolation_level=None, check_same_thread=False)
    try:
        connection.execute("PRAGMA locking_mode=EXCLUSIVE")  # nobody else can so much as open it until we are gone
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
    except BaseException:
        connection.close()
        raise
    return connection


def _attempt(row: tuple[object, ...]) -> Attempt:
    intent, content, nonce, raw, hash, since, state, block, block_hash, succeeded, gas, contract = row
    outcome = None if block is None else Outcome(block, block_hash, bool(succeeded), gas, contract)  # type: ignore[arg-type]
    return Attempt(intent, content, nonce, raw, hash, since, State(state), outcome)  # type: ignore[arg-type]
