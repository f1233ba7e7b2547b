"""The embedded chain's file: made once, one writer, readable beside it, whole after any death of the process."""

from __future__ import annotations

import hashlib
import os
import signal
import sqlite3
from pathlib import Path

import pytest
from eth_account import Account
from task_world import ETHER, MANUFACTURER, STRANGER

from app.ledger.chain import embedded_chain, open_chain
from app.ledger.embedded import EmbeddedNode
from app.ledger.rpc import EmbeddedRpc
from app.protocol.errors import LedgerError

FUNDED = {MANUFACTURER.address: 100 * ETHER}
START = 1_700_000_000


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run #1 100%" / "chain.sqlite"  # characters that mean something in a URI


@pytest.fixture(autouse=True)
def folder(path: Path) -> None:
    path.parent.mkdir()


def pay(node: EmbeddedNode, nonce: int) -> bytes:
    """Send one wei; return the hash of the block that the answer stands for."""
    raw = Account.sign_transaction(
        {
            "type": 2,
            "chainId": node.chain_id,
            "nonce": nonce,
            "to": STRANGER.address,
            "value": 1,
            "gas": 21_000,
            "maxFeePerGas": 10**10,
            "maxPriorityFeePerGas": 10**9,
        },
        MANUFACTURER.key,
    ).raw_transaction
    answer = EmbeddedRpc(node).handle({"id": 1, "method": "eth_sendRawTransaction", "params": ["0x" + raw.hex()]})
    assert "result" in answer, answer
    return node.head()[1]


def files(path: Path) -> dict[str, str]:
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in path.parent.iterdir()}


def test_create_and_open_are_two_things(path: Path) -> None:
    with pytest.raises(LedgerError, match="there is no chain here"):
        EmbeddedNode.open(path)
    assert files(path) == {}
    node = EmbeddedNode.create(path, alloc=FUNDED, genesis_time=START)
    assert (node.chain_id, node.alloc) == (2020, FUNDED)
    node.close()
    before = files(path)
    with pytest.raises(LedgerError, match="exists already"):
        EmbeddedNode.create(path, alloc={})
    assert files(path) == before


def test_one_file_is_left_and_holds_all(path: Path) -> None:
    node = EmbeddedNode.create(path, alloc=FUNDED)
    for nonce in range(3):
        pay(node, nonce)
    head = node.head()
    assert head[0] == 3
    node.close()
    assert list(files(path)) == ["chain.sqlite"]
    node = EmbeddedNode.open(path)
    assert node.head() == head
    pay(node, 3)
    assert node.head()[0] == 4
    node.close()
    assert list(files(path)) == ["chain.sqlite"]


def test_the_same_history_gives_the_same_hashes(path: Path) -> None:
    heads = []
    for name in ("one", "two"):
        ticks = iter(range(START, START + 100))
        node = EmbeddedNode.create(path.with_name(name), alloc=FUNDED, clock=lambda ticks=ticks: next(ticks))
        for nonce in range(3):
            pay(node, nonce)
        heads.append(node.head())
        node.close()
    assert heads[0] == heads[1]


def test_block_times_rise_though_the_clock_stands(path: Path) -> None:
    node = EmbeddedNode.create(path, alloc=FUNDED, clock=lambda: START)
    for nonce in range(3):
        pay(node, nonce)
    assert [node.header(n).timestamp for n in range(4)] == [START, START + 1, START + 2, START + 3]
    node.close()


def test_two_writers_are_refused(path: Path) -> None:
    node = EmbeddedNode.create(path, alloc=FUNDED)
    with pytest.raises(LedgerError, match=r"another process writes to this chain \(allowed: one writer\)"):
        EmbeddedNode.open(path)
    if child := os.fork():
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    else:
        try:
            EmbeddedNode.open(path)
        except LedgerError:
            os._exit(7)
        os._exit(0)
    pay(node, 0)  # the writer was not disturbed
    node.close()
    EmbeddedNode.open(path).close()


def test_readers_work_beside_the_writer(path: Path) -> None:
    node = EmbeddedNode.create(path, alloc=FUNDED)
    pay(node, 0)
    reader = EmbeddedNode.open(path, readonly=True)
    assert reader.head() == node.head()
    pay(node, 1)
    assert reader.head() == node.head()
    node.close()  # the log stays beside the file while somebody reads
    assert reader.head()[0] == 2
    reader.close()
    again = EmbeddedNode.open(path)
    assert again.head()[0] == 2
    again.close()
    assert list(files(path)) == ["chain.sqlite"]


