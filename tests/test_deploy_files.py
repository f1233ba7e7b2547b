"""What an operator copies from deploy/ is what the programs read."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from app.cli import COMMANDS
from app.config import from_run_config
from app.customer.mec_config import MecConfig
from app.customer.site import Site
from app.members import read_members
from app.mining.config import MinerConfig
from app.service.config import compose_service

DEPLOY = Path(__file__).resolve().parent.parent / "deploy"
UNITS = sorted((DEPLOY / "systemd").glob("*.service"))


def test_the_examples_are_configurations() -> None:
    miner = compose_service("miner", MinerConfig, [], DEPLOY / "conf" / "miner.yaml")
    assert (miner.listen.address, miner.log, miner.chain.chain.depth) == ("0.0.0.0:7700", "json", 2)
    mec = compose_service("mec", MecConfig, [], DEPLOY / "conf" / "mec.yaml")
    assert mec.names == ("mec.example.org:7800",)
    overrides = tomllib.loads((DEPLOY / "conf" / "task.toml").read_text())
    task = from_run_config(overrides)
    assert (task.members.name, task.customers, task.miners.count) == ("file", 5, 4)


def test_an_example_says_nothing_that_a_default_says_too() -> None:
    """Every key of the examples exists, and the environment file holds no secret."""
    env = (DEPLOY / "conf" / "hearth.env").read_text()
    assert re.search(r"^HEARTH_PASSWORD=", env, re.MULTILINE) is None
    assert "FLWR_TELEMETRY_ENABLED=0" in env


def commands() -> list[tuple[str, list[str]]]:
    found = []
    for unit in UNITS:
        text = unit.read_text().replace("\\\n", " ")
        found.append((unit.name, shlex.split(re.search(r"^ExecStart=(.*)$", text, re.MULTILINE)[1])))  # type: ignore[index]
    for name, service in yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"].items():
        if service.get("image") == "hearth":
            given = service["command"]
            line = given[2].removeprefix("exec ").replace("$$INDEX", "3") if isinstance(given, list) else given
            found.append((name, shlex.split(line)))
    return found


@pytest.mark.parametrize(("name", "command"), commands(), ids=[name for name, _ in commands()])
def test_every_command_is_one_that_we_take(name: str, command: list[str]) -> None:
    program, *arguments = [Path(command[0]).name, *command[1:]]
    if program == "hearth":
        assert arguments[0] in COMMANDS
        kind, schema = {"miner": ("miner", MinerConfig), "mec": ("mec", MecConfig)}[arguments[0]]
        overrides = [text.replace("$$NAME", "miner-1") for text in arguments[2:] if "=" in text]
        compose_service(kind, schema, overrides if overrides else [], DEPLOY / "conf" / f"{kind}.yaml")
        return
    assert program in ("flower-superlink", "flower-supernode")
    if program == "flower-supernode":
        given = dict(part.split("=", 1) for part in shlex.split(arguments[arguments.index("--node-config") + 1]))
        values = {key: int(value) if value.isdecimal() else value for key, value in given.items()}
        site = Site.of(values)
        assert site.rehearse is not None
        assert site.mec is not None
    else:
        assert "--enable-supernode-auth" in arguments


def test_a_rehearsals_keys_certificates_and_cards_are_made_at_once(tmp_path: Path) -> None:
    env = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    folder = tmp_path / "party"
    command = [DEPLOY / "prepare", folder, "2", "1"]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    members = read_members(str(folder / "members.jsonl"))
    assert ([card.service for card in members.miners], len(members.customers)) == (["miner-0:7700"], 2)
    alloc = json.loads((folder / "genesis.json").read_text())["alloc"]
    assert members.miners[0].member in alloc
    assert len(alloc) == 2
    assert not [
        path for path in folder.rglob("*") if path.is_file() and path.suffix != ".crt" and path.stat().st_mode & 0o077
    ]
    again = subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=60)
    assert again.returncode == 2
    assert "not overwritten" in again.stderr


def test_units_run_as_nobody_special_and_keep_state() -> None:
    assert len(UNITS) == 4
    for unit in UNITS:
        text = unit.read_text()
        assert "User=hearth" in text
        assert "NoNewPrivileges=yes" in text
        assert "StateDirectory=" in text
