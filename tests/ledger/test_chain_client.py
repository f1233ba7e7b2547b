"""Sending, and what goes wrong with it, over web3's own HTTP and in process."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import astuple
from pathlib import Path
from typing import Any

import pytest
from eth_abi import encode
from json_server import answering
from task_world import ETHER, MANUFACTURER, STRANGER, World, account, customers, digest, funded

from app.ledger.chain import Chain, rpc_chain
from app.ledger.compatibility import require_evm
from app.ledger.embedded import EmbeddedNode
from app.ledger.faults import decode_revert
from app.ledger.server import serving
from app.ledger.task_ledger import TaskLedger
from app.protocol.errors import ContractRevertedError, LedgerError


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    """A node of another process, as far as the client can tell: JSON-RPC over HTTP on loopback."""
    node = EmbeddedNode.create(tmp_path / "served.sqlite", alloc=funded(7, 4))
    with serving(node) as server:
        yield server.url
    node.close()


def test_a_round_through_a_url(url: str) -> None:
    world = World(rpc_chain(url, 2020))
    world.seal(1)
    world.finalise(1)
    task = TaskLedger.attach(rpc_chain(url), world.task.address)
    assert task.finalised(1) == world.task.finalised(1)
    with pytest.raises(ContractRevertedError, match=r"the contract refused seal 1: WrongRound\(1, 2\)"):
        world.seal(1)


def test_another_chain_is_refused_with_both_ids(url: str) -> None:
    with pytest.raises(LedgerError, match=r"http://127.*: is the chain with the id 2020, not 1$"):
        rpc_chain(url, 1)


def test_no_node_is_one_line() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
        with pytest.raises(LedgerError) as caught:
            rpc_chain(url)
    assert str(caught.value) == f"{url}: the node cannot be reached (ConnectionError)"


@pytest.mark.parametrize("url", ["localhost:8545", "ftp://host", "/tmp/geth.ipc", ""])
def test_not_a_url(url: str) -> None:
    with pytest.raises(LedgerError, match="not the URL of a node"):
        rpc_chain(url)


def test_something_else_answers() -> None:
    with (
        answering(lambda _: b"<html>hello</html>") as url,
        pytest.raises(LedgerError, match="answers, but not as an Ethereum node does"),
    ):
        rpc_chain(url)


def test_a_node_that_can_run_our_contracts(any_chain: Chain) -> None:
    require_evm(any_chain)


@pytest.mark.parametrize(
    ("method", "answer", "said"),
    [
        ("eth_getBlockByNumber", {"result": {"number": "0x1"}}, "no base fee (allowed: chains with EIP-1559)"),
        ("eth_call", {"error": {"code": -32000, "message": "no PUSH0"}}, "(no PUSH0) (allowed: Cancun or newer)"),
    ],
)
def test_a_node_of_another_version(
    chain: Chain, method: str, answer: dict[str, Any], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rpc = chain.w3.provider._rpc  # type: ignore[attr-defined]
    handle = rpc.handle

    def old(request: dict[str, Any]) -> Any:
        return {"jsonrpc": "2.0", "id": request["id"], **answer} if request["method"] == method else handle(request)

    monkeypatch.setattr(rpc, "handle", old)
    with pytest.raises(LedgerError, match=re.escape(said)):
        require_evm(chain)


def test_a_closed_chain_says_so(chain: Chain) -> None:
    task = World(chain).task
    chain.close()
    with pytest.raises(LedgerError, match="closed"):
        task.state()


def test_out_of_gas(any_chain: Chain) -> None:
    world = World(any_chain)
    task = world.task
    signed = world.receipt(0)
    function = task._contract._function("submit", astuple(signed.receipt), signed.signature)
    customer = customers(1)[0]
    before = any_chain.w3.eth.get_transaction_count(customer.address)
    with pytest.raises(LedgerError, match=r"submit 1 ran out of gas \(50000 given\)"):
        any_chain.send(customer, function, "submit 1", gas=50_000)
    assert any_chain.w3.eth.get_transaction_count(customer.address) == before + 1
    assert task.submitted(1) == ()
    task.submit(customer, signed)  # the next one is not disturbed
    assert task.submitted(1) == (0,)


def test_no_money(any_chain: Chain) -> None:
    poor = account("poor")
    with pytest.raises(LedgerError) as caught:
        any_chain.transfer(poor, STRANGER.address, 1)
    assert "\n" not in str(caught.value)
    any_chain.transfer(MANUFACTURER, poor.address, ETHER)
    any_chain.transfer(poor, STRANGER.address, 1)


def test_a_failure_that_the_dry_run_did_not_see(chain: Chain, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between dry run and block another transaction seals the round: the reason is found afterwards."""
    world = World(chain)
    rpc = chain.w3.provider._rpc  # type: ignore[attr-defined]
    handle = rpc.handle

    def somebody_is_faster(request: dict[str, object]) -> object:
        if request["method"] == "eth_maxPriorityFeePerGas":  # after the dry run, before the signature
            monkeypatch.undo()
            world.seal(1)
        return handle(request)

    monkeypatch.setattr(rpc, "handle", somebody_is_faster)
    with pytest.raises(ContractRevertedError, match=r"submit 1 of .*: WrongPhase\(2\)"):
        world.task.submit(customers(1)[0], world.receipt(0))