def test_reading_never_writes(path: Path) -> None:
    node = EmbeddedNode.create(path, alloc=FUNDED)
    pay(node, 0)
    head = node.head()
    node.close()
    path.chmod(0o400)
    before = files(path)
    chain = open_chain(path, readonly=True)
    assert chain.head() == head
    assert chain.balance(STRANGER.address) == 1
    with pytest.raises(LedgerError, match="open for reading only"):
        chain.transfer(MANUFACTURER, STRANGER.address, 1)
    assert files(path) == before
    chain.close()
    assert files(path) == before


@pytest.mark.parametrize("content", [b"", b"not a database, but long enough to look like one" * 100])
def test_what_is_not_a_chain_is_refused(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    before = files(path)
    for readonly in (True, False):
        with pytest.raises(LedgerError) as caught:
            EmbeddedNode.open(path, readonly=readonly)
        assert str(path) in str(caught.value)
    assert files(path) == before


def test_another_database_is_left_as_it_is(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE recipes(name TEXT)")
    connection.close()
    before = files(path)
    with pytest.raises(LedgerError, match="cannot be opened as a chain: no such table"):
        EmbeddedNode.open(path)
    assert files(path) == before


def test_another_format_is_refused(path: Path) -> None:
    EmbeddedNode.create(path, alloc=FUNDED).close()
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE meta SET value='hearth embedded chain 99' WHERE name='format'")
    connection.close()
    with pytest.raises(LedgerError, match="no embedded chain of this version"):
        EmbeddedNode.open(path)
    with pytest.raises(LedgerError, match="no embedded chain of this version"):  # and no lock was left
        EmbeddedNode.open(path)


def test_continuing_checks_what_the_chain_is(path: Path) -> None:
    embedded_chain(path, 2020, funded=FUNDED).close()
    with pytest.raises(LedgerError, match="is the chain with the id 2020, not 2021"):
        embedded_chain(path, 2021, funded=FUNDED)
    with pytest.raises(LedgerError, match="began with another allocation"):
        embedded_chain(path, 2020, funded={STRANGER.address: 1})
    chain = embedded_chain(path, 2020, funded={address.lower(): wei for address, wei in FUNDED.items()})
    assert chain.head()[0] == 0
    chain.close()


def test_a_full_disk_is_an_error_and_no_damage(path: Path) -> None:
    node = EmbeddedNode.create(path, alloc=FUNDED)
    pay(node, 0)
    head = node.head()
    pages = node._db._connection.execute("PRAGMA page_count").fetchone()[0]
    node._db._connection.execute(f"PRAGMA max_page_count={pages}")
    with pytest.raises(LedgerError, match="the block was not written"):  # noqa: PT012
        for nonce in range(1, 200):
            pay(node, nonce)
            head = node.head()
    assert node.head() == head
    node._db._connection.execute("PRAGMA max_page_count=1000000")
    pay(node, head[0])
    assert node.head()[0] == head[0] + 1
    node.close()


def writer(path: Path, pipe: int) -> None:
    """Pay for ever; tell each block after it was acknowledged."""
    node = EmbeddedNode.open(path)
    nonce = node.head()[0]
    while True:
        block_hash = pay(node, nonce)
        nonce += 1
        os.write(pipe, nonce.to_bytes(4, "big") + block_hash)


def test_no_acknowledged_block_is_lost_by_kill_9(path: Path) -> None:
    EmbeddedNode.create(path, alloc=FUNDED).close()
    acknowledged: dict[int, bytes] = {}
    for loop in range(8):
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                writer(path, writing)
            finally:
                os._exit(1)
        os.close(writing)
        with os.fdopen(reading, "rb") as pipe:
            told = [pipe.read(36) for _ in range(3 + loop)]
            os.kill(child, signal.SIGKILL)
            told += [entry for entry in iter(lambda: pipe.read(36), b"") if len(entry) == 36]
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
        acknowledged |= {int.from_bytes(entry[:4], "big"): entry[4:] for entry in told}
        node = EmbeddedNode.open(path, readonly=bool(loop % 2))  # a reader recovers the log, too
        assert node.head()[0] - max(acknowledged) in (0, 1)  # one may have been sealed but not told
        assert {n: bytes(node.header(n).hash) for n in acknowledged} == acknowledged
        assert EmbeddedRpc(node).handle({"id": 1, "method": "eth_getBalance", "params": [STRANGER.address]})[
            "result"
        ] == hex(node.head()[0])
        node.close()
    assert len(acknowledged) >= 8 * 3


def test_no_place_to_write(tmp_path: Path) -> None:
    missing = tmp_path / "missing" / "chain.sqlite"
    with pytest.raises(LedgerError, match="cannot be written: No such file or directory"):
        EmbeddedNode.create(missing, alloc=FUNDED)
