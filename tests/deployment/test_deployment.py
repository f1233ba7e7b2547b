"""Every party as a process of its own, for real: SuperLink, SuperNodes, MEC servers, miners, a chain, an IPFS node."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.learning.config import DataConfig
from app.learning.data import Dataset
from app.learning.datasets import load
from tests.deployment.harness import BIN, Deployment, wait_until
from tests.store import kubo_server as node
from tests.store.kubo_server import KuboServer

pytestmark = [pytest.mark.deployment, pytest.mark.timeout(1500)]


@pytest.fixture
def kubo() -> Iterator[KuboServer]:
    with KuboServer() as node:
        yield node


@pytest.fixture
def deployment(tmp_path: Path, kubo: KuboServer) -> Iterator[Deployment]:
    """Everybody but the nodes is up."""
    with Deployment(tmp_path, ["store.name=ipfs", f"store.url={kubo.url}"]) as parties:
        parties.start_services()
        yield parties


def audit(parties: Deployment, result: dict[str, Any], store: str) -> str:
    return parties.hearth("audit", "--chain", parties.chain_url, "--contract", result["contract"], "--store", store)


def test_a_whole_task_comes_to_the_in_process_engines_model(deployment: Deployment, kubo: KuboServer) -> None:
    task = ["rounds=3", "strategy.f=1"]
    for index in range(deployment.customers):
        deployment.start_node(index)
    run = deployment.run_task(*task)
    deployment.says("miner-0", "round 2 judged")
    members = f"{deployment.folder}/members.jsonl"
    certificate = f"{deployment.folder}/certs/ca.crt"
    status = deployment.hearth(
        "status", deployment.chain_url, "--members", members, "--authority", certificate, "--store", kubo.url
    )
    assert "nothing is wrong" in status
    assert status.count("  up  ") == deployment.miners
    assert status.count("epsilon 8 of 8") == deployment.customers
    result = deployment.finish(run)
    same = deployment.in_process(*task)

    assert result["model_digest"] == same["model_digest"]
    assert result["accuracy_by_round"] == same["accuracy_by_round"]
    assert (result["engine"], same["engine"]) == ("flower", "local")
    assert result["absent"] == {}
    assert not any(result["dissent"].values())
    assert [len(shown) for shown in (result["reputation"], result["rewards"])] == [5, 5]
    assert "OK" in audit(deployment, result, kubo.url)

    # What each party is told is what it needs: no key, no password, no record is in any log.
    for path in deployment.folder.glob("*.log"):
        text = path.read_text("utf-8", "replace")
        assert "of this test alone" not in text
        assert "PRIVATE KEY" not in text
    # Every process ends when it is asked to.
    for name in ("mec-0", "miner-0", "chain"):
        assert deployment.stop(name) == 0, deployment.log(name)


def test_parties_come_and_go(deployment: Deployment, kubo: KuboServer) -> None:
    """A miner is dead; a MEC server, the chain and IPFS are away for a while; a phone's machine dies and returns."""
    deployment.stop("miner-3", signal.SIGKILL)
    deployment.stop("mec-0", signal.SIGKILL)
    for index in range(deployment.customers):
        deployment.start_node(index)
    run = deployment.run_task("rounds=4", "strategy.f=0", "attack=none", "members.reply_seconds=240")
    deployment.says("mec-1", "trained in")
    deployment.again("mec-0")  # its phone has been asking since
    deployment.says("mec-0", "trained in")
    deployment.says("miner-0", "round 1 judged")

    kubo.faults["add"].extend([node.reset, node.status(503), node.stall_in_body, node.reset])  # and IPFS is in trouble
    kubo.faults["cat"].extend([node.status(502), node.cut, node.reset])
    deployment.stop("node-4", signal.SIGKILL)
    deployment.stop("chain", signal.SIGKILL)
    deployment.again("chain")
    deployment.again("node-4")
    deployment.again("miner-3")
    result = deployment.finish(run)

    assert result["rounds"] == 4
    assert "OK" in audit(deployment, result, kubo.url)
    missed = {address for absent in result["absent"].values() for address in absent}
    assert len(missed) <= 1  # only whose machine died may have missed a round
    deployment.says("miner-3", "the task has ended")
    assert "the task has ended: completed after 4 rounds" in deployment.log("miner-3")


