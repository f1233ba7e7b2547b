"""The same task in Flower's own runtimes gives the same model."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.ports import free_ports

pytestmark = pytest.mark.flower

ROOT = Path(__file__).resolve().parent.parent
TASK = ["data=digits", "customers=5", "rounds=2"]


def results(runs: Path) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in sorted(runs.glob("*/result.json"))]


def run(command: list[str], env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=500, check=False)


@pytest.fixture
def flower_env(tmp_path: Path) -> Iterator[dict[str, str]]:
    """An environment in which ``flwr run`` starts a SuperLink of its own; the processes end with the test."""
    http, control = free_ports(2)
    home = tmp_path / "flower"
    bin_directory = str(Path(sys.executable).parent)
    yield os.environ | {
        "PATH": bin_directory + os.pathsep + os.environ["PATH"],
        "FLWR_HOME": str(home),
        "FLWR_LOCAL_SUPERLINK_HTTP_API_PORT": str(http),
        "FLWR_LOCAL_CONTROL_API_PORT": str(control),
        "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "FLWR_TELEMETRY_ENABLED": "0",
        "HEARTH_RUNS": str(tmp_path / "runs"),
    }
    for pid in processes_of(home):
        os.kill(pid, signal.SIGTERM)


def processes_of(home: Path) -> list[int]:
    """Return the processes that were started with this FLWR_HOME: Flower has no command that stops its daemon."""
    wanted = f"FLWR_HOME={home}".encode()
    found = []
    for entry in Path("/proc").glob("[0-9]*/environ"):
        try:
            if wanted in entry.read_bytes().split(b"\0"):
                found.append(int(entry.parent.name))
        except OSError:  # it has ended, or is somebody else's
            continue
    return found


def test_ray_and_the_in_process_grid_give_the_same_model(tmp_path: Path) -> None:
    for engine in ("local", "ray"):
        env = os.environ | {"HEARTH_RUNS": str(tmp_path / "runs")}
        done = run([sys.executable, "-m", "app", *TASK, f"engine={engine}", f"name={engine}"], env)
        assert done.returncode == 0, done.stdout + done.stderr

    local, ray = results(tmp_path / "runs")
    assert (local["engine"], ray["engine"]) == ("local", "ray")
    assert local["model_digest"] == ray["model_digest"]
    assert local["accuracy_by_round"] == ray["accuracy_by_round"]
    assert local["reputation_by_round"] == ray["reputation_by_round"]


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="stops Flower's daemon through /proc")
def test_flwr_run_gives_the_same_model_from_a_checkout_elsewhere(tmp_path: Path, flower_env: dict[str, str]) -> None:
    done = run([sys.executable, "-m", "app", *TASK, "name=local"], flower_env)
    assert done.returncode == 0, done.stdout + done.stderr

    # Two nodes play the five customers: what `flwr run .` gives without any further option.
    config = 'data="digits" customers=5 overrides="rounds=2 name=flower"'
    done = run(
        [shutil.which("flwr", path=flower_env["PATH"]) or "flwr", "run", ".", "--stream", "-c", config], flower_env
    )

    runs = Path(flower_env["HEARTH_RUNS"])
    assert (runs / "flower" / "result.json").exists(), done.stdout + done.stderr
    flower, local = results(runs)
    assert (flower["engine"], local["engine"]) == ("flower", "local")
    assert flower["model_digest"] == local["model_digest"]
    assert str(runs / "flower") in done.stdout
