"""The journal's file, and `kill -9` at every step of what it protects."""

from __future__ import annotations

import os
import signal
import sqlite3
import stat
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from faulty_node import COUNTER, FUNDED, START
from task_world import MANUFACTURER, STRANGER, account, digest
from web3 import Web3

from app.ledger.chain import Chain, embedded_chain, open_chain
from app.ledger.journal import Attempt, Journal, Outcome, State
from app.ledger.rpc import EmbeddedRpc
from app.protocol.errors import LedgerError

IDENTITY = {"chain id": "2020", "genesis": "0x00", "sender": MANUFACTURER.address}
OUTCOME = Outcome(block=7, block_hash=digest("block"), succeeded=True, gas=21_000, contract=None)
INTENTS = ("count one", "count two")


def attempt(word: str, nonce: int, fees: int = 1) -> Attempt:
    raw = f"{word} {nonce} {fees}".encode()
    return Attempt(word, digest(word), nonce, raw, digest("hash", raw), since=5)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal" / "2020-0x.sqlite"


@pytest.fixture
def journal(path: Path) -> Iterator[Journal]:
    journal = Journal(path, IDENTITY)
    yield journal
    journal.close()


def states(journal: Journal, *attempts: Attempt) -> list[State]:
    found = {member.hash: member.state for one in attempts for member in journal.family(one)}
    return [found[one.hash] for one in attempts]


# The file


def test_it_is_private_and_one_file_is_left(path: Path, journal: Journal) -> None:
    journal.add(attempt("pay", 0))
    assert all(stat.S_IMODE(file.stat().st_mode) == 0o600 for file in path.parent.iterdir())
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    journal.close()
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_it_is_written_through_to_the_disk(journal: Journal) -> None:
    connection = journal._connection
    assert connection.execute("PRAGMA synchronous").fetchone() == (2,)  # FULL
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_it_has_one_writer(path: Path, journal: Journal) -> None:
    with pytest.raises(LedgerError, match=r"another process sends with this key \(allowed: one\)"):
        Journal(path, IDENTITY)
    if child := os.fork():
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    else:
        try:
            Journal(path, IDENTITY)
        except LedgerError:
            os._exit(7)
        os._exit(0)
    journal.add(attempt("pay", 0))  # the writer was not disturbed
    journal.close()
    again = Journal(path, IDENTITY)
    assert again.unsettled() == [attempt("pay", 0)]
    again.close()


@pytest.mark.parametrize("name", list(IDENTITY))
def test_another_chain_or_key_is_refused_with_both_names(path: Path, journal: Journal, name: str) -> None:
    journal.close()
    with pytest.raises(LedgerError, match=f"is a journal with the {name} {IDENTITY[name]}, not other"):
        Journal(path, {**IDENTITY, name: "other"})
    Journal(path, IDENTITY).close()  # and the lock is free


def test_what_is_not_a_journal_is_refused_and_left_alone(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b"my recipes, and not a database at all" * 100)
    with pytest.raises(LedgerError, match="cannot be opened as a journal"):
        Journal(path, IDENTITY)
    assert path.read_bytes().startswith(b"my recipes")


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LedgerError, match="cannot be written: "):
        Journal(tmp_path / "file" / "journal.sqlite", IDENTITY)


def test_a_full_disk_is_an_error_and_nothing_is_half_written(path: Path, journal: Journal) -> None:
    journal.add(attempt("pay", 0))
    pages = journal._connection.execute("PRAGMA page_count").fetchone()[0]
    journal._connection.execute(f"PRAGMA max_page_count={pages}")
    with pytest.raises(LedgerError, match=rf"{path}: the journal failed: database or disk is full"):
        journal.add(Attempt("x", digest("x"), 1, bytes(100_000), digest("x"), 0))
    assert journal.unsettled() == [attempt("pay", 0)]
    journal._connection.execute("PRAGMA max_page_count=100000")
    journal.add(attempt("more", 1000))


def test_a_closed_journal_says_so(journal: Journal) -> None:
    journal.close()
    with pytest.raises(LedgerError, match="the journal failed: Cannot operate on a closed database"):
        journal.unsettled()


# The states


