"""An embedded chain's file, re-executed from its genesis: nothing of it is believed, everything is recomputed.

The file must hold exactly the rows that re-execution gives: headers, state roots, tries, receipts, indices. So one
changed, missing or superfluous row is found, whatever it is. What SQLite keeps beside rows (free space in its pages,
change counters) is no evidence: the content is compared, not its layout.

That proves the history *valid*. It does not prove that it is the only one (`app.audit.head`).
"""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import rlp
from eth.abc import BlockHeaderAPI, SignedTransactionAPI
from eth.chains.base import Chain
from eth.constants import BLANK_ROOT_HASH, POST_MERGE_DIFFICULTY, POST_MERGE_MIX_HASH, POST_MERGE_NONCE
from eth.db.atomic import AtomicDB
from eth.db.backends.memory import MemoryDB
from eth.exceptions import PyEVMError
from eth.vm.forks.prague import PragueVM
from eth.vm.header import HeaderSedes
from eth.vm.spoof import SpoofTransaction
from eth_typing import BlockNumber
from eth_utils import ValidationError, keccak, to_canonical_address, to_checksum_address
from rlp.exceptions import RLPException
from trie.exceptions import BadTrieProof, MissingTrieNode, TraversedPartialPath
from trie.hexary import HexaryTrie

from app.audit.history import History, Log, Transaction
from app.audit.report import AuditError, Section, holds, same
from app.protocol.errors import ProtocolError

_FORMAT = "hearth embedded chain 1"
_GAS_LIMIT = 100_000_000
_NOBODY = b"\0" * 20
_HEAD = b"v1:canonical_head_hash"
_UNREADABLE = (
    PyEVMError,
    ValidationError,
    RLPException,
    MissingTrieNode,
    BadTrieProof,
    TraversedPartialPath,
    LookupError,
    ValueError,
    TypeError,
    OverflowError,
)
"""What py-evm and its tries raise on bytes that are no chain."""


@dataclass(frozen=True, slots=True)
class ChainFile:
    """The rows of an embedded chain's file, unverified."""

    path: Path
    rows: dict[bytes, bytes]
    chain_id: int
    alloc: dict[str, int]

    @classmethod
    def read(cls, path: Path) -> ChainFile:
        """Read all rows; raise `AuditError` if the file is no embedded chain."""
        if not path.is_file():
            raise AuditError(path.name, "the embedded chain's file", "none")
        if path.with_name(f"{path.name}-wal").exists():
            raise AuditError(path.name, "a chain that was closed", "a write-ahead log beside it: is a run going on?")
        try:
            with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as connection:
                (sound,) = connection.execute("PRAGMA integrity_check(1)").fetchone()
                same(f"{path.name}, SQLite's integrity check", "ok", sound)
                tables = sorted(row[0] for row in connection.execute("SELECT name FROM sqlite_master"))
                same(f"{path.name}, tables", ["kv", "meta", "sqlite_autoindex_meta_1"], tables)
                rows = dict(connection.execute("SELECT k, v FROM kv"))
                meta = dict(connection.execute("SELECT name, value FROM meta"))
        except (sqlite3.Error, UnicodeDecodeError) as error:
            raise AuditError(path.name, "an SQLite database", str(error)) from error
        return cls(path, rows, *_meta(path.name, meta))


