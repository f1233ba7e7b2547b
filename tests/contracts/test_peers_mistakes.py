"""Mistakes that comparable projects made, each with a test that it cannot be made here.

One test for each row of the list that was collected from reading them; the name says the mistake. What a contract, a
journal or a store does in detail is tested beside it; here is the one fact that excludes the mistake.
"""

from __future__ import annotations

import ast
import json
import os
import re
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from task_world import MANUFACTURER, STRANGER, TERMS, World, account, customers, digest, funded, reverts

from app.config import compose
from app.ledger.chain import Chain, embedded_chain
from app.ledger.contract import artifact
from app.ledger.task_ledger import TaskLedger
from app.protocol.errors import BlobTamperedError, ConfigError, HearthError, LedgerError, ProtocolError
from app.protocol.tensors import unpack
from app.settings import KEYS
from app.store.base import reference
from app.store.embedded import EmbeddedStore

ROOT = Path(__file__).parents[2]
CODE = sorted([*(ROOT / "app").rglob("*.py"), *(ROOT / "strategies").rglob("*.py")])
TREES = {path.relative_to(ROOT): ast.parse(path.read_text()) for path in CODE}
ABI = artifact("HearthTask").abi
GAS = json.loads((ROOT / "tests" / "contracts" / "gas_snapshot.json").read_text())


@cache
def nodes(kind: type[ast.AST]) -> list[tuple[Path, Any]]:
    return [(path, node) for path, tree in TREES.items() for node in ast.walk(tree) if isinstance(node, kind)]


def imports() -> list[tuple[Path, str]]:
    found = [(path, alias.name) for path, node in nodes(ast.Import) for alias in node.names]
    for path, node in nodes(ast.ImportFrom):
        found += [(path, node.module or ""), *((path, f"{node.module}.{alias.name}") for alias in node.names)]
    return found


def calls(name: str) -> list[tuple[Path, ast.Call]]:
    return [(path, node) for path, node in nodes(ast.Call) if ast.unparse(node.func).split(".")[-1] == name]


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chain]:
    path = tmp_path_factory.mktemp("peers") / "chain.sqlite"
    chain = embedded_chain(path, funded=funded(7, 4), genesis_time=1_700_000_000)
    yield chain
    chain.close()


@pytest.fixture(scope="module")
def world(chain: Chain) -> World:
    """A paid task whose first round is finalised."""
    world = World(chain, reward=10**6)
    world.seal(1)
    world.finalise(1)
    return world


def test_anyone_credits_anyone_or_is_paid_again(world: World) -> None:
    who = customers(7)[0]
    with reverts("NotCustomer", STRANGER.address):
        world.task.rewards.claim(STRANGER)
    assert world.task.rewards.owed(who.address) > 0
    world.task.rewards.claim(who)
    with reverts("NothingToClaim", who.address):
        world.task.rewards.claim(who)
    names = {entry["name"] for entry in ABI if entry["type"] == "function"}
    assert not {name for name in names if re.search("credit|setRep|reward|mint|award", name, re.I)}


def test_a_party_overwrites_the_models_hash(world: World) -> None:
    """One writer for each round, once: a quorum through its leader. Nothing else in the interface takes a model."""
    takers = {
        entry["name"]
        for entry in ABI
        if entry["type"] == "function" and entry["stateMutability"] != "view" and '"model"' in json.dumps(entry)
    }
    assert takers == {"finalise", "submit", "slashCustomer", "slashMiner"}
    with reverts("WrongPhase", 1):
        world.finalise(1)
    assert world.task.state().model == digest("model", 1)


def test_an_update_is_not_bound_to_its_sender(world: World) -> None:
    good = world.receipt(0, 2)
    other = digest("another")
    for changed in ({"update": other}, {"round": 3}, {"task": other}, {"customer": STRANGER.address}):
        assert replace(good.receipt, **changed).digest(world.task.domain) != good.receipt.digest(world.task.domain)
    for foreign in ({"chain_id": 1}, {"contract": STRANGER.address}):
        elsewhere = replace(world.task.domain, **foreign)
        assert good.receipt.digest(elsewhere) != good.receipt.digest(world.task.domain)


def test_downloaded_bytes_are_unpickled(tmp_path: Path) -> None:
    assert not [path for path, name in imports() if name.split(".")[0] in ("pickle", "dill", "cloudpickle", "joblib")]
    for _, call in calls("load"):
        given = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
        assert given.get("allow_pickle", "False") == "False"
    hostile = tmp_path / "update"
    np.save(hostile.open("wb"), np.array([os.system], dtype=object), allow_pickle=True)
    with pytest.raises(ProtocolError):
        unpack(hostile.read_bytes(), (("w", (2,)),), np.dtype("int16"))


def test_checkpoints_execute_code() -> None:
    """No torch.load at all, or for weights alone."""
    for path, call in calls("load"):
        if ast.unparse(call.func) == "torch.load":
            assert any(k.arg == "weights_only" and ast.unparse(k.value) == "True" for k in call.keywords), path


def test_the_model_is_whatever_was_pinned_last(tmp_path: Path) -> None:
    """A blob is asked for by its digest, and what is found under its name is compared with it, every time."""
    store = EmbeddedStore(tmp_path / "blobs")
    ref = store.put(b"the model", "model")
    with pytest.raises(HearthError):
        store.get(replace(ref, sha256=reference(b"another").sha256), 100)
    for path in (tmp_path / "blobs").rglob("*"):
        if path.is_file() and path.read_bytes() == b"the model":
            path.chmod(0o600)
            path.write_bytes(b"the m0del")
    with pytest.raises(BlobTamperedError):
        store.get(ref, 100)
    store.close()