def test_a_coordinator_that_is_killed_is_resumed_and_comes_to_the_same_model(
    deployment: Deployment, kubo: KuboServer
) -> None:
    task = ["rounds=3", "strategy.f=1"]
    for index in range(deployment.customers):
        deployment.start_node(index)
    run = deployment.run_task(*task)
    deployment.says("miner-0", "round 2 judged")
    victim = _server_app(deployment)
    os.kill(victim, signal.SIGKILL)
    wait_until(lambda: deployment.status(run)["status"].startswith("finished"), "the run is over")
    assert not (deployment.folder / "runs" / "deployed" / "result.json").exists()

    printed = deployment.flwr("run", ".", "hearth", "-c", 'resume="deployed"', "--format", "json")
    result = deployment.finish(str(json.loads(printed[printed.index("{") :])["run-id"]))
    same = deployment.in_process(*task)
    assert result["model_digest"] == same["model_digest"]
    assert result["accuracy_by_round"] == same["accuracy_by_round"]
    assert "OK" in audit(deployment, result, kubo.url)


def _server_app(deployment: Deployment) -> int:
    """Return the process of the ServerApp, which Flower starts in a session of its own."""
    found = [pid for pid, command in deployment.ours() if b"flwr-serverapp" in command]
    assert len(found) == 1, deployment.log("superlink")[-4000:]
    return found[0]


def test_a_joint_extractor_learns_the_same_with_its_mec_servers_elsewhere(
    deployment: Deployment, kubo: KuboServer
) -> None:
    """Each step crosses from the phone's process to its MEC server's and back."""
    task = ["rounds=2", "strategy.f=1", "attack=none", "model.extractor=joint"]
    for index in range(deployment.customers):
        deployment.start_node(index)
    result = deployment.finish(deployment.run_task(*task))
    same = deployment.in_process(*task)
    assert result["model_digest"] == same["model_digest"]
    assert result["privacy"] == same["privacy"]
    assert (result["privacy"]["releases"], result["privacy"]["phone_epsilon"]) == (2, 4.0)
    assert "joint training ends after" in deployment.log("mec-0")
    assert "OK" in audit(deployment, result, kubo.url)


def test_a_node_whose_key_is_on_no_card_is_not_let_in(deployment: Deployment) -> None:
    key = deployment.folder / "node-0"
    key.unlink()
    Path(f"{key}.pub").unlink()
    subprocess.run(["ssh-keygen", "-q", "-t", "ecdsa", "-b", "384", "-N", "", "-f", str(key)], check=True)
    deployment.start_node(0)
    wait_until(lambda: deployment.processes["node-0"].poll() is not None, "the node gives up")
    assert deployment.processes["node-0"].returncode != 0


def test_every_command_says_what_it_takes(tmp_path: Path) -> None:
    for command in (["miner"], ["mec"], ["members"], ["miner", "run", "--help"], ["mec", "serve", "--help"]):
        done = subprocess.run([BIN / "hearth", *command], capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 0
        assert "key=value" in done.stdout or "COMMAND" in done.stdout


def test_customers_train_on_records_of_their_own(deployment: Deployment, kubo: KuboServer) -> None:
    """No rehearsal: each phone reads a file of its own, and draws its noise from its operating system."""
    manufacturer, theirs = deployment.folder / "records", deployment.folder / "homes"
    manufacturer.mkdir()
    theirs.mkdir()
    source = load(DataConfig(name="digits"), 0)
    names = np.array(source.train.classes)

    def save(path: Path, part: Dataset) -> None:
        np.savez(path, pixels=np.asarray(part.inputs), label=names[part.labels])

    save(manufacturer / "train.npz", source.train.subset(range(0, 300)))
    save(manufacturer / "test.npz", source.test)
    for index in range(deployment.customers):
        save(theirs / f"{index}.npz", source.train.subset(range(300 + 200 * index, 500 + 200 * index)))
        deployment.start_node(index, f'data="{theirs}/{index}.npz"')
    data = ["data=folder", f"data.path={manufacturer}", "data.public=2"]
    run = deployment.run_task(*data, "rounds=2", "strategy.f=1", "attack=none", "privacy.randomness=system")
    result = deployment.finish(run)

    assert result["absent"] == {}
    assert result["privacy"]["randomness"] == "system"
    assert (result["privacy"]["epsilon"], result["privacy"]["releases"]) == (8.0, 1)
    # The noise is the operating system's, so how much is gained differs from run to run: from nothing to 5 % here.
    assert result["accuracy"] > result["accuracy_by_round"][0] - 0.05
    assert "OK" in audit(deployment, result, kubo.url)
    for index in range(deployment.customers):
        phone = deployment.folder / f"customer-{index}" / "phone"
        assert {"privacy.jsonl", "receipts.jsonl", "released", "salt"} <= {path.name for path in phone.iterdir()}
        assert f"trained on {source.train.subset(range(200)).labels.size} records" in deployment.log(f"node-{index}")
    raw = [np.asarray(source.train.inputs[300 + 200 * index]).tobytes() for index in range(deployment.customers)]
    outside = [path for path in deployment.folder.rglob("*") if path.is_file() and theirs not in path.parents]
    for path in outside:
        assert not any(record in path.read_bytes() for record in raw), path
