"""A whole task against an independent node, and what a node without money for us says."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from app import cli
from app.config import compose
from app.launch import launch
from app.ledger.chain import Chain, embedded_chain, open_chain
from app.ledger.funding import fund, needs, require
from app.protocol.errors import LedgerError
from app.protocol.keys import simulation_account
from app.reporting.progress import SilentProgress

SMALL = ["data=digits", "customers=5", "rounds=2"]


def run(tmp_path: Path, name: str, *overrides: str) -> dict[str, Any]:
    launch(compose([*SMALL, *overrides]), SilentProgress(), parent=tmp_path, name=name)
    result: dict[str, Any] = json.loads((tmp_path / name / "result.json").read_text())
    return result


@pytest.mark.node
def test_a_node_and_the_embedded_chain_come_to_the_same(tmp_path: Path, anvil_url: str) -> None:
    node = run(tmp_path, "node", "chain=rpc", f"chain.url={anvil_url}")
    embedded = run(tmp_path, "embedded")

    assert not (tmp_path / "node" / "chain.sqlite").exists()
    for same in ("model_digest", "policy_digest", "reputation_by_round", "aggregated", "accuracy_by_round"):
        assert node[same] == embedded[same]
    for kind in ("seal", "finalise", "deploy"):  # the same work; calldata differs by the bytes of addresses and proofs
        assert node["gas"][kind] == pytest.approx(embedded["gas"][kind], rel=0.02)


@pytest.mark.long
def test_a_served_embedded_chain_and_one_in_process_come_to_the_same(tmp_path: Path) -> None:
    """A run whose chain is served by another process, from `hearth chain new` to the model."""
    file = tmp_path / "chain.sqlite"
    assert cli.main(["chain", "new", str(file), "--seed", "0"]) == 0
    line = [sys.executable, "-m", "app.cli", "chain", "serve", str(file), "--port", "0"]
    with subprocess.Popen(line, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            url = (server.stdout.readline() + server.stdout.readline()).split()[-3]
            served = run(tmp_path, "served", "chain=rpc", f"chain.url={url}", "chain.chain_id=2020")
        finally:
            server.kill()
    embedded = run(tmp_path, "embedded")
    for same in ("model_digest", "policy_digest", "reputation_by_round", "aggregated", "accuracy_by_round"):
        assert served[same] == embedded[same]
    evidence = open_chain(file)  # the server was killed, and everything is there
    assert evidence.head()[1].hex() == served["head"]["hash"][2:]
    evidence.close()


def test_without_a_lender_the_manufacturer_is_told_what_is_missing(chain: Chain) -> None:
    """The embedded chain manages no accounts, as a public node does not."""
    poor = simulation_account(5, "manufacturer")
    with pytest.raises(LedgerError, match=f"the manufacturer {poor.address} has 0 ether"):
        fund(chain, poor, needs(chain, poor.address, [], [], rounds=2))


def test_miners_are_paid_for_by_the_manufacturer(chain: Chain, rich: Any) -> None:
    miners = [simulation_account(5, "miner", index).address for index in range(3)]
    customers = [simulation_account(5, "customer", index).address for index in range(2)]
    needed = needs(chain, rich.address, miners, customers, rounds=2, deposit=7)
    fund(chain, rich, needed)
    balances = [chain.balance(who) for who in (*miners, *customers)]
    fund(chain, rich, needed)  # they have enough now

    assert balances[0] == balances[2] > balances[3] == balances[4] > 7
    assert [chain.balance(who) for who in (*miners, *customers)] == balances
    require(chain, needed, {})


def test_who_is_short_is_named_with_both_amounts(chain: Chain, rich: Any) -> None:
    poor = simulation_account(5, "miner").address
    needed = {rich.address: 1, poor: 10**18}
    with pytest.raises(LedgerError, match=f"on chain 2020 miner {poor} has 0 of 1 ether$"):
        require(chain, needed, {poor: "miner"})


def test_every_member_of_a_run_deposits_and_its_parties_act_afterwards(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = run(tmp_path, "deposits", "terms=deployment", "terms.deposit=0.5", "terms.reward=3")
    chain = open_chain(tmp_path / "deposits" / "chain.sqlite", readonly=True)
    assert chain.balance(result["contract"]) == 3 * 10**18 + (5 + 4) * 10**18 // 2
    assert result["gas"]["total"] > 9 * 40_000
    chain.close()

    here, claim = str(tmp_path / "deposits"), str(tmp_path / "claim.json")
    for words, said in (
        (["list", str(tmp_path)], "completed, 2 of 2 rounds finalised"),
        (["show", here], f"task          {result['contract']} on chain 2020"),
        (["claim", here, "--as", "customer/0", "--sign-only", claim], "good once"),
        (["claim", here, "--as", "manufacturer", "--relay", claim, "--yes"], "done in block"),
        (["reclaim", here, "--as", "miner/1", "--yes"], "done in block"),
    ):
        assert cli.main(["task", *words]) == 0
        assert said in capsys.readouterr().out
    assert cli.main(["task", "cancel", here, "--as", "customer/5", "--yes"]) == 2
    assert "is no party of this run (allowed: manufacturer, customer/0..4" in capsys.readouterr().err
    assert cli.main(["task", "refund", here, "--as", "customer/0", "--role", "customer", "--yes"]) == 1
    assert "TooEarly(" in capsys.readouterr().err


@pytest.fixture
def rich() -> Any:
    return simulation_account(0, "manufacturer")


@pytest.fixture
def chain(tmp_path: Path, rich: Any) -> Any:
    chain = embedded_chain(tmp_path / "chain.sqlite", funded={str(rich.address): 10**21})
    yield chain
    chain.close()
