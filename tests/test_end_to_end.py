"""Whole tasks through the entries that users have, judged by what they leave behind."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from app.ledger.chain import open_chain
from app.ledger.task_ledger import Phase, TaskLedger
from app.protocol.digest import hex32, sha256
from app.protocol.manifest import Manifest
from app.protocol.record import RoundRecord
from app.protocol.signing import Domain

ROOT = Path(__file__).resolve().parent.parent
SMALL = ["data=digits", "customers=6", "rounds=3"]


def hearth(
    *arguments: str, env: dict[str, str] | None = None, timeout: float = 300
) -> subprocess.CompletedProcess[str]:
    """Run ``python -m app`` as a user would."""
    command = [sys.executable, "-m", "app", *arguments]
    return subprocess.run(
        command, cwd=ROOT, env=os.environ | (env or {}), capture_output=True, text=True, timeout=timeout, check=False
    )


def finished(*arguments: str) -> Path:
    """Run a task that must succeed; return its run directory."""
    done = hearth(*arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    (directory,) = Path(os.environ["HEARTH_RUNS"]).iterdir()
    return directory


def result_of(directory: Path) -> dict[str, Any]:
    result: dict[str, Any] = json.loads((directory / "result.json").read_text())
    return result


@pytest.fixture(scope="module")
def default_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The task that ``make run`` runs: its directory, and what it printed."""
    runs = tmp_path_factory.mktemp("default")
    done = hearth(env={"HEARTH_RUNS": str(runs)})
    assert done.returncode == 0, done.stdout + done.stderr
    (directory,) = runs.iterdir()
    return directory, done.stdout


def test_the_default_task_is_what_the_readme_promises(default_run: tuple[Path, str]) -> None:
    directory, said = default_run
    result = result_of(directory)

    assert (result["customers"], result["data"]["name"], result["engine"]) == (10, "plaid", "local")
    assert result["rounds"] >= 10
    assert len(result["accuracy_by_round"]) == result["rounds"] + 1
    assert result["accuracy"] > result["accuracy_by_round"][0] > 0.5  # the customers' data adds to the public set
    assert result["privacy"]["releases"] == 1
    assert (result["privacy"]["mechanism"], result["privacy"]["unit"]) == ("gaussian", "record")
    assert (result["privacy"]["epsilon"], result["privacy"]["delta"]) == (8.0, 1e-5)
    assert "insecure" in result["privacy"]["randomness"]
    assert set(result["gas"]) >= {"seal", "finalise", "per_customer"}
    assert set(result["seconds"]) >= {"train", "mine", "chain", "store", "total"}
    for told in (str(directory), "insecure", "public set alone", result["model_digest"]):
        assert told.lower() in said.lower()


def test_the_attacker_falls_and_the_honest_rise(default_run: tuple[Path, str]) -> None:
    result = result_of(default_run[0])
    (attacker,) = result["adversaries"]
    honest = set(result["reputation"]) - {attacker}

    assert len(honest) == 9
    assert all(set(addresses) == {attacker} for addresses in result["rejected"].values())
    assert result["aggregated"][attacker] == 0
    assert min(result["reputation_by_round"][attacker]) == 0
    assert min(result["reputation"][customer] for customer in honest) > result["reputation"][attacker]


def test_the_evidence_on_disk_is_what_the_chain_finalised(default_run: tuple[Path, str]) -> None:
    directory, _ = default_run
    result = result_of(directory)
    chain = open_chain(directory / "chain.sqlite", readonly=True)
    ledger = TaskLedger.attach(chain, result["contract"])
    domain = Domain(result["chain_id"], result["contract"])
    state = ledger.state()

    assert (state.phase, state.finalised) == (Phase.COMPLETED, result["rounds"])
    assert (hex32(state.model), hex32(state.policy)) == (result["model_digest"], result["policy_digest"])
    assert chain.head() == (result["head"]["number"], bytes.fromhex(result["head"]["hash"][2:]))
    assert dict(zip(ledger.customers(), ledger.reputation(), strict=True)) == result["reputation"]
    for number in range(1, result["rounds"] + 1):
        seal, final = ledger.sealed(number), ledger.finalised(number)
        assert seal is not None
        assert final is not None
        manifest = (directory / "rounds" / f"{number:04d}" / "manifest.json").read_bytes()
        record = (directory / "rounds" / f"{number:04d}" / "record.json").read_bytes()
        assert (sha256(manifest), sha256(record)) == (seal.manifest.sha256, final.record.sha256)
        assert Manifest.from_bytes(manifest).tree(domain).root == seal.root
        assert RoundRecord.from_bytes(record).election.leader == final.leader
    metrics = [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]
    assert [line["round"] for line in metrics] == list(range(1, result["rounds"] + 1))
    assert metrics[-1]["model"]["sha256"] == result["model_digest"]
    assert (directory / "config.yaml").read_text().count("auto") == 0  # everything is resolved
    chain.close()


