"""What all tests share."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")

# Deterministic everywhere: the same examples on every machine, and no deadline that a busy machine could miss.
settings.register_profile("hearth", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("hearth")


@pytest.fixture(autouse=True)
def runs_elsewhere(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test writes into the checkout's ``runs/``."""
    monkeypatch.setenv("HEARTH_RUNS", str(tmp_path_factory.mktemp("runs")))


@pytest.fixture(scope="session")
def anvil_url() -> Iterator[str]:
    """URL of an anvil started for the session; its path is in HEARTH_ANVIL."""
    binary = os.environ.get("HEARTH_ANVIL")
    if not binary:
        pytest.skip("HEARTH_ANVIL is not set: the path of an anvil binary, an independent EVM node")
    port = _free_port()
    options = ["--host", "127.0.0.1", "--port", str(port), "--chain-id", "2020", "--hardfork", "prague", "--silent"]
    with _node([binary, *options], port) as url:
        yield url


@pytest.fixture(scope="session")
def hardhat_url() -> Iterator[str]:
    """URL of a hardhat node started for the session; HEARTH_HARDHAT is the folder whose node_modules hold it."""
    folder = os.environ.get("HEARTH_HARDHAT")
    if not folder:
        pytest.skip("HEARTH_HARDHAT is not set: a folder with hardhat 3 in its node_modules, another independent node")
    here = Path(folder)
    (here / "package.json").write_text('{"type": "module", "private": true}')
    networks = '{ node: { type: "edr-simulated", chainId: 2020, hardfork: "prague" } }'
    (here / "hardhat.config.js").write_text(f"export default {{ networks: {networks} }};")
    port = _free_port()
    program = ["node", "node_modules/hardhat/dist/src/cli.js", "node", "--hostname", "127.0.0.1", "--port", str(port)]
    with _node(program, port, here) as url:
        yield url


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@contextmanager
def _node(program: list[str], port: int, folder: Path | None = None) -> Iterator[str]:
    """Run a node inside the ``with`` block; its URL comes once it answers."""
    from app.ledger.chain import rpc_chain
    from app.protocol.errors import LedgerError

    with subprocess.Popen(program, cwd=folder, stdout=subprocess.DEVNULL) as node:
        deadline = time.monotonic() + 60
        while True:
            try:
                rpc_chain(f"http://127.0.0.1:{port}").close()
                break
            except LedgerError:
                if time.monotonic() > deadline or node.poll() is not None:
                    raise
        yield f"http://127.0.0.1:{port}"
        node.terminate()
