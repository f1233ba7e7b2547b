"""Every way in which a node can fail its client, each ending with one effect or a clear error."""

from __future__ import annotations

import itertools
import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from faulty_node import (
    COUNTER,
    FaultyNode,
    HangUpError,
    accept_then_refuse,
    connect,
    decode,
    deliver_twice,
    drop,
    hang_up_after,
    hang_up_before,
    refuse,
    served,
    stall_after,
)
from task_world import ETHER, MANUFACTURER, STRANGER, account

from app.ledger.chain import Chain
from app.ledger.journal import State
from app.protocol.errors import LedgerError


class Bench:
    """A faulty node, clients of it with one journal, and a counter contract on it."""

    def __init__(self, node: FaultyNode, url: str, folder: Path) -> None:
        self.node, self.url, self.journal = node, url, folder / "journal"
        self.chain = self.restart()
        self.counter = self.chain.send(MANUFACTURER, {"data": COUNTER}, "deploy").contract or ""
        node.received.clear()

    def restart(self, **waiting: Any) -> Chain:
        """A client as after the death of the one before."""
        if hasattr(self, "chain"):
            self.chain.close()
        self.chain = connect(self.url, self.journal, **waiting)
        return self.chain

    def count(self, intent: str = "count", **options: Any) -> Any:
        return self.chain.send(MANUFACTURER, {"to": self.counter}, intent, **options)

    def states(self) -> list[str]:
        """The journal's states, the deployment's left out; the client's hold on it ends."""
        self.chain.close()
        (path,) = self.journal.iterdir()
        with sqlite3.connect(path) as connection:
            found = [state for (state,) in connection.execute("SELECT state FROM attempt ORDER BY number")]
        connection.close()
        return found[1:]

    def nonces(self) -> int:
        return len(self.node.transactions(MANUFACTURER.address)) - 1


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    node = FaultyNode(tmp_path)
    with served(node) as url:
        bench = Bench(node, url, tmp_path)
        yield bench
        bench.chain.close()


@pytest.mark.parametrize(
    ("fault", "broadcasts"),
    [
        (drop, 2),
        (hang_up_after, 1),
        (hang_up_before, 2),
        (stall_after, 1),
        (deliver_twice, 1),
        (refuse("internal error"), 2),
        (refuse("nonce too low"), 2),  # said by a node that lags: no proof
        (refuse("nonce too high"), 2),
        (accept_then_refuse("insufficient funds for gas * price + value"), 1),
        (accept_then_refuse("transaction underpriced"), 1),
        (accept_then_refuse("request timed out"), 1),
    ],
)
def test_the_same_bytes_take_effect_once(bench: Bench, fault: Any, broadcasts: int) -> None:
    bench.node.faults = [fault]
    sent = bench.count()
    assert (bench.node.counted(bench.counter), bench.nonces()) == (1, 1)
    assert bench.node.transactions(MANUFACTURER.address)[-1] == "0x" + sent.hash.hex()
    assert len(bench.node.received) == broadcasts
    assert len(set(bench.node.received)) == 1
    assert bench.count() == sent
    assert bench.restart().send(MANUFACTURER, {"to": bench.counter}, "count") == sent
    assert (bench.node.counted(bench.counter), len(bench.node.received)) == (1, broadcasts)
    assert bench.states() == [State.CONFIRMED]


def test_without_a_journal_the_same_words_are_sent_again(bench: Bench) -> None:
    chain = connect(bench.url, None)
    bench.node.faults = [drop, None, hang_up_after]
    hashes = {chain.send(MANUFACTURER, {"to": bench.counter}, "count").hash for _ in range(3)}
    assert (bench.node.counted(bench.counter), len(hashes)) == (3, 3)


def test_another_content_or_name_is_another_intent(bench: Bench) -> None:
    target = account("target").address
    for value, intent in [(1, "pay"), (2, "pay"), (1, "pay again"), (1, "pay"), (2, "pay")]:
        bench.chain.send(MANUFACTURER, {"to": target, "value": value}, intent)
    assert bench.chain.balance(target) == 4
    bench.chain.send(MANUFACTURER, {"to": bench.counter, "value": 0}, "pay")
    assert bench.nonces() == 4


# Time-outs