def test_the_same_seed_gives_the_same_model_and_another_seed_another(default_run: tuple[Path, str]) -> None:
    again = hearth("name=again")
    other = hearth("name=other", "seed=1", "rounds=1")
    runs = Path(os.environ["HEARTH_RUNS"])

    assert again.returncode == other.returncode == 0
    assert result_of(runs / "again")["model_digest"] == result_of(default_run[0])["model_digest"]
    assert result_of(runs / "other")["model_digest"] != result_of(default_run[0])["model_digest"]


def test_one_worker_or_many_give_the_same_model() -> None:
    one = hearth(*SMALL, "name=one", "engine.workers=1")
    many = hearth(*SMALL, "name=many", "engine.workers=6")
    runs = Path(os.environ["HEARTH_RUNS"])

    assert one.returncode == many.returncode == 0
    assert result_of(runs / "one")["model_digest"] == result_of(runs / "many")["model_digest"]


def test_a_sweep_runs_isolated_jobs_and_ends_with_one_table() -> None:
    done = hearth("-m", *SMALL, "seed=0,1,2", "name=seeds")
    sweep = Path(os.environ["HEARTH_RUNS"]) / "seeds"
    rows = list(csv.DictReader((sweep / "sweep.csv").open()))
    alone = hearth(*SMALL, "seed=1", "name=alone")

    assert done.returncode == alone.returncode == 0, done.stdout + done.stderr
    assert [row["seed"] for row in rows] == ["0", "1", "2"]
    assert len({row["model_digest"] for row in rows}) == 3
    # A job of a sweep gives what the same command gives alone: nothing is shared between jobs.
    assert rows[1]["model_digest"] == result_of(sweep.parent / "alone")["model_digest"]


@pytest.mark.parametrize(
    ("arguments", "key"),
    [
        (["strategy.f=4"], "strategy.f"),
        (["model.split=nowhere"], "model.split"),
        (["data=folder", "data.path=nowhere"], "data.path"),
        (["data=nothing"], "data"),
        (["nonsense=1"], "nonsense"),
        (["rounds=many"], "rounds"),
        (["customers=2000"], "customers"),
    ],
)
def test_what_cannot_be_run_is_refused_before_anything_starts(arguments: list[str], key: str) -> None:
    done = hearth(*arguments)

    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {key}")
    assert len(done.stderr.splitlines()) == 1
    assert "Traceback" not in done.stderr
    assert not list(Path(os.environ["HEARTH_RUNS"]).iterdir())


def test_a_chain_that_is_not_there_ends_the_run_with_one_line_and_leaves_what_was_written() -> None:
    done = hearth(*SMALL, "name=lost", "chain=rpc", "chain.url=http://127.0.0.1:9")
    directory = Path(os.environ["HEARTH_RUNS"]) / "lost"

    assert done.returncode == 1
    assert done.stderr.startswith("error: http://127.0.0.1:9")
    assert str(directory) in done.stderr
    assert "Traceback" not in done.stderr
    assert (directory / "config.yaml").exists()
    assert not (directory / "result.json").exists()


def test_a_run_directory_is_never_overwritten() -> None:
    directory = finished(*SMALL, "name=mine")
    before = {path: path.stat().st_mtime_ns for path in directory.rglob("*")}
    again = hearth(*SMALL, "name=mine")

    assert again.returncode == 2
    assert again.stderr.startswith("error: name")
    assert {path: path.stat().st_mtime_ns for path in directory.rglob("*")} == before