def test_many_threads_one_key(any_chain: Chain) -> None:
    target = account("target").address
    before = any_chain.balance(target)
    with ThreadPoolExecutor(8) as pool:
        sent = list(pool.map(lambda _: any_chain.transfer(MANUFACTURER, target, 1), range(24)))
    assert len({one.hash for one in sent}) == 24
    assert any_chain.balance(target) == before + 24


def test_reading_from_many_threads(chain: Chain) -> None:
    world = World(chain)
    with ThreadPoolExecutor(8) as pool:
        writing = pool.submit(lambda: [world.task.submit(who, world.receipt(i)) for i, who in enumerate(customers(7))])
        states = list(pool.map(lambda _: world.task.state(), range(64)))
        writing.result()
    assert {(state.round, state.model) for state in states} == {(1, digest("model"))}
    assert {state.block: state.block_hash for state in states}.items() == {(s.block, s.block_hash) for s in states}
    assert world.task.submitted(1) == tuple(range(7))


def test_a_shortage_of_quorum_is_named_with_its_numbers(chain: Chain) -> None:
    world = World(chain)
    world.seal(1)
    call = world.call(1)
    with pytest.raises(ContractRevertedError) as caught:
        world.task._send(world.miners[0], "x", "finalise 1", "finalise", call.verdict(7), call.manifest, [])
    assert str(caught.value) == "the contract refused finalise 1: NoQuorum(0, 3)"


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (None, ("no reason given", ())),
        ("0x", ("no reason given", ())),
        ("0x08c379a0" + encode(["string"], ["too late"]).hex(), ("Error", ("too late",))),
        ("0x4e487b71" + encode(["uint256"], [17]).hex(), ("Panic", (17,))),
        ("0x08c379a0ffff", ("unknown error", ("0x08c379a0ffff",))),
        ("0x12345678", ("unknown error", ("0x12345678",))),
        ({"data": "0x12345678"}, ("unknown error", ("0x12345678",))),
    ],
)
def test_decode_revert(data: object, expected: tuple[str, tuple[object, ...]]) -> None:
    assert decode_revert(data, []) == expected


def test_a_node_that_is_restarted_is_waited_for_by_who_is_patient(tmp_path: Path) -> None:
    node = EmbeddedNode.create(tmp_path / "chain.sqlite", alloc={account("manufacturer").address: 10**18})
    with serving(node, 0) as first:
        port = int(first.url.rpartition(":")[2])
        patient, hasty = rpc_chain(first.url, patient=True), rpc_chain(first.url)
        before = patient.head()
        hasty.head()
    with pytest.raises(LedgerError, match="cannot be reached"):
        rpc_chain(first.url, patient=True)  # patience is for what was there once
    back: list[object] = []
    ended = threading.Event()

    def come_back() -> None:
        with serving(node, port):
            back.append(True)
            ended.wait(60)

    timer = threading.Timer(3.0, come_back)  # later than a hasty client gives up
    timer.start()
    with pytest.raises(LedgerError, match="cannot be reached"):
        hasty.head()
    assert patient.head() == before
    assert back
    ended.set()
    timer.join()
    node.close()
