"""What all tests share."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Iterator

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
    from app.ledger.chain import rpc_chain
    from app.protocol.errors import LedgerError

    binary = os.environ.get("HEARTH_ANVIL")
    if not binary:
        pytest.skip("HEARTH_ANVIL is not set: the path of an anvil binary, an independent EVM node")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = ["--host", "127.0.0.1", "--port", str(port), "--chain-id", "2020", "--hardfork", "prague", "--silent"]
    with subprocess.Popen([binary, *options]) as node:
        deadline = time.monotonic() + 30
        while True:
            try:
                rpc_chain(f"http://127.0.0.1:{port}").close()
                break
            except LedgerError:
                if time.monotonic() > deadline or node.poll() is not None:
                    raise
        yield f"http://127.0.0.1:{port}"
        node.terminate()
