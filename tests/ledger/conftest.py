from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent))

from task_world import funded

from app.ledger.chain import Chain, embedded_chain, rpc_chain
from app.protocol.errors import LedgerError

PARTIES = funded(64, 10)


@pytest.fixture
def chain(tmp_path: Path) -> Iterator[Chain]:
    chain = embedded_chain(tmp_path / "chain.sqlite", funded=PARTIES)
    yield chain
    chain.close()


@pytest.fixture(scope="session")
def anvil_url() -> Iterator[str]:
    """URL of an anvil started for the session; its path is in HEARTH_ANVIL."""
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


@pytest.fixture(params=["embedded", "anvil"])
def any_chain(request: pytest.FixtureRequest) -> Chain:
    """The embedded chain, and an independent node where there is one."""
    if request.param == "embedded":
        return request.getfixturevalue("chain")
    chain = rpc_chain(request.getfixturevalue("anvil_url"), 2020)
    for address, wei in PARTIES.items():
        chain.w3.provider.make_request("anvil_setBalance", [address, hex(wei)])
    return chain
