"""What an operator sees first: a task's members, and what is wrong with them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from app.__main__ import main as run
from app.cli import main
from app.reporting.status import CustomerStatus, MinerStatus, Status, describe
from app.service.health import AWAY, UP, health_of
from app.service.listen import ListenConfig
from app.service.metrics import Metrics
from app.service.server import Server

MINERS = tuple(MinerStatus(f"0x{index:040x}", UP, 5, 5) for index in range(4))
CUSTOMER = CustomerStatus("0xc0", 7, 5, 4, 5, 2.5, 8.0)
WELL = Status("0x70", "node", "round 6 of 9: sealed", 6, 1000, 900, MINERS, (CUSTOMER,), 3, ended=False)


def unwell(*changes: dict[str, object]) -> tuple[MinerStatus, ...]:
    """Return the miners, the first ones changed."""
    changed = [replace(miner, **change) for miner, change in zip(MINERS, changes, strict=False)]  # type: ignore[arg-type]
    return (*changed, *MINERS[len(changes) :])


@pytest.mark.parametrize(
    ("status", "worries"),
    [
        (WELL, []),
        (replace(WELL, miners=unwell({"service": AWAY})), ["is away"]),
        (replace(WELL, miners=unwell({"signed": 4})), ["signed 4 of the last 5 rounds"]),
        (replace(WELL, miners=unwell({"service": AWAY}, {"service": AWAY})), ["is away", "is away", "no round can be"]),
        (replace(WELL, now=1001), ["the deadline has passed"]),
        (replace(WELL, miners=unwell({"service": AWAY}), ended=True), []),
        (replace(WELL, miners=unwell({"service": None})), []),
    ],
)
def test_what_is_wrong_is_said(status: Status, worries: list[str]) -> None:
    assert len(status.worries) == len(worries)
    for said, expected in zip(status.worries, worries, strict=True):
        assert expected in said
    text = describe(status)
    assert ("nothing is wrong" in text) is not bool(worries)
    assert "epsilon 2.5 of 8" in text
    assert "took part in 5 of the last 5 rounds, H in 4" in text


def test_a_run_directory_is_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setenv("HEARTH_RUNS", str(tmp_path))
    assert run(["data=digits", "customers=5", "rounds=2", "name=r"]) == 0
    capsys.readouterr()
    assert main(["status", str(tmp_path / "r")]) == 0
    text = capsys.readouterr().out
    assert "completed, 2 of 2 rounds finalised" in text
    assert text.count("signed 2 of the last 2 rounds") == 4
    assert text.count("epsilon 8 of 8") == 5
    assert main(["status", str(tmp_path / "r"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["customers"][0]["spent"] == 8.0
    assert main(["status"]) == 0
    assert "Exit code 0" in capsys.readouterr().out
    assert main(["status", str(tmp_path / "none")]) == 2


def test_a_service_is_up_or_away() -> None:
    server = Server("hearth.Test", {}, ListenConfig("127.0.0.1:0", None, None, 2**16, 100, 2, None), Metrics("test"))
    server.start()
    assert health_of(server.address, None, key="x") == UP
    server.serving(False)
    assert "cannot" in health_of(server.address, None, key="x")
    server.stop(0)
    assert health_of(server.address, None, key="x", timeout=1.0) == AWAY
