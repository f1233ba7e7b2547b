"""A run that was killed, wherever, goes on to what it would have been: the chain remembers, the process need not."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from app.audit.report import Report
from app.audit.run import audit_run
from app.cli import main
from app.config import compose
from app.launch import launch, resume
from app.protocol.errors import ConfigError, LedgerError, RoundError
from app.reporting.progress import SilentProgress
from app.run_directory import RunDirectory

HERE = Path(__file__).parent
TASK = ("data=digits", "customers=5", "rounds=2", "strategy.f=1", "attack=sign_flip", "miners.count=4")
_OWN = ("name", "place", "head", "seconds")


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run that nobody stopped."""
    folder = tmp_path_factory.mktemp("straight")
    launch(compose(TASK), SilentProgress(), parent=folder, name="run")
    return folder / "run"


def stopped(folder: Path, step: int, task: tuple[str, ...] = TASK) -> bool:
    """Begin the run in ``folder`` in a process that is killed at a step; return False if it came to its end."""
    line = [sys.executable, str(HERE / "stopping.py"), str(step), str(folder.parent), folder.name, *task]
    done = subprocess.run(line, cwd=HERE.parent, env={**os.environ, "PYTHONPATH": str(HERE.parent)}, check=False)
    assert done.returncode in (0, -signal.SIGKILL)
    return done.returncode != 0


def evidence(run: Path) -> dict[str, Any]:
    """What must not depend on where a run was stopped."""
    result = json.loads((run / "result.json").read_text())
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    files = sorted(path for path in (run / "rounds").rglob("*") if path.is_file())
    kept = [path.read_bytes() for path in sorted((run / "customers").glob("*/phone/privacy.jsonl"))]
    own = {key: value for key, value in result.items() if key not in _OWN}
    rounds = [{k: v for k, v in line.items() if k != "seconds"} for line in lines]
    return {
        "result": own,
        "rounds": rounds,
        "files": [(path.relative_to(run).as_posix(), path.read_bytes()) for path in files],
        "releases": kept,
        "receipts": [path.read_bytes() for path in sorted((run / "customers").glob("*/phone/receipts.jsonl"))],
    }


def goes_on(straight: Path, run: Path) -> None:
    """Resume a run, and compare everything with the one that was never stopped."""
    if (run / "config.yaml").exists():
        resume(RunDirectory.at(run), SilentProgress())
        assert evidence(run) == evidence(straight)
        audit_run(run, Report(str(run)))


@pytest.mark.parametrize("step", [19, 84])
def test_killed_at_a_step_it_goes_on_to_the_same_end(straight: Path, tmp_path: Path, step: int) -> None:
    run = tmp_path / "run"
    assert stopped(run, step)
    goes_on(straight, run)
    assert main(["resume", str(run)]) == 0  # nothing is left to do


@pytest.mark.long
@pytest.mark.parametrize("step", range(0, 116, 4))
def test_killed_anywhere_it_goes_on_to_the_same_end(straight: Path, tmp_path: Path, step: int) -> None:
    run = tmp_path / "run"
    if not stopped(run, step):
        pytest.skip("the run has fewer steps")
    goes_on(straight, run)


def test_killed_again_while_it_goes_on(straight: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = tmp_path / "run"
    assert stopped(run, 60)

    def refuse(*_: object) -> None:
        raise LedgerError("the node is gone")

    with monkeypatch.context() as patch:
        patch.setattr("app.mining.miner.Miner.finalise", refuse)
        with pytest.raises(RoundError, match="the node is gone"):
            resume(RunDirectory.at(run), SilentProgress())
    goes_on(straight, run)


@pytest.fixture
def cut(straight: Path, tmp_path: Path) -> Path:
    """A finished run whose process died before it wrote its last words."""
    run = tmp_path / "run"
    shutil.copytree(straight, run)
    (run / "result.json").unlink()
    return run


def test_a_line_that_was_not_finished_is_written_again(straight: Path, cut: Path) -> None:
    metrics = cut / "metrics.jsonl"
    metrics.write_bytes(metrics.read_bytes()[:-50])
    shutil.rmtree(cut / "rounds" / "0002")
    resume(RunDirectory.at(cut), SilentProgress())
    lines = [json.loads(line) for line in metrics.read_text().splitlines()]
    assert [line["round"] for line in lines] == [1, 2]
    assert evidence(cut)["files"] == evidence(straight)["files"]
    audit_run(cut, Report(str(cut)))


def test_what_cannot_go_on_says_why(cut: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = cut / "config.yaml"
    text = config.read_text()
    for changed, told in (
        (text.replace("name: local", "name: flower"), "flwr run"),
        (text.replace("rounds: 2", "rounds: two"), "rounds"),
        (text + "unknown: 1\n", "unknown"),
        ("[", "cannot be read"),
    ):
        config.write_text(changed)
        assert main(["resume", str(cut)]) == 2
        assert told in capsys.readouterr().err
    config.unlink()
    assert main(["resume", str(cut)]) == 2
    assert "has no config.yaml" in capsys.readouterr().err
    assert main(["resume", str(tmp_path / "nowhere")]) == 2
    assert main(["resume"]) == 2
    with pytest.raises(ConfigError):
        RunDirectory.at(cut).read_config()


def test_another_configuration_than_the_one_on_chain_is_refused(cut: Path) -> None:
    config = cut / "config.yaml"
    config.write_text(config.read_text().replace("seed: 0", "seed: 1"))
    with pytest.raises(LedgerError):
        resume(RunDirectory.at(cut), SilentProgress())


def test_one_coordinator_at_a_time(cut: Path) -> None:
    from app.ledger.chain import open_chain

    chain = open_chain(cut / "chain.sqlite")
    try:
        with pytest.raises(LedgerError):
            resume(RunDirectory.at(cut), SilentProgress())
    finally:
        chain.close()
