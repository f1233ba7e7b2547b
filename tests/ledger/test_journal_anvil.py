"""Sending to an independent node with a real pool: what it drops, delays and reorganises (skipped without one)."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from faulty_node import COUNTER
from task_world import ETHER, MANUFACTURER, STRANGER, account

from app.ledger.chain import Chain, rpc_chain
from app.ledger.transaction import Waiting
from app.protocol.errors import LedgerError

pytestmark = pytest.mark.node


def until(condition: Callable[[], bool]) -> None:
    """Wait for what the client does of itself."""
    pause, patience = threading.Event(), 500
    while not condition():
        pause.wait(0.02)
        patience -= 1
        assert patience, "the client does nothing"


class Anvil:
    """The node, and a client of it with a journal."""

    def __init__(self, url: str, journal: Path) -> None:
        self.url, self.journal = url, journal
        self.chain = self.connect()
        self.ask("anvil_setBalance", MANUFACTURER.address, hex(100 * ETHER))
        self.counter = self.chain.send(MANUFACTURER, {"data": COUNTER}, "deploy").contract or ""

    def connect(self, **waiting: Any) -> Chain:
        if hasattr(self, "chain"):
            self.chain.close()
        hurry = Waiting(**{"timeout": 30, "resend_after": 0.05, "poll": 0.01, **waiting})
        self.chain = rpc_chain(self.url, 2020, journal=self.journal, waiting=hurry)
        return self.chain

    def ask(self, method: str, *params: Any) -> Any:
        answer = self.chain.w3.provider.make_request(method, list(params))  # type: ignore[arg-type]
        assert "error" not in answer, answer
        return answer["result"]

    def count(self, intent: str = "count") -> Any:
        return self.chain.send(MANUFACTURER, {"to": self.counter}, intent)

    def counted(self) -> int:
        return int.from_bytes(self.chain.w3.eth.get_storage_at(self.counter, 0))  # type: ignore[arg-type]

    def nonce(self) -> int:
        return self.chain.w3.eth.get_transaction_count(MANUFACTURER.address)

    def waiting(self) -> list[str]:
        pool = self.ask("txpool_content")["pending"].get(MANUFACTURER.address.lower(), {})
        return [one["hash"] for one in pool.values()]

    def while_counting(self, meddle: Callable[[], None]) -> Any:
        """Count, and meddle with the node once the transaction is in its pool."""
        with ThreadPoolExecutor(1) as pool:
            counting = pool.submit(self.count)
            until(lambda: bool(self.waiting()))
            meddle()
            return counting.result()


@pytest.fixture
def anvil(anvil_url: str, tmp_path: Path) -> Iterator[Anvil]:
    anvil = Anvil(anvil_url, tmp_path / "journal")
    yield anvil
    anvil.ask("evm_setAutomine", True)
    anvil.ask("anvil_mine", "0x1")
    anvil.chain.close()


def test_twenty_at_once(anvil: Anvil) -> None:
    before = anvil.nonce()
    with ThreadPoolExecutor(20) as pool:
        sent = list(pool.map(lambda i: anvil.count(f"count {i}"), range(20)))
    assert (anvil.counted(), anvil.nonce(), len({one.hash for one in sent})) == (20, before + 20, 20)
    again = [anvil.connect() and anvil.count(f"count {i}") for i in (0, 19)]
    assert again == [sent[0], sent[19]]


def test_what_it_drops_is_broadcast_again(anvil: Anvil) -> None:
    before = anvil.nonce()
    anvil.ask("evm_setAutomine", False)
    dropped: list[str] = []

    def meddle() -> None:
        dropped.extend(anvil.waiting())
        anvil.ask("anvil_dropTransaction", dropped[0])
        anvil.ask("evm_setAutomine", True)

    sent = anvil.while_counting(meddle)
    assert dropped == ["0x" + sent.hash.hex()]
    assert (anvil.counted(), anvil.nonce()) == (1, before + 1)


def test_a_stuck_transaction_is_replaced(anvil: Anvil) -> None:
    before = anvil.nonce()
    anvil.connect(bump_after=0.2)
    anvil.ask("evm_setAutomine", False)

    def meddle() -> None:
        (first,) = anvil.waiting()
        until(lambda: anvil.waiting() != [first])
        anvil.ask("anvil_mine", "0x1")

    anvil.while_counting(meddle)
    assert (anvil.counted(), anvil.nonce()) == (1, before + 1)


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_a_reorganisation(anvil: Anvil, depth: int) -> None:
    before = anvil.nonce()
    anvil.connect(confirmations=3)
    anvil.ask("evm_setAutomine", False)

    def meddle() -> None:
        anvil.ask("anvil_mine", hex(depth))
        assert anvil.counted() == 1
        anvil.ask("anvil_reorg", depth, [])
        assert anvil.counted() == 0
        anvil.ask("evm_setAutomine", True)
        until(lambda: anvil.counted() == 1)
        anvil.ask("anvil_mine", "0x3")

    sent = anvil.while_counting(meddle)
    assert (anvil.counted(), anvil.nonce()) == (1, before + 1)
    assert anvil.chain.w3.eth.get_transaction_receipt(sent.hash)["blockNumber"] == sent.block  # type: ignore[arg-type]


def test_another_program_takes_the_nonce(anvil: Anvil) -> None:
    before = anvil.nonce()
    anvil.ask("evm_setAutomine", False)

    def meddle() -> None:
        anvil.ask("anvil_dropTransaction", anvil.waiting()[0])
        theirs = MANUFACTURER.sign_transaction(
            {
                "type": 2,
                "chainId": 2020,
                "nonce": before,
                "to": STRANGER.address,
                "value": 1,
                "gas": 21_000,
                "maxFeePerGas": 10**12,
                "maxPriorityFeePerGas": 10**11,
            }
        )
        anvil.chain.w3.eth.send_raw_transaction(theirs.raw_transaction)
        anvil.ask("evm_setAutomine", True)
        anvil.ask("anvil_mine", "0x1")

    anvil.while_counting(meddle)
    assert (anvil.counted(), anvil.nonce()) == (1, before + 2)


def test_no_money(anvil: Anvil) -> None:
    with pytest.raises(LedgerError):
        anvil.chain.transfer(account("no money"), STRANGER.address, 1)
    assert anvil.chain.w3.eth.get_transaction_count(account("no money").address, "pending") == 0
