"""The entries: every error that a user can cause ends in one line and an exit code, and starts nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from app import launch as launch_module
from app.__main__ import main
from app.cli import main as hearth
from app.config import compose
from app.overrides import groups
from app.protocol.errors import DataError, RoundError

ROOT = Path(__file__).parent.parent


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HEARTH_RUNS", str(tmp_path / "runs"))
    return tmp_path / "runs"


def run(*arguments: str, module: str = "app", **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["rounds=0"], ["rounds", "1..10000"]),
        (["-m", "customers=10,4"], ["strategy.f", "0..0"]),
        (["--nosuch"], ["--nosuch", "--cfg"]),
        (["data=folder", "data.path=/nowhere/at/all"], ["data.path", "/nowhere/at/all"]),
    ],
)
def test_bad_input_is_one_line_and_starts_nothing(home: Path, arguments: list[str], words: list[str]) -> None:
    ended = run(*arguments)
    assert ended.returncode == 2
    assert ended.stdout == ""
    assert ended.stderr.startswith("error: ")
    assert ended.stderr.count("\n") == 1
    assert all(word in ended.stderr for word in words)
    assert not home.exists()


@pytest.mark.parametrize(
    "arguments",
    [["roudns=3"], ["data=nosuch"], ["-m", "seed=0,x"], ["strategy.f=9"], ["model.hidden=[1"], ["-m", "seeds=0,1"]],
)
def test_bad_input_in_this_process(home: Path, capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert "allowed" in err
    assert not home.exists()


def test_verbose_adds_the_traceback(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["-v", "rounds=0"]) == 2
    err = capsys.readouterr().err
    assert "Traceback" in err
    assert err.splitlines()[-1].startswith("error: rounds")


def test_a_taken_name_is_refused(home: Path) -> None:
    (home / "mine").mkdir(parents=True)
    (home / "mine" / "precious").touch()
    ended = run("-m", "seed=0,1", "name=mine")
    assert ended.returncode == 2
    assert "never overwritten" in ended.stderr
    assert [path.name for path in (home / "mine").iterdir()] == ["precious"]


@pytest.mark.parametrize(
    ("failure", "code", "line"),
    [
        (RoundError("no quorum\nof miners"), 1, "error: no quorum of miners"),
        (DataError("no records"), 2, "error: no records"),
        (ZeroDivisionError("oh"), 1, "error: ZeroDivisionError: oh (this is a defect in Hearth; -v shows where)"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_a_run_that_fails_says_what_and_where(
    home: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    failure: BaseException,
    code: int,
    line: str,
) -> None:
    def fail(*arguments: Any, **options: Any) -> dict[str, Any]:
        failure.add_note("what the run wrote until then: /runs/x")
        raise failure

    monkeypatch.setattr(launch_module, "launch", fail)
    assert main([]) == code
    assert capsys.readouterr().err.splitlines() == [line, "what the run wrote until then: /runs/x"]


def test_a_run_that_cannot_go_on_leaves_what_it_wrote(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.csv").write_text("a,b,label\n" + "".join(f"{i},{i % 7},{i % 2}\n" for i in range(200)))
    data = ["data=folder", f"data.path={tmp_path}", "rounds=1"]
    unreachable = [*data, "chain=rpc", "chain.url=http://127.0.0.1:1", "name=broken"]
    assert main(unreachable) == 1
    error, *notes = capsys.readouterr().err.splitlines()
    assert error.startswith("error: ")
    assert "127.0.0.1:1" in error
    assert len(notes) == 2
    assert all(note.endswith(str(home / "broken")) for note in notes)
    assert "name: rpc" in (home / "broken" / "config.yaml").read_text()
    assert "Traceback" in (home / "broken" / "run.log").read_text()
    assert not (home / "broken" / "result.json").exists()
    assert main(unreachable) == 2
    assert "never overwritten" in capsys.readouterr().err


def test_help_is_read_from_conf_and_quick(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"], "hearth run") == 0
    out = capsys.readouterr().out
    assert out.startswith("usage: hearth run ")
    for group, choices in groups().items():
        assert f"  {group} " in out
        assert all(f" {choice} " in out for choice in choices)
    assert "* plaid" in out
    assert "rounds" in out
    loaded = "import app.__main__, sys; app.__main__.main(['-h']); print({'torch', 'flwr', 'hydra'} & set(sys.modules))"
    ended = subprocess.run([sys.executable, "-c", loaded], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert ended.stdout.splitlines()[-1] == "set()"


def test_cfg_prints_what_would_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--cfg", "rounds=3", "privacy.epsilon=4"]) == 0
    out = capsys.readouterr().out
    assert "rounds: 3\n" in out
    assert "  budget: 4" in out


def test_cfg_of_a_sweep_prints_every_job(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["-m", "--cfg", "seed=3,4"]) == 0
    first, second = yaml.safe_load_all(capsys.readouterr().out)
    assert (first["seed"], second["seed"]) == (3, 4)
    assert not home.exists()


def test_more_attackers_than_are_withstood_are_said_at_the_start(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: Any, **options: Any) -> dict[str, Any]:
        raise RoundError("enough")

    monkeypatch.setattr(launch_module, "launch", fail)
    assert main(["attack.count=2"]) == 1
    warning, error = capsys.readouterr().err.splitlines()
    assert warning.startswith("warning: attack.count=2")
    assert error == "error: enough"


def test_sigterm_ends_a_run_as_an_interrupt_does(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = []

    def run_until_killed(*arguments: Any, **options: Any) -> dict[str, Any]:
        try:
            signal.raise_signal(signal.SIGTERM)
        finally:
            closed.append("chain")
        return {}

    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(launch_module, "launch", run_until_killed)
    assert main([]) == 143
    assert closed == ["chain"]
    assert capsys.readouterr().err == "terminated\n"
    assert signal.getsignal(signal.SIGTERM) is before


RESULT = {"customers": 1, "rounds": 1, "seed": 0}
DAMAGED = [
    json.dumps(RESULT | {"accuracy_by_round": []}),
    json.dumps(RESULT | {"accuracy_by_round": ["x"]}),
    "[" * 100_000,
]


class TestHearth:
    """The hearth command."""

    def test_run_is_python_m_app(self, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert hearth(["run", "rounds=0"]) == 2
        assert capsys.readouterr().err.startswith("error: rounds")
        assert hearth(["run", "--cfg"]) == 0
        assert f"seed: {compose().seed}" in capsys.readouterr().out

    def test_help_and_version(self, capsys: pytest.CaptureFixture[str]) -> None:
        for arguments in ([], ["--help"], ["-h"]):
            assert hearth(arguments) == 0
            assert capsys.readouterr().out.startswith("usage: hearth")
        assert hearth(["--version"]) == 0
        assert capsys.readouterr().out.startswith("hearth 0.")

    @pytest.mark.parametrize("arguments", [["nosuch"], ["show"], ["show", "/a", "/b"], ["show", "/nowhere/at/all"]])
    def test_bad_input(self, capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
        assert hearth(arguments) == 2
        err = capsys.readouterr().err
        assert err.startswith("error: ")
        assert err.count("\n") == 1

    @pytest.mark.parametrize(
        "content", ["{", "{}", "[]", json.dumps({"customers": 1, "rounds": 1, "seed": 0}), *DAMAGED]
    )
    def test_show_refuses_what_is_no_result(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str
    ) -> None:
        (tmp_path / "result.json").write_text(content)
        assert hearth(["show", str(tmp_path)]) == 2
        assert capsys.readouterr().err.count("\n") == 1