def test_a_time_out_names_intent_transaction_and_what_to_do(bench: Bench) -> None:
    bench.restart(timeout=0.1)
    bench.node.faults = [drop] * 1000
    with pytest.raises(LedgerError) as caught:
        bench.count()
    name = "0x" + decode(bench.node.received[0]).hash.hex()
    assert str(caught.value) == (
        f"{bench.url}: count is not confirmed after 0.1 s (transaction {name}, nonce 1); "
        "do the same again to go on waiting: it is sent once"
    )
    bench.node.faults = []
    bench.restart()
    assert "0x" + bench.count().hash.hex() == name
    assert (bench.node.counted(bench.counter), bench.nonces()) == (1, 1)


def test_a_time_out_quotes_the_node(bench: Bench) -> None:
    bench.restart(timeout=0.1)
    bench.node.faults = [refuse("the pool is closed\non Sundays")] * 1000
    with pytest.raises(LedgerError, match=r"nonce 1; last trouble: the pool is closed on Sundays\); do the same"):
        bench.count()


def test_a_time_out_says_that_nobody_answers(bench: Bench) -> None:
    bench.restart(timeout=0.1)
    bench.node.faults = [hang_up_before] * 1000
    with pytest.raises(LedgerError, match=r"last trouble: the node does not answer \(ConnectionError\)\); do the same"):
        bench.count()


def test_what_timed_out_does_not_hold_up_what_comes_after(bench: Bench) -> None:
    bench.restart(timeout=0.1)
    bench.node.faults = [drop] * 1000
    with pytest.raises(LedgerError, match="first is not confirmed"):
        bench.count("first")
    bench.node.faults = []
    bench.restart(timeout=20)._sender(MANUFACTURER)._recovered = True  # the same process: nothing is recovered
    bench.count("second")
    assert (bench.node.counted(bench.counter), bench.nonces()) == (2, 2)
    bench.count("first")
    assert (bench.node.counted(bench.counter), bench.states()) == (2, [State.CONFIRMED, State.CONFIRMED])


def test_a_new_process_settles_what_the_last_one_signed(bench: Bench) -> None:
    bench.restart(timeout=0.1)
    bench.node.faults = [drop] * 1000
    with pytest.raises(LedgerError):
        bench.count("first")
    bench.node.faults = []
    bench.restart().recover(MANUFACTURER)
    assert bench.node.counted(bench.counter) == 1
    bench.count("first")
    assert bench.node.counted(bench.counter) == 1


# Refusals and fees


def test_what_no_node_has_taken_is_given_up_and_its_nonce_is_free(bench: Bench) -> None:
    bench.node.faults = [refuse("insufficient funds for gas * price + value")]
    with pytest.raises(LedgerError, match="count was refused: insufficient funds"):
        bench.count()
    bench.chain.transfer(MANUFACTURER, STRANGER.address, 1)
    assert (bench.node.counted(bench.counter), bench.nonces()) == (0, 1)
    bench.count()
    assert (bench.node.counted(bench.counter), bench.nonces()) == (1, 2)
    assert bench.states() == [State.DROPPED, State.CONFIRMED, State.CONFIRMED]


def test_the_refused_bytes_may_come_again(bench: Bench) -> None:
    bench.node.faults = [refuse("insufficient funds for gas * price + value")]
    with pytest.raises(LedgerError, match="insufficient funds"):
        bench.count()
    bench.count()
    assert len(set(bench.node.received)) == 1  # same nonce, same fees: the very same transaction
    assert (bench.node.counted(bench.counter), bench.states()) == (1, [State.CONFIRMED])


def test_a_refused_transaction_that_was_mined_after_all_is_found(bench: Bench) -> None:
    bench.node.faults = [refuse("insufficient funds for gas * price + value")]
    with pytest.raises(LedgerError, match="insufficient funds"):
        bench.count()
    bench.node.accept(bench.node.received[0])  # the node that refused it had told its neighbours
    bench.node.mine()
    bench.count()
    assert (bench.node.counted(bench.counter), bench.nonces()) == (1, 1)


@pytest.mark.parametrize("words", ["transaction underpriced", "max fee per gas less than block base fee"])
def test_fees_are_raised_until_the_pool_takes_them(bench: Bench, words: str) -> None:
    bench.node.faults = [refuse(words), refuse(words)]
    bench.count()
    assert_raised([decode(raw) for raw in bench.node.received], 3)
    assert (bench.node.counted(bench.counter), bench.nonces()) == (1, 1)
    assert bench.states() == [State.DROPPED, State.DROPPED, State.CONFIRMED]