def test_from_signed_to_confirmed(journal: Journal) -> None:
    pay = attempt("pay", 0)
    assert journal.holder(0) is None
    journal.add(pay)
    assert journal.of_intent("pay", pay.content) == journal.unsettled() == [pay]
    journal.broadcast(pay)
    assert states(journal, pay) == [State.BROADCAST]
    journal.confirm(pay, OUTCOME)
    assert journal.unsettled() == []
    (found,) = journal.of_intent("pay", pay.content)
    assert (found.state, found.outcome) == (State.CONFIRMED, OUTCOME)
    assert journal.holder(0) == found
    journal.reopen(pay)
    assert (states(journal, pay), journal.unsettled()[0].outcome) == ([State.BROADCAST], None)


def test_a_replacement_keeps_the_nonce_and_any_of_them_may_win(journal: Journal) -> None:
    cheap, dear = attempt("pay", 3), attempt("pay", 3, fees=2)
    journal.add(cheap)
    journal.add(dear)
    assert states(journal, cheap, dear) == [State.REPLACED, State.SIGNED]
    assert journal.unsettled() == [dear]
    journal.confirm(cheap, OUTCOME)
    assert states(journal, cheap, dear) == [State.CONFIRMED, State.DROPPED]


def test_two_intents_cannot_hold_one_nonce(journal: Journal) -> None:
    journal.add(attempt("pay", 3))
    with pytest.raises(LedgerError, match="UNIQUE constraint failed"):
        journal.add(attempt("seal", 3))
    assert [one.intent for one in journal.unsettled()] == ["pay"]
    journal.drop(attempt("pay", 3))
    journal.add(attempt("seal", 3))
    journal.confirm(attempt("seal", 3), OUTCOME)
    with pytest.raises(LedgerError, match="UNIQUE constraint failed"):
        journal.add(attempt("pay", 3, fees=2))


def test_what_is_confirmed_is_not_dropped(journal: Journal) -> None:
    journal.add(attempt("pay", 3))
    journal.confirm(attempt("pay", 3), OUTCOME)
    journal.drop(attempt("pay", 3))
    assert states(journal, attempt("pay", 3)) == [State.CONFIRMED]


def test_the_same_bytes_come_back_to_life(journal: Journal) -> None:
    journal.add(attempt("pay", 3))
    journal.drop(attempt("pay", 3))
    journal.add(attempt("pay", 3))
    assert journal.unsettled() == [attempt("pay", 3)]


# In the chain


def test_a_new_chain_under_the_same_id_does_not_get_the_old_ones_transactions(tmp_path: Path) -> None:
    """A development node that starts anew, or another run's chain: the same words are sent there too."""
    for name, time in [("one", START), ("two", START + 1)]:
        chain = embedded_chain(tmp_path / name, funded=FUNDED, genesis_time=time, journal=tmp_path / "journal")
        chain.transfer(MANUFACTURER, STRANGER.address, 1, "the same words")
        assert chain.head()[0] == 1
        chain.close()
    assert len(list((tmp_path / "journal").iterdir())) == 2


def test_each_key_has_a_file_and_closing_lets_go_of_all(tmp_path: Path) -> None:
    for _ in range(2):
        chain = embedded_chain(tmp_path / "chain", funded=FUNDED, genesis_time=START, journal=tmp_path / "journal")
        for who in (MANUFACTURER, STRANGER):
            chain.transfer(who, account("target").address, 1)
        assert chain.balance(account("target").address) == 2
        chain.close()
    names = [file.stem.split("-") for file in (tmp_path / "journal").iterdir()]
    assert sorted((first, last) for first, _, last in names) == sorted(
        ("2020", who.address) for who in (MANUFACTURER, STRANGER)
    )


def test_a_chain_that_was_restored_from_a_backup_gets_its_transactions_back(tmp_path: Path) -> None:
    path, journal = tmp_path / "chain", tmp_path / "journal"
    embedded_chain(path, funded=FUNDED, genesis_time=START).close()
    backup = path.read_bytes()

    def send() -> Any:
        chain = embedded_chain(path, funded=FUNDED, genesis_time=START, journal=journal)
        sent = [chain.transfer(MANUFACTURER, STRANGER.address, wei, f"pay {wei}") for wei in (1, 2, 3)]
        balance = chain.balance(STRANGER.address)
        chain.close()
        return [one.hash for one in sent], balance

    before = send()
    path.write_bytes(backup)
    assert send() == before


# kill -9


