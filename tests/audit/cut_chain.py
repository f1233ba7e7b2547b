"""A chain that ends earlier, with exactly the rows that an honest one of that length has: the perfect shortening."""

from __future__ import annotations

import contextlib
import sqlite3
import tempfile
from pathlib import Path

from eth.db.backends.memory import MemoryDB
from eth.vm.forks.prague import PragueVM

from app.audit import chain_file


def cut(data: bytes, number: int) -> bytes:
    """Return the bytes of an embedded chain's file, its newest block being ``number``."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "chain.sqlite"
        path.write_bytes(data)
        file, database = chain_file.ChainFile.read(path), MemoryDB()
        chain = chain_file._genesis(file, database)
        for n in range(1, number + 1):
            header, transactions = chain_file._block(file, n)
            chain.import_block(PragueVM.get_block_class()(header, transactions, [], withdrawals=[]))
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
            connection.execute("DELETE FROM kv")
            connection.executemany("INSERT INTO kv VALUES(?, ?)", database.kv_store.items())
        return path.read_bytes()