def test_fees_are_not_raised_for_ever(bench: Bench) -> None:
    bench.restart(bumps=3)
    bench.node.faults = [refuse("transaction underpriced")] * 4
    with pytest.raises(LedgerError, match="count was refused: transaction underpriced"):
        bench.count()
    assert_raised([decode(raw) for raw in bench.node.received], 4)
    assert bench.states() == [State.DROPPED] * 4


def test_a_ceiling_protects_from_a_node_that_asks_for_too_much(bench: Bench) -> None:
    bench.restart(max_fee=10**9)
    with pytest.raises(LedgerError, match=r"\d+ wei per gas are asked for \(allowed: 1000000000\)"):
        bench.count()
    assert (bench.node.received, bench.states()) == ([], [])


def test_the_ceiling_holds_for_raised_fees_too(bench: Bench) -> None:
    bench.restart(max_fee=3 * 10**9)
    bench.node.faults = [refuse("transaction underpriced")] * 4
    with pytest.raises(LedgerError, match="underpriced"):
        bench.count()
    assert all(decode(raw).max_fee_per_gas <= 3 * 10**9 for raw in bench.node.received)


def test_a_stuck_transaction_is_replaced_with_the_same_nonce(bench: Bench) -> None:
    bench.restart(bump_after=0.05)
    node = bench.node
    node.then = lambda: node.mine() if len(node.received) >= 3 else None
    bench.count()
    assert_raised([decode(raw) for raw in node.received], 3)
    assert (node.counted(bench.counter), bench.nonces()) == (1, 1)
    assert bench.states() == [State.DROPPED, State.DROPPED, State.CONFIRMED]


def test_the_cheaper_one_may_be_mined_after_all(bench: Bench) -> None:
    bench.restart(bump_after=0.05)
    node = bench.node

    def first_one_wins() -> None:
        if len(node.received) == 2:
            node.pool = {"0x" + decode(node.received[0]).hash.hex(): node.received[0]}
            node.mine()

    node.then = first_one_wins
    sent = bench.count()
    assert sent.hash == decode(node.received[0]).hash
    assert bench.count() == sent
    assert (node.counted(bench.counter), bench.states()) == (1, [State.CONFIRMED, State.DROPPED])


def test_a_stuck_deployment_is_replaced(bench: Bench) -> None:
    bench.restart(bump_after=0.05)
    node = bench.node
    node.then = lambda: node.mine() if len(node.received) >= 2 else None
    sent = bench.chain.send(MANUFACTURER, {"data": COUNTER, "value": 0}, "deploy another")
    assert node.ask("eth_getCode", sent.contract) == "0x5f546001015f5500"
    assert bench.nonces() == 1


def assert_raised(attempts: list[Any], number: int) -> None:
    """Each attempt has the nonce of the first, and fees that are at least an eighth higher."""
    assert len(attempts) == number
    for cheap, dear in itertools.pairwise(attempts):
        assert (dear.nonce, dear.to, dear.data, dear.gas) == (cheap.nonce, cheap.to, cheap.data, cheap.gas)
        assert dear.max_fee_per_gas >= cheap.max_fee_per_gas * 1.125
        assert dear.max_priority_fee_per_gas >= cheap.max_priority_fee_per_gas * 1.125


# Another program with the same key


def test_a_nonce_that_another_program_took_is_detected(bench: Bench) -> None:
    def somebody_is_faster(node: FaultyNode, raw: str) -> Any:
        node.accept(node.sign(MANUFACTURER, to=STRANGER.address))
        node.mine()
        return node.accept(raw)

    bench.node.faults = [somebody_is_faster]
    sent = bench.count()
    assert (bench.node.counted(bench.counter), bench.nonces()) == (1, 2)
    assert [decode(raw).nonce for raw in (bench.node.received[0], bench.node.received[-1])] == [1, 2]
    assert sent.hash == decode(bench.node.received[-1]).hash
    assert bench.states() == [State.DROPPED, State.CONFIRMED]


