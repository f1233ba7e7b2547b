"""The embedded chain: a real EVM (py-evm, Prague rules) whose blocks live in one SQLite file.

It is a single-writer chain. Its history can be re-executed from genesis by anyone who has the file, so it proves that
what it holds is *valid*; it does not prove that it is the only history. Whoever needs that keeps the head's hash (see
`EmbeddedNode.head`), or uses a chain that many run.

A block is sealed for each transaction, and is on disk before the sender hears of it. Headers are deterministic but for
the clock: what the EVM can read of them (time, randomness) is fixed before execution, so that re-execution agrees.
"""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from eth.abc import BlockHeaderAPI, SignedTransactionAPI, StateAPI
from eth.chains.base import MiningChain
from eth.constants import BLANK_ROOT_HASH, POST_MERGE_DIFFICULTY, POST_MERGE_MIX_HASH, POST_MERGE_NONCE
from eth.exceptions import HeaderNotFound
from eth.vm.forks.prague import PragueVM
from eth_typing import BlockNumber
from eth_utils import keccak, to_canonical_address, to_checksum_address

from app.ledger.sqlite_db import SQLiteDB
from app.protocol.errors import LedgerError

CHAIN_ID = 2020  # the year of the paper; any id that no public network uses would do
GAS_LIMIT = 100_000_000
_FORMAT = "hearth embedded chain 1"
_NOBODY = b"\0" * 20  # the coinbase: nobody earns the fees


def _chain_class(chain_id: int) -> type[MiningChain]:
    class EmbeddedChain(MiningChain):
        vm_configuration = ((BlockNumber(0), PragueVM),)

        def create_header_from_parent(self, parent_header: BlockHeaderAPI, **params: Any) -> BlockHeaderAPI:
            # py-evm would let the gas limit drift towards its own default.
            return super().create_header_from_parent(parent_header, **{**params, "gas_limit": parent_header.gas_limit})

    EmbeddedChain.chain_id = chain_id
    return EmbeddedChain