def test_secrets_are_committed() -> None:
    """No settings key takes a key or a password, and no tracked file looks like one."""
    assert not {key for key in KEYS if re.search("secret|private_key|password|mnemonic|token", key)}
    assert not [*ROOT.glob(".env*"), *ROOT.glob("**/UTC--*")]
    for path in [*CODE, *(ROOT / "conf").rglob("*.yaml"), ROOT / "README.md"]:
        assert "BEGIN " + "PRIVATE KEY" not in path.read_text()
        assert not re.search(r"\b0x[0-9a-f]{64}\b", path.read_text()), path


def test_strings_are_stored_and_matched_in_loops() -> None:
    """A digest has 32 bytes whatever the model; a customer more costs a seal a handful of gas, not a storage slot."""
    getters = [entry for entry in ABI if entry["type"] == "function" and entry["stateMutability"] == "view"]
    texts = {entry["name"] for entry in getters if any(out["type"] == "string" for out in entry["outputs"])}
    assert texts <= {"eip712Domain"}
    small, large = GAS["10 customers, 10 miners"]["seal"], GAS["1000 customers, 10 miners"]["seal"]
    assert (large - small) / 990 < 20


def test_the_nodes_account_signs() -> None:
    """Only where a development node lends ether to a simulation does a node sign anything."""
    assert {path.name for path, _ in calls("send_transaction")} <= {"funding.py"}


def test_a_loop_sleeps_and_swallows_errors() -> None:
    for path, handler in nodes(ast.ExceptHandler):
        caught = "" if handler.type is None else ast.unparse(handler.type)
        if caught not in ("", "Exception", "BaseException"):
            continue  # it expects this one
        names = {node.id for node in ast.walk(handler) if isinstance(node, ast.Name)}
        told = handler.name in names or any(isinstance(node, ast.Raise) for node in ast.walk(handler))
        assert told, (path, handler.lineno)


def test_two_processes_take_one_nonce(tmp_path: Path) -> None:
    """One writer for each key: a second one is refused before it asks for a nonce."""
    first = embedded_chain(tmp_path / "chain.sqlite", funded=funded(0, 0), journal=tmp_path / "journal")
    first.transfer(STRANGER, account("purse").address, 1)
    second = Chain(first.w3, "second", journal=tmp_path / "journal")
    with pytest.raises(LedgerError):
        second.transfer(STRANGER, account("purse").address, 1, "another payment")
    second.close()
    first.close()


def test_the_defence_knows_the_attackers() -> None:
    """Neither what judges a round nor what aggregates it can even import what attacks it."""
    for path, name in imports():
        if (
            path.parts[:2] in (("app", "mining"), ("app", "protocol"), ("app", "ledger"))
            or path.parts[0] == "strategies"
        ):
            assert "attack" not in name, path
    assert not [path for path, name in imports() if name.split(".")[0] == "tests"]


def test_models_are_kept_in_chain_objects() -> None:
    """A seal or a verdict has the same size for a model of any size: its only open-ended part are bitmaps."""
    arrays = {
        part["name"]
        for entry in ABI
        if entry.get("name") in ("seal", "finalise")
        for part in [*entry["inputs"], *(inner for part in entry["inputs"] for inner in part.get("components", []))]
        if part["type"] in ("bytes", "string") or part["type"].endswith("[]")
    }
    assert arrays == {"cid", "recordCid", "participants", "honest", "signatures"}  # a CID has 36 bytes, checked


def test_a_retry_sends_twice(chain: Chain, tmp_path: Path) -> None:
    place = embedded_chain(tmp_path / "chain.sqlite", funded=funded(0, 0), journal=tmp_path / "journal")
    purse = account("retried").address
    hashes = {place.transfer(STRANGER, purse, 5, "pay once").hash for _ in range(3)}
    assert (len(hashes), place.balance(purse)) == (1, 5)
    place.close()
    decorators = {ast.unparse(d) for _, node in nodes(ast.FunctionDef) for d in node.decorator_list}
    assert not {name for name in decorators if "retry" in name}


def test_a_loop_on_chain_has_no_bound() -> None:
    """A thousand customers fit a transaction of any chain (EIP-7825 allows 2**24 gas) many times over."""
    assert GAS["1000 customers, 10 miners"]["finalise, round 3"] < 2**24 / 20


@pytest.mark.parametrize(("customers", "most"), [(3, 0), (4, 0), (5, 1), (9, 3)])
def test_f_is_derived_and_may_be_negative(customers: int, most: int) -> None:
    """f is said, and what cannot be withstood is refused before anything starts."""
    quiet = ["attack=none", f"customers={customers}"]
    assert compose([*quiet, f"strategy.f={most}"]).strategy.f == most
    for f in (most + 1, -1):
        with pytest.raises(ConfigError, match=r"strategy\.f"):
            compose([*quiet, f"strategy.f={f}"])


def test_f_is_enforced_on_chain_too(chain: Chain) -> None:
    with reverts("TooFewCustomers", 6, 7):
        World(chain, n=6, f=2)


def test_signatures_can_be_switched_off() -> None:
    assert not {key for key in KEYS if re.search("sign(ed|ature)|verif|check|trust", key)}


def test_one_silent_party_blocks_a_round_for_ever(chain: Chain) -> None:
    """Every phase has an end that anybody may bring about; a task without one cannot be published."""
    for windows in ({"seal_window": 0}, {"finalise_window": 0}):
        with pytest.raises(LedgerError, match="WrongWindows"):
            TaskLedger.deploy(chain, MANUFACTURER, replace(TERMS, **windows))
