from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent))

from task_world import funded

from app.ledger.chain import Chain, embedded_chain, rpc_chain

PARTIES = funded(64, 10)


@pytest.fixture
def chain(tmp_path: Path) -> Iterator[Chain]:
    chain = embedded_chain(tmp_path / "chain.sqlite", funded=PARTIES)
    yield chain
    chain.close()


@pytest.fixture(params=["embedded", "anvil"])
def any_chain(request: pytest.FixtureRequest) -> Chain:
    """The embedded chain, and an independent node where there is one."""
    if request.param == "embedded":
        return request.getfixturevalue("chain")
    chain = rpc_chain(request.getfixturevalue("anvil_url"), 2020)
    for address, wei in PARTIES.items():
        chain.w3.provider.make_request("anvil_setBalance", [address, hex(wei)])
    return chain
