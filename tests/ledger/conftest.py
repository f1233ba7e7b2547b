from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent))

from task_world import funded

from app.ledger.chain import Chain, embedded_chain, rpc_chain
from app.ledger.embedded import EmbeddedNode
from app.ledger.server import serving
from app.ledger.transaction import Waiting

PARTIES = funded(64, 10)


@pytest.fixture
def chain(tmp_path: Path) -> Iterator[Chain]:
    chain = embedded_chain(tmp_path / "chain.sqlite", funded=PARTIES)
    yield chain
    chain.close()


@pytest.fixture
def served_chain(tmp_path: Path) -> Iterator[Chain]:
    """An embedded chain behind its own server, as another process reaches it."""
    node = EmbeddedNode.create(tmp_path / "served.sqlite", alloc=PARTIES)
    with serving(node) as server:
        chain = rpc_chain(server.url, 2020, waiting=Waiting(poll=0.001))
        yield chain
        chain.close()
    node.close()


NODES = [pytest.param(kind, marks=pytest.mark.node) for kind in ("anvil", "hardhat")]


@pytest.fixture(params=["embedded", pytest.param("served", marks=pytest.mark.long), *NODES])
def any_chain(request: pytest.FixtureRequest) -> Chain:
    """The embedded chain, in process and served, and independent nodes where there are some."""
    kind = request.param
    if kind in ("embedded", "served"):
        return request.getfixturevalue({"embedded": "chain", "served": "served_chain"}[kind])
    chain = rpc_chain(request.getfixturevalue(f"{kind}_url"), 2020)
    for address, wei in PARTIES.items():
        chain.w3.provider.make_request(f"{kind}_setBalance", [address, hex(wei)])
    return chain
