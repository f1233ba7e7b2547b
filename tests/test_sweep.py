"""Sweeps: jobs are planned before any starts, run in processes of their own, and end in one table."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from app.protocol.errors import ConfigError, DataError
from app.settings import Config
from app.sweep import plan, sweep, table

ROOT = Path(__file__).parent.parent


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HEARTH_RUNS", str(tmp_path))
    return tmp_path


def a_task(config: Config, folder: Path, name: str) -> dict[str, Any]:
    """Stand for a whole run; the seed says how it ends."""
    (folder / name).mkdir()
    if config.seed == 1:
        raise DataError("the records\nare gone")
    if config.seed == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    if config.seed == 3:
        raise ZeroDivisionError("oh")
    if config.seed == 4:
        os._exit(7)
    if "HEARTH_TEST_MARK" in os.environ:
        raise DataError("another job was here before")
    os.environ["HEARTH_TEST_MARK"] = "x"
    return {
        "accuracy": 0.75,
        "accuracy_by_round": [0.25, 0.75],
        "privacy": {"epsilon": config.privacy.epsilon},
        "gas": {"per_customer": 12345},
        "model_digest": "0x" + "ab" * 32,
        "padding": "x" * 1_000_000,  # more than a pipe holds
    }


def hang(config: Config, folder: Path, name: str) -> dict[str, Any]:
    """Say who runs, and run for ever."""
    (folder / f"{os.getpid()}.pid").touch()
    while True:
        time.sleep(60)


def test_jobs_that_differ_in_what_they_do_not_use_are_one() -> None:
    jobs = plan(["privacy=record,none", "privacy.epsilon=1,2"])
    assert [job.overrides for job in jobs] == [
        {"privacy": "record", "privacy.epsilon": "1"},
        {"privacy": "record", "privacy.epsilon": "2"},
        {"privacy": "none", "privacy.epsilon": "-"},
    ]


@pytest.mark.parametrize(
    ("name", "jobs"), [pytest.param("epsilon", 16, marks=pytest.mark.long), ("batch", 10), ("rounds", 4)]
)
def test_figures_of_the_paper_are_possible(name, jobs) -> None:
    assert len(plan([f"experiment=paper-fig-{name}", "data=digits"])) == jobs


def test_a_sweep_leaves_its_plot(home: Path) -> None:
    console = Console(width=160, record=True, file=open(os.devnull, "w"))  # noqa: SIM115
    assert sweep(["privacy.epsilon=1,2", "data=digits", "name=drawn"], a_task, console) == 0
    assert (home / "drawn" / "sweep.png").read_bytes().startswith(b"\x89PNG")
    assert "sweep.png" in console.export_text()


def test_jobs_that_fail_do_not_stop_the_others(home: Path) -> None:
    console = Console(width=160, record=True, file=open(os.devnull, "w"))  # noqa: SIM115
    assert sweep(["seed=range(0,6)", "data=digits", "privacy.epsilon=4", "name=mine"], a_task, console) == 1
    rows = json.loads((home / "mine" / "sweep.json").read_text())
    assert [row["seed"] for row in rows] == ["0", "1", "2", "3", "4", "5"]
    assert [row["accuracy"] for row in rows] == [0.75, None, None, None, None, 0.75]
    assert [row["error"] for row in rows] == [
        None,
        "the records are gone",
        "killed by SIGKILL",
        "defect in Hearth, see 4-seed=3.log: ZeroDivisionError: oh",
        "ended early with exit code 7",
        None,
    ]
    assert "ZeroDivisionError" in (home / "mine" / "4-seed=3.log").read_text()
    assert rows[0]["public_accuracy"] == 0.25
    assert rows[0]["epsilon"] == 4.0
    assert rows[0]["directory"] == str(home / "mine" / "1-seed=0")
    with (home / "mine" / "sweep.csv").open() as file:
        assert [row["seed"] for row in csv.DictReader(file)] == ["0", "1", "2", "3", "4", "5"]
    text = console.export_text()
    assert "killed by SIGKILL" in text
    assert "0xabababab" in text
    assert "12,345" in text


def test_every_job_starts_from_the_same_clean_state(home: Path) -> None:
    console = Console(file=open(os.devnull, "w"))  # noqa: SIM115
    assert sweep(["rounds=1,2,3", "name=clean"], a_task, console) == 0
    assert "HEARTH_TEST_MARK" not in os.environ
    assert not list((home / "clean").glob("*.log")), "a job that says nothing leaves no file"


def test_nothing_starts_if_one_job_is_impossible(home: Path) -> None:
    with pytest.raises(ConfigError, match=r"strategy\.f"):
        sweep(["customers=10,4", "strategy.f=1"], a_task)
    assert list(home.iterdir()) == []


def test_a_sweep_is_never_overwritten(home: Path) -> None:
    (home / "mine").mkdir()
    with pytest.raises(ConfigError, match="never overwritten"):
        sweep(["seed=0,1", "name=mine"], a_task)


def test_jobs_are_named_by_what_differs() -> None:
    jobs = plan(["seed=0,1", "rounds=3", "data=plaid,digits"])
    assert [job.name for job in jobs] == [
        "1-seed=0,data=plaid", "2-seed=0,data=digits", "3-seed=1,data=plaid", "4-seed=1,data=digits",
    ]  # fmt: skip
    assert [job.overrides for job in jobs][1] == {"seed": "0", "data": "digits"}
    assert [(job.config.seed, job.config.data.name) for job in jobs][3] == (1, "digits")
    assert [job.name for job in plan(["rounds=3"])] == ["1-job"]
    assert all(len(job.name) <= 90 for job in plan(["model.hidden=[" + ",".join(["64"] * 8) + "],[8]", "seed=1,2"]))


def test_a_sweep_goes_on_with_what_it_has_not_finished(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = ["data=digits", "customers=5", "rounds=1", "attack=none", "strategy.f=1"]
    mine = [*line, "name=mine", "seed=0,1,2"]
    assert sweep(mine) == 0
    before = json.loads((home / "mine" / "sweep.json").read_text())
    first, second, third = (home / "mine" / Path(row["directory"]).name for row in before)
    kept = (first / "result.json").stat().st_mtime_ns
    (second / "result.json").unlink()  # it was stopped at its last step
    shutil.rmtree(third)
    third.mkdir()  # it had just begun
    capsys.readouterr()
    assert sweep(mine, resume=True) == 0
    assert "3 jobs (1 have ended well)" in capsys.readouterr().out
    after = json.loads((home / "mine" / "sweep.json").read_text())
    assert [row["model_digest"] for row in after] == [row["model_digest"] for row in before]
    assert (first / "result.json").stat().st_mtime_ns == kept
    with pytest.raises(ConfigError, match="is a job of another sweep"):
        sweep([*mine, "privacy.epsilon=2"], resume=True)
    for name in ("name=other", "name=null"):
        with pytest.raises(ConfigError, match="--resume"):
            sweep([*line, name, "seed=0,1"], resume=True)


def test_a_sweep_has_one_name(home: Path) -> None:
    with pytest.raises(ConfigError, match=r"^name: "):
        plan(["name=a,b"])


def test_an_interrupted_sweep_says_where_its_evidence_is(home: Path) -> None:
    class Interrupting(Console):
        """A terminal whose user presses Ctrl-C when the first job is done."""

        def print(self, *objects: Any, **options: Any) -> None:
            if "1/2" in str(objects[0]):
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as interrupt:
        sweep(["rounds=1,2", "name=mine"], a_task, Interrupting(file=open(os.devnull, "w")))  # noqa: SIM115
    assert interrupt.value.__notes__ == [f"what the sweep wrote until then (1 of 2 jobs ended): {home / 'mine'}"]


def test_an_experiment_brings_its_sweep_and_the_command_line_overrules_it() -> None:
    assert len(plan(["experiment=private-budget"])) == 15
    jobs = plan(["experiment=private-budget", "seed=7"])
    assert {job.config.seed for job in jobs} == {7}
    assert [job.config.privacy.epsilon for job in jobs] == [1.0, 2.0, 4.0, 8.0, 16.0]
    assert {job.config.experiment for job in jobs} == {"private-budget"}


def test_the_table_fits_a_narrow_terminal() -> None:
    row = {
        "seed": "0", "accuracy": 0.75, "public_accuracy": 0.25, "epsilon": None, "gas_per_customer": None,
        "seconds": 1.0, "model_digest": None, "directory": None, "error": "a long story " * 20,
    }  # fmt: skip
    console = Console(width=80, record=True, file=open(os.devnull, "w"))  # noqa: SIM115
    console.print(table([row]))
    lines = console.export_text().splitlines()
    assert max(map(len, lines)) <= 80
    assert sum("75.0%" in line for line in lines) == 1
    assert "story" in "".join(lines)


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_no_job_outlives_its_sweep(home: Path, how: signal.Signals) -> None:
    code = (
        "import signal, sys; sys.path.insert(0, sys.argv[1])\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever began the tests may ignore it\n"
        "from test_sweep import hang\n"
        "from app.sweep import sweep\n"
        "if __name__ == '__main__': sweep(['seed=0,1,2', 'name=mine'], hang)\n"
    )
    script = home / "script.py"
    script.write_text(code)
    process = subprocess.Popen(
        [sys.executable, str(script), str(ROOT / "tests")], cwd=ROOT, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    try:
        pids = _wait_for(lambda: [int(path.stem) for path in (home / "mine").glob("*.pid")])
        process.send_signal(how)
        process.wait(60)
        _wait_for(lambda: not any(_alive(pid) for pid in pids))
    finally:
        process.kill()
        process.wait()
        for pid in (int(path.stem) for path in (home / "mine").glob("*.pid")):
            if _alive(pid):
                os.kill(pid, signal.SIGKILL)


def _wait_for(condition: Any) -> Any:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.05)
    raise AssertionError("it did not happen within a minute")


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