def test_a_pool_that_holds_another_programs_transaction(bench: Bench) -> None:
    """Ours is refused as a replacement; we do not fight for the nonce but wait until it is used, and take the next."""
    node = bench.node

    def somebody_is_faster(node: FaultyNode, raw: str) -> Any:
        node.accept(node.sign(MANUFACTURER, to=STRANGER.address, tip=10**11))
        return node.accept(raw)

    node.faults = [somebody_is_faster]
    node.script = [node.wait] * 20
    bench.count()
    assert (node.counted(bench.counter), bench.nonces()) == (1, 2)


def test_a_nonce_lost_while_we_were_dead(bench: Bench) -> None:
    bench.restart(timeout=0.1)
    bench.node.faults = [drop] * 1000
    with pytest.raises(LedgerError):
        bench.count()
    bench.node.faults = []
    for _ in range(3):
        bench.node.accept(bench.node.sign(MANUFACTURER, to=STRANGER.address))
        bench.node.mine()
    for _ in range(150):  # more blocks than there are between signing and losing
        bench.node.fill()
    bench.restart()
    bench.count()
    assert (bench.node.counted(bench.counter), bench.nonces()) == (1, 4)
    assert bench.states() == [State.DROPPED, State.CONFIRMED]


def test_no_receipt_is_no_proof(bench: Bench) -> None:
    """A node that lags with its receipts knows that the nonce is used: signing anew now would count twice."""
    node = bench.node
    handle, hidden = node.handle, []

    def lagging(request: dict[str, Any]) -> dict[str, Any]:
        answer = handle(request)
        if request["method"] in ("eth_getTransactionReceipt", "eth_getTransactionByHash") and len(hidden) < 40:
            hidden.append(answer["result"])
            return {**answer, "result": None}
        return answer

    node.handle = lagging  # type: ignore[method-assign]
    bench.count()
    assert any(hidden)
    assert (node.counted(bench.counter), bench.nonces()) == (1, 1)


def test_a_count_of_nonces_that_runs_ahead_is_no_proof(bench: Bench) -> None:
    """A busy node counts our transaction before it shows its block: signing anew now would count twice."""
    node = bench.node
    handle, counts = node.handle, []

    def torn(request: dict[str, Any]) -> dict[str, Any]:
        method = request["method"]
        if not node.received or len(counts) >= 20:
            return handle(request)
        if method == "eth_getTransactionCount":
            counts.append(method)
            return handle({**request, "params": [request["params"][0], "latest"]})
        answer = handle(request)
        if method in ("eth_getTransactionReceipt", "eth_getTransactionByHash"):
            return {**answer, "result": None}
        if method == "eth_blockNumber":
            return {**answer, "result": hex(int(answer["result"], 16) - 1)}
        return answer

    node.handle = torn  # type: ignore[method-assign]
    bench.count()
    assert len(counts) == 20
    assert (node.counted(bench.counter), bench.nonces()) == (1, 1)
    assert bench.states() == [State.CONFIRMED]


def test_a_program_that_takes_every_nonce_is_an_error(bench: Bench) -> None:
    def somebody_is_faster(node: FaultyNode, raw: str) -> Any:
        node.accept(node.sign(MANUFACTURER, to=STRANGER.address))
        node.mine()
        raise HangUpError

    bench.restart(resend_after=60)
    bench.node.faults = [somebody_is_faster] * 100
    with pytest.raises(LedgerError, match=r"count lost 5 nonces to other programs .* \(allowed: one program a key\)"):
        bench.count()
    assert bench.node.counted(bench.counter) == 0


# Reorganisations


@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize("lose", [True, False])
def test_a_reorganisation_before_the_last_confirmation(bench: Bench, depth: int, lose: bool) -> None:
    bench.restart(confirmations=3)
    node = bench.node
    node.script = [node.mine] + [node.fill] * (depth - 1) + [lambda: node.reorganise(depth, lose)]
    sent = bench.count()
    assert not node.script  # it did happen
    assert (node.counted(bench.counter), bench.nonces()) == (1, 1)
    assert len(set(node.received)) == 1
    assert bench.chain.w3.eth.get_transaction_receipt(sent.hash)["blockNumber"] == sent.block  # type: ignore[arg-type]
    assert node.node.head()[0] - sent.block >= 3


