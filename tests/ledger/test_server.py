"""The served chain: what a client of another process gets, and who is turned away."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from task_world import ETHER, MANUFACTURER, STRANGER, World, funded
from web3 import HTTPProvider, Web3

from app.ledger import server as server_module
from app.ledger.chain import open_chain, rpc_chain
from app.ledger.embedded import EmbeddedNode
from app.ledger.json_rpc import MAX_BATCH
from app.ledger.server import MAX_BODY, ChainServer, serving
from app.protocol.errors import LedgerError

ASK = {"jsonrpc": "2.0", "id": 1, "method": "eth_chainId", "params": []}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ChainServer]:
    node = EmbeddedNode.create(tmp_path / "chain.sqlite", alloc=funded(7, 4))
    with serving(node) as running:
        yield running
    node.close()


def post(server: ChainServer, body: Any, **headers: str) -> tuple[int, Any]:
    """Send one body; a value of None removes a header."""
    connection = http.client.HTTPConnection("127.0.0.1", server.server_address[1], timeout=30)
    sent = body if isinstance(body, bytes) else json.dumps(body).encode()
    names = {"host": f"127.0.0.1:{server.server_address[1]}", "content-type": "application/json"}
    names |= {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request("POST", "/", sent, names)
    answer = connection.getresponse()
    data = answer.read()
    connection.close()
    return answer.status, json.loads(data) if data.startswith((b"{", b"[")) else data


def test_one_request(server: ChainServer) -> None:
    assert post(server, ASK) == (200, {"jsonrpc": "2.0", "id": 1, "result": "0x7e4"})


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example:8545", "", "[::2]", "[", "192.168.0.1"])
def test_a_name_that_was_rebound_to_this_machine_is_turned_away(server: ChainServer, host: str) -> None:
    assert post(server, ASK, host=host)[0] == 403


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.0.0.1", "[::1]:8545"])
def test_names_of_this_machine(server: ChainServer, host: str) -> None:
    assert post(server, ASK, host=host)[0] == 200


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"origin": "https://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": "http://localhost:5173"}, 200),
        ({"content_type": "text/plain"}, 415),  # what a page may send without asking
        ({"content_type": "application/json; charset=utf-8"}, 200),
        ({"content_length": "-1"}, 411),
        ({"content_length": "1e3"}, 411),
        ({"content_length": str(MAX_BODY + 1)}, 413),
        ({"content_length": "9" * 30}, 413),
        ({"transfer_encoding": "chunked"}, 411),
    ],
)
def test_headers(server: ChainServer, headers: dict[str, str], status: int) -> None:
    assert post(server, ASK, **headers)[0] == status


def test_a_page_of_this_machine_may_ask_first_and_a_person_is_told_what_this_is(server: ChainServer) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.server_address[1], timeout=30)
    connection.request("OPTIONS", "/", headers={"origin": "http://localhost:5173"})
    answer = connection.getresponse()
    assert (answer.status, answer.getheader("access-control-allow-origin")) == (204, "http://localhost:5173")
    answer.read()
    connection.request("GET", "/")
    assert b"POST JSON-RPC" in connection.getresponse().read()
    connection.close()


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"nonsense", -32700),
        (b"\xff", -32700),
        (b"[" * 100_000, -32700),
        (b"", -32700),
        (5, -32600),
        ([], -32600),
        ([ASK] * (MAX_BATCH + 1), -32600),
        ({**ASK, "jsonrpc": "1.0"}, -32600),
        ({**ASK, "method": 5}, -32600),
        ({**ASK, "params": {"a": 1}}, -32600),
        ({**ASK, "id": [1]}, -32600),
        ({**ASK, "method": "eth_mine"}, -32601),
        ({**ASK, "params": [1]}, -32602),
    ],
)
def test_errors_are_json_rpcs(server: ChainServer, body: Any, code: int) -> None:
    status, answer = post(server, body)
    assert (status, answer["jsonrpc"], answer["error"]["code"]) == (200, "2.0", code)


def test_batches_and_notifications(server: ChainServer) -> None:
    notification = {key: value for key, value in ASK.items() if key != "id"}
    status, answers = post(server, [ASK, notification, 5, {**ASK, "id": "two", "method": "eth_blockNumber"}])
    assert status == 200
    assert [(one.get("id"), one.get("result"), "error" in one) for one in answers] == [
        (1, "0x7e4", False),
        (None, None, True),
        ("two", "0x0", False),
    ]
    assert post(server, notification) == (200, b"")
    assert post(server, [notification]) == (200, b"")


def test_a_revert_carries_its_data_and_web3_batches_work(server: ChainServer) -> None:
    world = World(rpc_chain(server.url))
    w3 = Web3(HTTPProvider(server.url))
    call = world.task._contract._function("customerIndex", STRANGER.address).build_transaction({"gas": 10**6})
    _, answer = post(server, {**ASK, "method": "eth_call", "params": [{"to": call["to"], "data": call["data"]}]})
    assert (answer["error"]["code"], answer["error"]["message"]) == (3, "execution reverted")
    assert answer["error"]["data"].endswith(STRANGER.address[2:].lower())
    with w3.batch_requests() as batch:
        for number in range(3):
            batch.add(w3.eth.get_block(number))
        blocks = batch.execute()
    assert [block["number"] for block in blocks] == [0, 1, 2]
    assert w3.eth.fee_history(2, "latest", [50])["oldestBlock"] == w3.eth.block_number - 1
    assert (w3.eth.syncing, w3.net.version, w3.client_version) == (False, "2020", "hearth-embedded/1")
    assert w3.eth.gas_price > w3.eth.max_priority_fee > 0


def test_a_defect_in_one_method_stays_there(server: ChainServer, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise RuntimeError("secret")

    monkeypatch.setitem(server._rpc._methods, "eth_gasPrice", broken)
    answer = post(server, {**ASK, "method": "eth_gasPrice"})[1]["error"]
    assert answer == {"code": -32603, "message": "internal error (RuntimeError)"}
    assert post(server, ASK)[0] == 200


def test_many_clients_at_once(server: ChainServer) -> None:
    with ThreadPoolExecutor(12) as pool:
        assert {status for status, _ in pool.map(lambda _: post(server, ASK), range(48))} == {200}


def test_too_many_connections_are_closed_and_idle_ones_do_not_hold_up_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "MAX_CONNECTIONS", 3)
    node = EmbeddedNode.create(tmp_path / "chain.sqlite", alloc={})
    with serving(node) as server:
        address = ("127.0.0.1", server.server_address[1])
        idle = [socket.create_connection(address, timeout=30) for _ in range(3)]
        assert until(lambda: len(server._connections) == 3)
        with socket.create_connection(address, timeout=30) as late:
            assert late.recv(1) == b""
        idle.pop().close()
        assert until(lambda: len(server._connections) == 2)
        assert post(server, ASK)[0] == 200
    for connection in idle:  # closed by the server, well before they would have been idle for too long
        assert connection.recv(1) == b""
        connection.close()
    node.close()


def test_a_port_that_is_taken_is_one_line(server: ChainServer) -> None:
    for port in (server.server_address[1], 99_999):
        with pytest.raises(LedgerError, match=rf"^port {port} of 127\.0\.0\.1 cannot be had: "):
            ChainServer(server.node, port)


# The command, in a process of its own


@contextmanager
def command(*arguments: object) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """``hearth chain serve`` and its URL; the process is ended in any case."""
    line = [sys.executable, "-m", "app.cli", "chain", "serve", *map(str, arguments), "--port", "0"]
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            assert process.stdout is not None
            first = process.stdout.readline()
            second = process.stdout.readline()
            assert "serving it at http://127.0.0.1:" in second, first + second
            yield process, second.split()[3]
        finally:
            process.kill()


def until(condition: Any) -> bool:
    pause = threading.Event()
    return any(condition() or pause.wait(0.01) for _ in range(1000))


def test_the_command_from_new_to_kill_9(tmp_path: Path) -> None:
    """Two writers are refused, readers work beside the writer, what was acknowledged survives kill -9."""
    file = tmp_path / "chain.sqlite"
    made = hearth("chain", "new", file, "--fund", f"{MANUFACTURER.address}=5.5", "--chain-id", "77")
    assert made.startswith(f"made {file}, chain 77, with ether for {MANUFACTURER.address}")
    with command(file) as (process, url):
        chain = rpc_chain(url, 77)
        assert chain.balance(MANUFACTURER.address) == 55 * ETHER // 10
        with pytest.raises(LedgerError, match="another process writes to this chain"):
            EmbeddedNode.open(file)
        sent = [chain.transfer(MANUFACTURER, STRANGER.address, 1) for _ in range(5)]
        with command(file, "--read-only") as (_, reading):
            beside = rpc_chain(reading, 77)
            assert beside.balance(STRANGER.address) == 5
            with pytest.raises(LedgerError, match="the chain is open for reading only"):
                beside.transfer(MANUFACTURER, STRANGER.address, 1)
        process.kill()
        process.wait(30)
    evidence = open_chain(file)
    assert (evidence.head()[0], evidence.balance(STRANGER.address)) == (sent[-1].block, 5)
    evidence.close()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_with_one_whole_file(tmp_path: Path, number: int) -> None:
    file = tmp_path / "chain.sqlite"
    EmbeddedNode.create(file, alloc={MANUFACTURER.address: ETHER}).close()
    with command(tmp_path) as (process, url):  # a run directory
        chain = rpc_chain(url)
        chain.transfer(MANUFACTURER, STRANGER.address, 1)
        os.kill(process.pid, number)
        assert process.stdout is not None
        said = process.stdout.read()
        assert process.wait(30) == 0
    assert said == f"ended at block 1 0x{open_chain(file, readonly=True).head()[1].hex()}\n"
    assert [path.name for path in tmp_path.iterdir()] == ["chain.sqlite"]


def hearth(*arguments: object, code: int = 0) -> str:
    """Run a command in this process; return what it prints."""
    import contextlib
    import io

    from app.cli import main

    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        assert main(list(map(str, arguments))) == code, out.getvalue()
    return out.getvalue()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["serve"], "error: hearth chain serve: the following arguments are required: RUN_DIR|FILE"),
        (["serve", "nowhere"], "there is no"),
        (["serve", "x", "--port", "http"], "invalid int value: 'http'"),
        (["new", "x.sqlite"], "--fund ADDRESS or --seed N"),
        (["new", "x.sqlite", "--fund", "0x12"], "--fund: '0x12' names no address"),
        (["new", "x.sqlite", "--chain-id", "0", "--seed", "1"], "'0' is no chain id"),
        (["burn"], "invalid choice"),
    ],
)
def test_bad_input_is_one_line(arguments: list[str], said: str) -> None:
    text = hearth("chain", *arguments, code=2)
    assert said in text
    assert text.count("\n") == 1


def test_show(tmp_path: Path) -> None:
    file = tmp_path / "chain.sqlite"
    hearth("chain", "new", file, "--fund", MANUFACTURER.address)
    chain = open_chain(file)
    world = World(chain)
    head = chain.head()[1].hex()
    for text in (hearth("chain", "show", file), hearth("chain", "show", tmp_path, "--json")):
        assert f"0x{head}" in text
        assert world.task.address in text
    chain.close()
    assert "no embedded chain" not in hearth("chain", "show", file)
