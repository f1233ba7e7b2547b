"""The audit of a task on a chain behind a node, with its blobs in a store: nobody is believed who can be checked."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.append(str(Path(__file__).parents[1] / "store"))

from kubo_server import KuboServer

from app.audit.blobs import Blobs, BlockNode, reference
from app.audit.node import read_history
from app.cli import main
from app.ledger.embedded import EmbeddedNode
from app.ledger.server import ChainServer, serving
from app.protocol.errors import BlobMissingError, BlobTamperedError, StoreUnavailableError

Words = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def server(good: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ChainServer]:
    path = tmp_path_factory.mktemp("served") / "chain.sqlite"
    shutil.copy(good / "chain.sqlite", path)
    node = EmbeddedNode.open(path, readonly=True)
    try:
        with serving(node) as server:
            yield server
    finally:
        node.close()


@pytest.fixture
def arguments(good: Path, server: ChainServer) -> list[str]:
    contract = json.loads((good / "result.json").read_text())["contract"]
    return ["audit", "--chain", server.url, "--contract", contract, "--store", str(good / "blobs")]


def test_the_same_task_behind_a_node(arguments: list[str], good: Path, capsys: Words) -> None:
    assert main(arguments) == 0
    said = capsys.readouterr().out
    assert "the node's word" in said
    assert "round 3" in said
    head = json.loads((good / "result.json").read_text())["head"]["hash"]
    assert main([*arguments, "--head", head]) == 0


def test_a_proof_against_a_node(good: Path, server: ChainServer, tmp_path: Path, capsys: Words) -> None:
    customer = json.loads((good / "metrics.jsonl").read_text().splitlines()[0])["participants"][0]
    proof = str(tmp_path / "proof.json")
    assert main(["audit", "prove", str(good), "--customer", customer, "--round", "1", "-o", proof]) == 0
    assert main(["audit", "check", proof, "--chain", server.url]) == 0
    assert "the node's word" in capsys.readouterr().out


def test_a_contract_that_is_none(arguments: list[str], capsys: Words) -> None:
    arguments[4] = "0x" + "11" * 20
    assert main(arguments) == 1
    assert "HearthTask's" in capsys.readouterr().out


def lying(server: ChainServer, monkeypatch: pytest.MonkeyPatch, method: str, lie: Callable[[Any], Any]) -> None:
    """Let the node change its answers to one method."""
    honest = server.handle_request_json

    def answer(request: Any) -> Any:
        told = honest(request)
        return told | {"result": lie(told["result"])} if request["method"] == method else told

    monkeypatch.setattr(server, "handle_request_json", answer)


@pytest.mark.parametrize(
    ("method", "lie", "place"),
    [
        ("eth_getTransactionByHash", lambda tx: tx | {"value": "0x7"}, "hash of its members"),
        ("eth_getTransactionByHash", lambda tx: tx | {"from": "0x" + "11" * 20}, "signer of these words"),
        ("eth_getTransactionByHash", lambda tx: tx | {"input": tx["input"][:-2] + "ff"}, "hash of its members"),
        ("eth_getCode", lambda code: code[:-2] + "00", "HearthTask's"),
        ("eth_getLogs", lambda logs: logs[:-2], "at the end"),
        ("eth_getLogs", lambda logs: logs[1:], "creation of"),
        ("eth_chainId", lambda _: "0x1", "hash of its members"),
    ],
)
def test_a_node_that_lies(
    server: ChainServer,
    arguments: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: Words,
    method: str,
    lie: Callable[[Any], Any],
    place: str,
) -> None:
    lying(server, monkeypatch, method, lie)
    assert main(arguments) == 1
    assert place in capsys.readouterr().out


def test_a_node_that_answers_nonsense_is_no_broken_evidence(
    server: ChainServer, arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: Words
) -> None:
    lying(server, monkeypatch, "eth_getTransactionReceipt", lambda _: {"status": 7})
    assert main(arguments) == 1
    assert "an answer that is none" in capsys.readouterr().err


def test_pages_of_events_are_halved_where_a_node_refuses_them(
    server: ChainServer, arguments: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    honest, refused = server.handle_request_json, []

    def answer(request: Any) -> Any:
        if request["method"] == "eth_getLogs":
            first, last = (int(request["params"][0][name], 16) for name in ("fromBlock", "toBlock"))
            if last - first > 3:
                refused.append((first, last))
                return {"jsonrpc": "2.0", "id": request["id"], "error": {"code": -32005, "message": "too many"}}
        return honest(request)

    whole = read_history(server.url, arguments[4])
    monkeypatch.setattr(server, "handle_request_json", answer)
    assert read_history(server.url, arguments[4]).transactions == whole.transactions
    assert refused


def test_blobs_of_an_ipfs_node_are_rehashed() -> None:
    data = bytes(range(256)) * 5000  # more than a block
    with KuboServer() as node:
        node.store(data)
        blobs, ref = Blobs("", BlockNode(node.url)), reference(data)
        assert blobs.get(ref, len(data)) == data
        leaf = next(cid for cid, block in node.blocks.items() if block == data[: 2**20])
        node.blocks[leaf] = node.blocks[leaf][:-1] + b"x"
        with pytest.raises(BlobTamperedError):
            blobs.get(ref, len(data))
        del node.blocks[leaf]
        with pytest.raises(BlobMissingError, match="not found"):
            blobs.get(ref, len(data))
        url = node.url
    with pytest.raises(StoreUnavailableError):
        Blobs("", BlockNode(url)).get(ref, len(data))
