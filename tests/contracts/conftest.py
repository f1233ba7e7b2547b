from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path += [str(Path(__file__).parents[1] / "ledger"), str(Path(__file__).parent)]

from task_world import funded

from app.ledger.chain import Chain, embedded_chain


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chain]:
    """One chain for all tests of a file; each publishes its own contract."""
    chain = embedded_chain(tmp_path_factory.mktemp("chain") / "chain.sqlite", funded=funded(64, 10))
    yield chain
    chain.close()
