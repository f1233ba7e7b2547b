"""The chain's database on a disk that is full: the first error is the one that is seen, and nothing is lost."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from app.ledger.sqlite_db import SQLiteDB


class Failing:
    """A connection on which one statement meets a full disk."""

    def __init__(self, connection: sqlite3.Connection, statement: str) -> None:
        self._connection, self._statement = connection, statement

    def execute(self, statement: str, *arguments: object) -> sqlite3.Cursor:
        if statement.startswith(self._statement):
            raise sqlite3.OperationalError("database or disk is full")
        return self._connection.execute(statement, *arguments)

    def __getattr__(self, name: str) -> object:
        return getattr(self._connection, name)


@pytest.mark.parametrize("nested", [False, True])
def test_a_rollback_of_sqlites_own_is_not_repeated(tmp_path: Path, nested: bool) -> None:
    db = SQLiteDB(tmp_path / "chain.sqlite", create=True)
    with pytest.raises(sqlite3.OperationalError, match=r"^disk full$"):  # noqa: SIM117, PT012
        with db.transaction():
            db[b"a"] = b"1"
            if nested:
                with db.transaction():
                    db._connection.execute("ROLLBACK")  # what SQLite does when a write fails
                    raise sqlite3.OperationalError("disk full")
            db._connection.execute("ROLLBACK")
            raise sqlite3.OperationalError("disk full")
    assert b"a" not in db
    with db.transaction():
        db[b"b"] = b"2"
    assert db[b"b"] == b"2"
    db.close()


@pytest.mark.parametrize("statement", ["PRAGMA wal_checkpoint", "PRAGMA journal_mode=DELETE"])
def test_closing_on_a_full_disk_raises_nothing_and_loses_nothing(tmp_path: Path, statement: str) -> None:
    path = tmp_path / "chain.sqlite"
    db = SQLiteDB(path, create=True)
    with db.transaction():
        db[b"a"] = b"1"
    db._connection = Failing(db._connection, statement)  # type: ignore[assignment]
    db.close()
    assert not path.with_name("chain.sqlite.lock").exists()
    again = SQLiteDB(path)
    assert again[b"a"] == b"1"
    again.close()