def test_one_that_is_deeper_than_what_was_waited_for_is_healed_by_the_same_intent(bench: Bench) -> None:
    before = bench.count()
    bench.node.reorganise(1)
    assert bench.node.counted(bench.counter) == 0
    after = bench.count()
    assert (after.hash, bench.node.counted(bench.counter), bench.nonces()) == (before.hash, 1, 1)
    assert after.block > before.block


def test_one_that_is_deeper_is_healed_by_another_intent_too(bench: Bench) -> None:
    """The nonce of what was undone belongs to it: the next intent does not take it, but brings it back."""
    bench.count("first")
    bench.node.reorganise(1)
    bench.count("second")
    assert (bench.node.counted(bench.counter), bench.nonces()) == (2, 2)
    bench.count("first")
    assert (bench.node.counted(bench.counter), bench.states()) == (2, [State.CONFIRMED, State.CONFIRMED])


# What fails on chain


def test_what_failed_on_chain_is_recorded_and_may_be_tried_again(bench: Bench) -> None:
    with pytest.raises(LedgerError, match=r"count ran out of gas \(30000 given\)"):
        bench.count(gas=30_000)
    assert (bench.node.counted(bench.counter), bench.nonces()) == (0, 1)
    sent = bench.count()
    assert (bench.node.counted(bench.counter), bench.nonces()) == (1, 2)
    assert bench.count(gas=30_000) == sent
    assert bench.states() == [State.CONFIRMED, State.CONFIRMED]


def test_a_failure_that_nobody_waited_for_is_told_to_who_asks_again(bench: Bench) -> None:
    """The client gave up waiting, then the transaction failed: the same words hear of that before they try again."""
    bench.restart(timeout=3)
    bench.node.then = bench.node.wait
    with pytest.raises(LedgerError, match="not confirmed"):
        bench.count(gas=30_000)
    bench.node.then = bench.node.mine
    with pytest.raises(LedgerError, match="ran out of gas"):
        bench.count()
    bench.count()
    assert bench.node.counted(bench.counter) == 1


def test_a_failure_from_before_a_restart_is_logged_and_tried_anew(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    """The process died before its transaction failed. The next one was told of no failure and wants the thing done."""
    bench.restart(timeout=3)
    bench.node.then = bench.node.wait
    with pytest.raises(LedgerError, match="not confirmed"):
        bench.count(gas=30_000)
    bench.node.then = bench.node.mine
    bench.restart()
    bench.count()
    assert "count failed in block" in caplog.text
    assert (bench.node.counted(bench.counter), bench.nonces()) == (1, 2)
    bench.count()
    assert (bench.node.counted(bench.counter), bench.nonces()) == (1, 2)


# Concurrency


@pytest.mark.parametrize("faulty", [False, True])
def test_twenty_at_once_with_one_key(bench: Bench, faulty: bool) -> None:
    if faulty:
        bench.node.faults = [hang_up_after, None, drop, refuse("busy"), deliver_twice, hang_up_before, None, drop] * 2
    with ThreadPoolExecutor(20) as pool:
        sent = list(pool.map(lambda i: bench.count(f"count {i}"), range(20)))
    assert len({one.hash for one in sent}) == 20
    assert (bench.node.counted(bench.counter), bench.nonces()) == (20, 20)
    assert bench.states() == [State.CONFIRMED] * 20


def test_one_intent_from_many_threads(bench: Bench) -> None:
    with ThreadPoolExecutor(8) as pool:
        sent = list(pool.map(lambda _: bench.count(), range(16)))
    assert len(set(sent)) == 1
    assert (bench.node.counted(bench.counter), bench.nonces()) == (1, 1)


def test_sends_of_one_key_do_not_wait_for_each_other(bench: Bench) -> None:
    """Twenty transactions are in the pool before the first block: one slow block does not cost twenty."""
    node = bench.node
    node.then = lambda: node.mine() if len(node.pool) == 20 else None
    with ThreadPoolExecutor(20) as pool:
        list(pool.map(lambda i: bench.count(f"count {i}"), range(20)))
    assert node.counted(bench.counter) == 20


# Money


def test_no_money_and_no_node(bench: Bench) -> None:
    poor = account("poor")
    with pytest.raises(LedgerError) as caught:
        bench.chain.transfer(poor, STRANGER.address, ETHER)
    assert "\n" not in str(caught.value)
    assert bench.node.received == []