class EmbeddedNode:
    """One process's hold on an embedded chain; made by `create` or `open`, which are two calls on purpose.

    A plain "open or create" would, after a crash before the first block, give a chain without the allocation.
    Methods may be called from any thread.

    Attributes
    ----------
    path : Path
        The file.
    chain_id : int
        Its EIP-155 chain id.
    lock : threading.RLock
        Held by whoever reads or writes; `app.ledger.rpc` takes it for each request.
    """

    def __init__(self, db: SQLiteDB, clock: Callable[[], float]) -> None:
        if db.meta("format") != _FORMAT:
            raise LedgerError(f"{db.path}: holds no embedded chain of this version")
        self.path, self.readonly = db.path, db.readonly
        self.chain_id = int(db.meta("chain_id") or 0)
        self.lock = threading.RLock()
        self._db, self._clock, self._ahead = db, clock, 0.0
        self.evm = _chain_class(self.chain_id)(db)

    @classmethod
    def create(
        cls,
        path: Path,
        *,
        chain_id: int = CHAIN_ID,
        alloc: Mapping[str, int],
        genesis_time: int | None = None,
        clock: Callable[[], float] = time.time,
    ) -> EmbeddedNode:
        """Write a new chain to ``path``.

        Parameters
        ----------
        path : Path
            Where no file is yet.
        chain_id : int
            EIP-155 chain id.
        alloc : mapping of str to int
            Wei at genesis, by address. It is noted in the file; an auditor takes it from elsewhere.
        genesis_time : int, optional
            Seconds since 1970; now, where it is not given.
        clock : callable
            What block times are read from.

        Raises
        ------
        LedgerError
            If there is a file already, or it cannot be written.
        """
        if path.exists():
            raise LedgerError(f"{path}: exists already, a chain is never overwritten")
        db = SQLiteDB(path, create=True)
        try:
            if db.meta("format") is not None:  # another process was faster than our lock
                raise LedgerError(f"{path}: exists already, a chain is never overwritten")
            with db.transaction():
                _write_genesis(db, chain_id, alloc, int(clock()) if genesis_time is None else genesis_time)
            return cls(db, clock)
        except BaseException:
            db.close()
            raise

    @classmethod
    def open(cls, path: Path, *, readonly: bool = False, clock: Callable[[], float] = time.time) -> EmbeddedNode:
        """Open the chain at ``path``; ``readonly`` never writes, and works beside a writer.

        Raises
        ------
        LedgerError
            If there is no chain, or, for a writer, if another one has it.
        """
        if not path.is_file():
            raise LedgerError(f"{path}: there is no chain here")
        db = SQLiteDB(path, readonly=readonly)
        try:
            return cls(db, clock)
        except BaseException:
            db.close()
            raise

    def close(self) -> None:
        """Leave the one file as the whole chain; the node cannot be used afterwards."""
        with self.lock:
            self._db.close()

    @property
    def alloc(self) -> dict[str, int]:
        """The allocation that the file says it began with (wei by checksum address)."""
        with self.lock:
            return {address: int(wei) for address, wei in json.loads(self._db.meta("alloc") or "{}").items()}

    def head(self) -> tuple[int, bytes]:
        """Return number and hash of the newest block."""
        with self.lock:
            header = self.evm.get_canonical_head()
            return header.block_number, bytes(header.hash)

    def header(self, number: int | None = None) -> BlockHeaderAPI:
        """Return the header of a block, or of the newest one.

        Raises
        ------
        LookupError
            If there is no such block.
        """
        try:
            with self.lock:
                if number is None:
                    return self.evm.get_canonical_head()
                return self.evm.get_canonical_block_header_by_number(BlockNumber(number))
        except HeaderNotFound as error:
            raise LookupError(f"no block {number}") from error

    def state_after(self, header: BlockHeaderAPI) -> StateAPI:
        """Return a throw-away state as a transaction in the block after ``header`` would find it.

        It reads from the file as it goes: hold `lock` as long as it is in use.
        """
        return self.evm.get_vm(at_header=self._next_header(header)).state

    def put_forward(self, to: int) -> None:
        """Let the next block's time be ``to`` (seconds since 1970) or later: waiting on this chain takes no time.

        Nobody but this process looks at its clock. Where it has passed ``to`` already, nothing changes.
        """
        with self.lock:
            self._ahead = max(self._ahead, to - self._clock())

    def seal(self, transaction: SignedTransactionAPI) -> BlockHeaderAPI:
        """Execute a transaction in a block of its own, write the block, and return its header.

        Raises
        ------
        LedgerError
            If the chain is open for reading only, or the disk refused.
        eth_utils.ValidationError
            If the transaction is not valid; nothing is written.
        """
        if self.readonly:
            raise LedgerError(f"{self.path}: open for reading only")
        try:
            with self.lock, self._db.transaction():
                header = self._next_header(self.evm.get_canonical_head())
                self.evm.header = header
                self.evm.mine_all([transaction], coinbase=_NOBODY, mix_hash=header.mix_hash)
                return self.evm.get_canonical_head()
        except sqlite3.Error as error:
            raise LedgerError(f"{self.path}: the block was not written: {error}") from error

    def _next_header(self, parent: BlockHeaderAPI) -> BlockHeaderAPI:
        # The one sealer of this chain could choose any randomness; one that follows from the parent is at least fixed.
        return self.evm.create_header_from_parent(parent, coinbase=_NOBODY).copy(
            timestamp=max(parent.timestamp + 1, int(self._clock() + self._ahead)), mix_hash=keccak(parent.hash)
        )


def _write_genesis(db: SQLiteDB, chain_id: int, alloc: Mapping[str, int], genesis_time: int) -> None:
    params: dict[str, Any] = {
        "coinbase": _NOBODY,
        "difficulty": POST_MERGE_DIFFICULTY,
        "extra_data": b"",
        "gas_limit": GAS_LIMIT,
        "mix_hash": POST_MERGE_MIX_HASH,
        "nonce": POST_MERGE_NONCE,
        "timestamp": genesis_time,
        "receipt_root": BLANK_ROOT_HASH,
        "transaction_root": BLANK_ROOT_HASH,
    }
    state: dict[Any, Any] = {
        to_canonical_address(address): {"balance": wei, "nonce": 0, "code": b"", "storage": {}}
        for address, wei in alloc.items()
    }
    _chain_class(chain_id).from_genesis(db, params, state)
    # Decimal texts: wei do not fit JSON readers that use floats.
    noted = {to_checksum_address(address): str(wei) for address, wei in sorted(alloc.items())}
    for name, value in {"format": _FORMAT, "chain_id": str(chain_id), "alloc": json.dumps(noted)}.items():
        db.set_meta(name, value)
