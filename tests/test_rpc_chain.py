"""A whole task against an independent node, and what a node without money for us says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from app.config import compose
from app.launch import launch
from app.ledger.chain import Chain, embedded_chain
from app.ledger.funding import fund
from app.protocol.errors import LedgerError
from app.protocol.keys import simulation_account
from app.reporting.progress import SilentProgress

SMALL = ["data=digits", "customers=5", "rounds=2"]


def run(tmp_path: Path, name: str, *overrides: str) -> dict[str, Any]:
    launch(compose([*SMALL, *overrides]), SilentProgress(), parent=tmp_path, name=name)
    result: dict[str, Any] = json.loads((tmp_path / name / "result.json").read_text())
    return result


def test_a_node_and_the_embedded_chain_come_to_the_same(tmp_path: Path, anvil_url: str) -> None:
    node = run(tmp_path, "node", "chain=rpc", f"chain.url={anvil_url}")
    embedded = run(tmp_path, "embedded")

    assert not (tmp_path / "node" / "chain.sqlite").exists()
    for same in ("model_digest", "policy_digest", "reputation_by_round", "aggregated", "accuracy_by_round"):
        assert node[same] == embedded[same]
    for kind in ("seal", "finalise", "deploy"):  # the same work; calldata differs by the bytes of addresses and proofs
        assert node["gas"][kind] == pytest.approx(embedded["gas"][kind], rel=0.02)


def test_without_a_lender_the_manufacturer_is_told_what_is_missing(chain: Chain) -> None:
    """The embedded chain manages no accounts, as a public node does not."""
    poor = simulation_account(5, "manufacturer")
    with pytest.raises(LedgerError, match=f"the manufacturer {poor.address} has 0 ether"):
        fund(chain, poor, [], 2)


def test_miners_are_paid_for_by_the_manufacturer(chain: Chain, rich: Any) -> None:
    miners = [simulation_account(5, "miner", index) for index in range(3)]
    fund(chain, rich, miners, 2)
    balances = [chain.balance(miner.address) for miner in miners]
    fund(chain, rich, miners, 2)  # they have enough now

    assert min(balances) == max(balances) > 0
    assert [chain.balance(miner.address) for miner in miners] == balances


@pytest.fixture
def rich() -> Any:
    return simulation_account(0, "manufacturer")


@pytest.fixture
def chain(tmp_path: Path, rich: Any) -> Any:
    chain = embedded_chain(tmp_path / "chain.sqlite", funded={str(rich.address): 10**21})
    yield chain
    chain.close()
