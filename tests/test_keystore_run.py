"""Runs whose parties sign with key files, on a chain that is not theirs alone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from eth_account import Account

from app.config import compose
from app.customer import wallets
from app.launch import launch
from app.ledger.chain import rpc_chain
from app.ledger.embedded import EmbeddedNode
from app.ledger.keystore import create, new_key
from app.ledger.server import ChainServer, serving
from app.ledger.task_ledger import TaskLedger
from app.parties import parties_of, vrf_secret
from app.protocol.errors import ConfigError, LedgerError
from app.protocol.keys import simulation_account
from app.reporting.progress import SilentProgress
from app.run_directory import RunDirectory
from app.settings import Config
from app.task import prepare, publish
from strategies.stopwatch import Stopwatch

NAMES = ["manufacturer", "miner-0", *(f"customer-{index}" for index in range(5))]
SMALL = ["data=digits", "customers=5", "rounds=2", "miners.count=1", "wallet=keystore", "attack=none"]
PASSWORD = "correct horse"


@pytest.fixture
def keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Key files of all parties; their addresses by name."""
    monkeypatch.setenv("HEARTH_KEYS", str(tmp_path / "keys"))
    monkeypatch.setenv("HEARTH_PASSWORD", PASSWORD)
    made = {name: new_key() for name in NAMES}
    for name, key in made.items():
        create(name, key, PASSWORD, work=2**12)
    return {name: Account.from_key(key).address for name, key in made.items()}


@pytest.fixture
def server(tmp_path: Path, keys: dict[str, str]) -> Iterator[ChainServer]:
    """A chain on which manufacturer and miner have ether; customers need none."""
    alloc = {keys[name]: 10**20 for name in ("manufacturer", "miner-0")}
    node = EmbeddedNode.create(tmp_path / "chain.sqlite", alloc=alloc)
    with serving(node) as running:
        yield running
    node.close()


def configured(*overrides: str) -> Config:
    return compose([*SMALL, *overrides])


def test_a_whole_run_with_key_files_on_a_node(
    tmp_path: Path, keys: dict[str, str], server: ChainServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The node's address may hold a secret: it comes from the environment, and nothing that is written holds it."""
    monkeypatch.setenv("MY_NODE", f"{server.url}/secret-project-key")
    launch(configured("chain=rpc", "chain.url=env:MY_NODE"), SilentProgress(), parent=tmp_path, name="run")
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    task = TaskLedger.attach(rpc_chain(server.url), result["contract"])
    assert task.manufacturer() == keys["manufacturer"]
    assert task.customers() == tuple(keys[f"customer-{index}"] for index in range(5))
    assert [seat.miner for seat in task.miners()] == [keys["miner-0"]]
    assert task.state().finalised == 2
    assert all(task.rewards.owed(keys[f"customer-{index}"]) > 0 for index in range(5) if result["aggregated"])
    written = [path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()]
    assert not any(secret in data for data in written for secret in (PASSWORD.encode(), b"secret-project-key"))
    assert wallets.wallet(0, 0) == simulation_account(0, "customer", 0)  # the keys were let go of


def test_a_chain_that_does_not_fit_is_told_and_nothing_is_sent(
    tmp_path: Path, keys: dict[str, str], server: ChainServer
) -> None:
    """Another chain, with both ids; and who lacks ether, with what it has and needs."""
    url = f"chain.url={server.url}"
    prepared = prepare(configured("chain=rpc", url, "terms.reward=99.9999999", "terms.deposit=2"))
    wrong = replace(prepared.config, chain=replace(prepared.config.chain, chain_id=1))
    with pytest.raises(LedgerError, match=r"is the chain with the id 2020, not 1$"):
        publish(replace(prepared, config=wrong), RunDirectory.create(wrong, tmp_path, "wrong"), Stopwatch())
    with pytest.raises(LedgerError, match=r"on chain 2020 manufacturer 0x\w+ has 100 of 10\d") as caught:
        publish(prepared, RunDirectory.create(prepared.config, tmp_path, "poor"), Stopwatch())
    assert f"customer 4 {keys['customer-4']} has 0 of 2.0" in str(caught.value)
    assert "miner 0" not in str(caught.value)
    assert server.node.head()[0] == 0


def test_keys_that_cannot_be_used_are_told_before_the_work_begins(
    tmp_path: Path, keys: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError, match=r"has no key file for miner-1, miner-2, miner-3 .*hearth wallet new miner-1"):
        parties_of(compose(["wallet=keystore", "customers=5"]))
    monkeypatch.setenv("HEARTH_PASSWORD", "wrong")
    with pytest.raises(ConfigError, match=r"password: it does not open .*manufacturer\.json"):
        launch(configured(), SilentProgress(), parent=tmp_path, name="never")
    assert not (tmp_path / "never").exists()
    (tmp_path / "password").write_text(PASSWORD + "\n")
    (tmp_path / "password").chmod(0o600)
    monkeypatch.setenv("HEARTH_PASSWORD_FILE", str(tmp_path / "password"))  # goes before the other
    assert parties_of(configured()).manufacturer.address == keys["manufacturer"]
    (tmp_path / "keys" / "customer-4.json").write_bytes((tmp_path / "keys" / "customer-3.json").read_bytes())
    with pytest.raises(ConfigError, match="customer-4 has the same key as customer-3"):
        parties_of(configured())


def test_where_reputation_weighs_the_miners_are_customers(keys: dict[str, str]) -> None:
    parties = parties_of(configured("miners.weighting=reputation"))
    assert list(parties.miners) == [keys["customer-0"]]


def test_a_miners_vrf_secret_follows_from_its_key_and_is_another() -> None:
    one, two = (Account.from_key(bytes(31) + bytes([last])) for last in (1, 2))
    assert vrf_secret(one) == vrf_secret(one) != vrf_secret(two)
    assert vrf_secret(one) != bytes(one.key)
    assert vrf_secret(one).hex() == "b4f1bb8a4a28cdae35caffc91ee7332650785e13efc9fbf84f91924ec3ea6baf"