def reexecute(path: Path, section: Section) -> History:
    """Return the history of an embedded chain's file after re-executing it; raise `AuditError` at what differs."""
    file = ChainFile.read(path)
    _check_hashes(file)
    database = MemoryDB()
    chain = _genesis(file, database)
    blocks, transactions = {0: bytes(chain.get_canonical_head().hash)}, []
    for number in count(1):
        if _number_key(number) not in file.rows:
            break
        header, signed = _block(file, number)
        _check_sealer(file, header, chain.get_canonical_head(), len(signed))
        transactions += _execute(file, chain, header, signed)
        blocks[number] = bytes(header.hash)
    _compare_rows(file, {bytes(key): bytes(value) for key, value in database.kv_store.items()})
    section.counts.update({"blocks": len(blocks), "transactions": len(transactions), "rows": len(file.rows)})
    head = chain.get_canonical_head()

    def code(address: str) -> bytes:
        return bytes(chain.get_vm(head).state.get_code(to_canonical_address(address)))

    def call(contract: str, data: bytes) -> bytes:
        unsigned = chain.create_unsigned_transaction(
            nonce=0, gas_price=0, gas=_GAS_LIMIT, to=to_canonical_address(contract), value=0, data=data
        )
        spoofed: Any = SpoofTransaction(unsigned, from_=_NOBODY)
        try:
            return bytes(chain.get_transaction_result(spoofed, head))
        except _UNREADABLE as error:
            raise ProtocolError(f"the contract does not answer: {error}") from error

    return History(path.name, file.chain_id, blocks, tuple(transactions), code, call)


def _meta(name: str, meta: dict[Any, Any]) -> tuple[int, dict[str, int]]:
    same(f"{name}, meta rows", ["alloc", "chain_id", "format"], sorted(meta))
    same(f"{name}, meta row format", _FORMAT, meta["format"])
    try:
        alloc = {address: int(wei) for address, wei in json.loads(meta["alloc"]).items()}
        chain_id = int(meta["chain_id"])
        written = json.dumps({to_checksum_address(a): str(wei) for a, wei in sorted(alloc.items())})
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise AuditError(f"{name}, meta rows", "an allocation and a chain id", error) from error
    same(f"{name}, meta row alloc", written, meta["alloc"])
    same(f"{name}, meta row chain_id", str(chain_id), meta["chain_id"])
    return chain_id, alloc


def _check_hashes(file: ChainFile) -> None:
    """Check what is stored under its own hash: says which row was changed, where re-execution would only differ."""
    for key, value in file.rows.items():
        place = f"{file.path.name}, row {_shown(key)}"
        holds(isinstance(key, bytes) and isinstance(value, bytes), place, "bytes", f"{type(key)}: {type(value)}")
        if len(key) == 32:
            same(place, key, keccak(value))


def _chain_class(chain_id: int) -> type[Chain]:
    class Replayed(Chain):
        vm_configuration = ((BlockNumber(0), PragueVM),)

    Replayed.chain_id = chain_id
    return Replayed


def _genesis(file: ChainFile, database: MemoryDB) -> Chain:
    name = file.path.name
    header = _header(file, 0)
    params: dict[str, Any] = {
        "coinbase": _NOBODY,
        "difficulty": POST_MERGE_DIFFICULTY,
        "extra_data": b"",
        "gas_limit": _GAS_LIMIT,
        "mix_hash": POST_MERGE_MIX_HASH,
        "nonce": POST_MERGE_NONCE,
        "timestamp": header.timestamp,
        "receipt_root": BLANK_ROOT_HASH,
        "transaction_root": BLANK_ROOT_HASH,
    }
    try:
        accounts: dict[Any, Any] = {
            to_canonical_address(address): {"balance": wei, "nonce": 0, "code": b"", "storage": {}}
            for address, wei in file.alloc.items()
        }
        chain: Any = _chain_class(file.chain_id).from_genesis(AtomicDB(database), params, accounts)
    except _UNREADABLE as error:
        raise AuditError(f"{name}, genesis", "an allocation of wei to addresses", error) from error
    same(f"{name}, block 0, hash (of the noted allocation)", bytes(chain.get_canonical_head().hash), bytes(header.hash))
    genesis: Chain = chain
    return genesis


def _number_key(number: int) -> bytes:
    return b"block-number-to-hash:%d" % number


