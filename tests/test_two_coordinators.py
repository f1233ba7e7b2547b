"""Two coordinators on one task: the chain takes one of them, the other is told; nothing comes out twice or wrong."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from app.audit.node import audit_node
from app.audit.report import Report
from app.config import compose
from app.launch import launch
from app.ledger.embedded import EmbeddedNode
from app.ledger.server import serving
from app.ledger.task_ledger import TaskLedger
from app.places import open_place
from app.protocol.digest import hex32
from app.protocol.keys import simulation_account
from app.reporting.progress import SilentProgress

HERE = Path(__file__).parent
TASK = ("data=digits", "customers=5", "rounds=3", "strategy.f=1", "seed=5")


def resumed(run: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "app.cli", "resume", str(run)]
    env = {**os.environ, "PYTHONPATH": str(HERE.parent)}
    return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_an_embedded_chain_has_one_writer(tmp_path: Path) -> None:
    launch(compose(TASK), SilentProgress(), parent=tmp_path, name="run")
    run = tmp_path / "run"
    (run / "result.json").unlink()
    node = EmbeddedNode.open(run / "chain.sqlite")  # the other coordinator has it
    before = node.head()
    second = resumed(run)
    told = second.communicate(timeout=120)[1]
    assert node.head() == before
    node.close()
    assert second.returncode == 1
    assert "chain.sqlite" in told
    assert "Traceback" not in told


@pytest.mark.long
def test_on_a_chain_of_others_both_stop_or_go_on_and_the_model_is_the_same(tmp_path: Path) -> None:
    straight = launch(compose(TASK), SilentProgress(), parent=tmp_path, name="straight")
    node = EmbeddedNode.create(tmp_path / "c.sqlite", alloc={simulation_account(5, "manufacturer").address: 10**24})
    with serving(node, 0) as server:
        one, two = tmp_path / "one", tmp_path / "two"
        task = [*TASK, "chain=rpc", f"chain.url={server.url}", f"store.path={tmp_path / 'blobs'}"]
        line = [sys.executable, str(HERE / "stopping.py"), "62", str(tmp_path), "one", *task]
        subprocess.run(line, cwd=HERE.parent, env={**os.environ, "PYTHONPATH": str(HERE.parent)}, check=False)
        assert not (one / "result.json").exists()
        shutil.copytree(one, two)

        both = [resumed(run) for run in (one, two)]
        for process in both:
            _, told = process.communicate(timeout=300)
            assert process.returncode in (0, 1), told
            assert "Traceback" not in told
            assert (process.returncode == 0) == (told.count("error:") == 0), told

        last = resumed(one)
        assert last.communicate(timeout=300)[1].count("error:") == 0
        assert last.returncode == 0
        result = json.loads((one / "result.json").read_text())
        assert result["model_digest"] == straight["model_digest"]
        chain = open_place(server.url)
        state = TaskLedger.attach(chain, result["contract"]).state()
        assert (hex32(state.model), state.finalised) == (straight["model_digest"], 3)
        audit_node(server.url, result["contract"], str(tmp_path / "blobs"), Report("task"))
        chain.close()
    node.close()