class Killer:
    """Counts the steps of a process and kills it at one: before and after each write and each broadcast."""

    def __init__(self, at: int | None) -> None:
        self._at, self.steps = at, 0

    def step(self) -> None:
        self.steps += 1
        if self.steps == self._at:
            os.kill(os.getpid(), signal.SIGKILL)

    def around(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*arguments: Any) -> Any:
            self.step()
            result = function(*arguments)
            self.step()
            return result

        return wrapped

    def around_rpc(self, function: Callable[..., Any]) -> Callable[..., Any]:
        dangerous = self.around(function)

        def wrapped(rpc: EmbeddedRpc, request: Any) -> Any:
            telling = ("eth_sendRawTransaction", "eth_getTransactionReceipt", "eth_estimateGas")
            return (dangerous if request["method"] in telling else function)(rpc, request)

        return wrapped

    def arm(self) -> None:
        """Only ever in a child process."""
        for name in ("add", "broadcast", "confirm", "reopen", "drop"):
            setattr(Journal, name, self.around(getattr(Journal, name)))
        EmbeddedRpc.handle = self.around_rpc(EmbeddedRpc.handle)  # type: ignore[method-assign]


def work(folder: Path) -> None:
    """What a party wants to be true; repeated from the start after each death."""
    chain = embedded_chain(folder / "chain", funded=FUNDED, genesis_time=START, journal=folder / "journal")
    counter = chain.send(MANUFACTURER, {"data": COUNTER}, "deploy").contract
    assert counter is not None
    for intent in INTENTS:
        chain.send(MANUFACTURER, {"to": Web3.to_checksum_address(counter)}, intent)
    chain.close()


def in_a_child(folder: Path, at: int | None) -> int:
    """Do the work in a process of its own, killed at step ``at``; return its exit code."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    try:
        killer = Killer(at)
        killer.arm()
        work(folder)
        (folder / "steps").write_text(str(killer.steps))
        os._exit(0)
    except BaseException:  # noqa: BLE001 - the child must not go on as a second pytest
        (folder / "trouble").write_text(traceback.format_exc())
        os._exit(1)


def history(folder: Path) -> list[list[str]]:
    """The hashes of all transactions by block: nonces, fees and contents are in them."""
    chain = open_chain(folder / "chain", readonly=True)
    blocks = [chain.w3.eth.get_block(number) for number in range(chain.head()[0] + 1)]
    found = [[bytes(hash).hex() for hash in block["transactions"]] for block in blocks]  # type: ignore[arg-type]
    chain.close()
    return found


def journalled(folder: Path) -> list[tuple[Any, ...]]:
    (path,) = (folder / "journal").iterdir()
    connection = sqlite3.connect(path)
    rows = connection.execute("SELECT intent, nonce, hash, state, block FROM attempt ORDER BY number").fetchall()
    connection.close()
    return rows


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed")
    assert in_a_child(folder, None) == 0, (folder / "trouble").read_text()
    assert [len(block) for block in history(folder)] == [0, 1, 1, 1]
    return folder


def test_kill_at_every_step(tmp_path: Path, undisturbed: Path) -> None:
    """One death at each step in turn, then a run to the end: the chain is the same to the last byte of each."""
    steps = int((undisturbed / "steps").read_text())
    assert steps == 3 * 2 * (3 + 3)  # add, broadcast, confirm; dry run, broadcast, receipt
    for at in range(1, steps + 1):
        folder = tmp_path / str(at)
        folder.mkdir()
        assert in_a_child(folder, at) == -signal.SIGKILL, at
        assert in_a_child(folder, None) == 0, (folder / "trouble").read_text()
        assert history(folder) == history(undisturbed), at
        assert journalled(folder) == journalled(undisturbed), at


@pytest.mark.parametrize("stride", [3, 4, 7])
def test_kill_again_and_again(tmp_path: Path, undisturbed: Path, stride: int) -> None:
    """A party that dies every few steps, recovering included, still gets there, and no transaction is made twice."""
    deaths = 0
    while (code := in_a_child(tmp_path, stride + deaths // 4)) != 0:
        assert code == -signal.SIGKILL, (tmp_path / "trouble").read_text()
        deaths += 1
        assert deaths < 200
    assert deaths > 2
    assert history(tmp_path) == history(undisturbed)
    assert journalled(tmp_path) == journalled(undisturbed)


def test_a_journal_on_a_chain_for_reading_sends_nothing(tmp_path: Path) -> None:
    embedded_chain(tmp_path / "chain", funded=FUNDED).close()
    chain: Chain = open_chain(tmp_path / "chain", readonly=True)
    assert chain.journal is None
    with pytest.raises(LedgerError, match="open for reading only"):
        chain.transfer(MANUFACTURER, STRANGER.address, 1)
    chain.close()