def _header(file: ChainFile, number: int) -> BlockHeaderAPI:
    place = f"{file.path.name}, block {number}"
    try:
        hash_ = rlp.decode(file.rows[_number_key(number)], rlp.sedes.binary)
        header: BlockHeaderAPI = rlp.decode(file.rows[hash_], HeaderSedes)
    except _UNREADABLE as error:
        raise AuditError(place, "a header", f"{type(error).__name__}: {error}") from error
    same(f"{place}, number in its header", number, header.block_number)
    return header


def _block(file: ChainFile, number: int) -> tuple[BlockHeaderAPI, list[SignedTransactionAPI]]:
    header = _header(file, number)
    builder = PragueVM.get_transaction_builder()
    found: list[SignedTransactionAPI] = []
    try:
        trie = HexaryTrie(file.rows, header.transaction_root)
        for index in count():
            raw = trie.get(rlp.encode(index))
            if not raw:
                return header, found
            found.append(builder.decode(raw))
    except _UNREADABLE as error:
        place = f"{file.path.name}, block {number}, transaction {len(found)}"
        raise AuditError(place, "a signed transaction", f"{type(error).__name__}: {error}") from error
    raise AssertionError("unreachable")


def _check_sealer(file: ChainFile, header: BlockHeaderAPI, parent: BlockHeaderAPI, transactions: int) -> None:
    """Check what the one who seals could choose: it must have left itself no choice but the clock."""
    place = f"{file.path.name}, block {header.block_number}"
    same(f"{place}, parent", bytes(parent.hash), bytes(header.parent_hash))
    same(f"{place}, randomness", keccak(parent.hash), bytes(header.mix_hash))
    same(f"{place}, coinbase", _NOBODY, bytes(header.coinbase))
    same(f"{place}, gas limit", _GAS_LIMIT, header.gas_limit)
    same(f"{place}, extra data", b"", bytes(header.extra_data))
    same(f"{place}, transactions", 1, transactions)


def _execute(
    file: ChainFile, chain: Chain, header: BlockHeaderAPI, signed: list[SignedTransactionAPI]
) -> list[Transaction]:
    place = f"{file.path.name}, block {header.block_number}"
    block = PragueVM.get_block_class()(header, signed, [], withdrawals=[])
    try:
        chain.import_block(block)
        receipts = block.get_receipts(chain.chaindb)
    except _UNREADABLE as error:
        raise AuditError(place, "the header that its transactions give", f"{type(error).__name__}: {error}") from error
    done, used = [], 0
    for index, (tx, receipt) in enumerate(zip(signed, receipts, strict=True)):
        sender = to_checksum_address(tx.sender)
        done.append(
            Transaction(
                block=header.block_number,
                index=index,
                hash=bytes(tx.hash),
                sender=sender,
                to=to_checksum_address(tx.to) if tx.to else None,
                created=None if tx.to else to_checksum_address(keccak(rlp.encode([tx.sender, tx.nonce]))[12:]),
                value=tx.value,
                data=bytes(tx.data),
                succeeded=receipt.state_root == b"\x01",
                gas=receipt.gas_used - used,
                logs=tuple(_log(log) for log in receipt.logs),
            )
        )
        used = receipt.gas_used
    return done


def _log(log: Any) -> Log:
    topics = tuple(topic.to_bytes(32, "big") for topic in log.topics)
    return Log(to_checksum_address(log.address), topics, bytes(log.data))


def _compare_rows(file: ChainFile, expected: dict[bytes, bytes]) -> None:
    same(f"{file.path.name}, row {_shown(_HEAD)}", expected[_HEAD], file.rows.get(_HEAD))
    for key, value in expected.items():
        place = f"{file.path.name}, row {_shown(key)}"
        holds(key in file.rows, place, value, "none")
        same(place, value, file.rows[key])
    for key in file.rows:
        holds(key in expected, f"{file.path.name}, row {_shown(key)}", "no such row", "one")


def _shown(key: Any) -> str:
    if isinstance(key, bytes) and len(key) == 32:
        return "0x" + key.hex()
    return key.decode("ascii", "backslashreplace") if isinstance(key, bytes) else repr(key)
