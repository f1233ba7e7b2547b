"""A search: jobs whose values follow from what earlier jobs came to."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from app.__main__ import main
from app.overrides import axes_of
from app.protocol.errors import ConfigError, RoundError
from app.search import search
from app.settings import KEYS, Config

SEARCHED = (
    "data=digits",
    "attack.scale=interval(0.5,8)",
    "strategy.gamma_initial=range(1,6)",
    "model.head=mlp,prototype",
)


def valley(config: Config, folder: Path, name: str) -> dict[str, Any]:
    """A job that is over at once: best at scale 2 and gamma 3, and impossible with one head beyond scale 6."""
    scale, gamma = config.attack.scale, config.strategy.gamma_initial
    if config.model.head == "mlp" and scale > 6:
        raise RoundError("too much")
    (folder / name).mkdir(exist_ok=True)
    worth = 1.0 - abs(scale - 2) / 10 - abs(gamma - 3) / 10
    return {"accuracy": worth, "accuracy_by_round": [0.1, worth], "seconds": {"total": 0.0}}


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEARTH_RUNS", str(tmp_path))


def quiet() -> Console:
    return Console(file=open(os.devnull, "w"))


def rows(tmp_path: Path) -> list[dict[str, Any]]:
    return list(json.loads((tmp_path / "s" / "sweep.json").read_text()))


def test_later_jobs_are_better_than_chance(tmp_path: Path) -> None:
    search([*SEARCHED, "name=s"], 40, valley, quiet())
    found = [row["accuracy"] for row in rows(tmp_path) if row["accuracy"] is not None]
    first, last = found[:12], found[-12:]
    assert sum(last) / len(last) > sum(first) / len(first)
    assert max(found) > 0.95
    for row in rows(tmp_path):
        assert 0.5 <= float(row["attack.scale"]) <= 8
        assert row["strategy.gamma_initial"] in {"1", "2", "3", "4", "5"}
        assert row["model.head"] in {"mlp", "prototype"}


def test_a_search_that_was_stopped_goes_on_with_what_it_has_learnt(tmp_path: Path) -> None:
    search([*SEARCHED, "name=s"], 6, valley, quiet())
    before = rows(tmp_path)
    with pytest.raises(ConfigError, match="exists"):
        search([*SEARCHED, "name=s"], 6, valley, quiet())
    search([*SEARCHED, "name=s"], 10, valley, quiet(), resume=True)
    after = rows(tmp_path)
    assert len(after) == 10
    assert all(row in after for row in before)
    with pytest.raises(ConfigError, match="no such search"):
        search([*SEARCHED, "name=other"], 10, valley, quiet(), resume=True)


@pytest.mark.parametrize(
    ("overrides", "problem"),
    [
        (["data=digits"], "nothing is searched"),
        (["attack.scale=interval(3,1)"], "is no interval"),
        (["attack.scale=tag(log,interval(0,1))"], "is no interval"),
        (["attack.scal=interval(0,1)"], "unknown key"),
        (["attack.scale=1,2", "attack.scale=3"], "is given twice"),
        (["strategy.gamma_initial=range(300,310)"], "out of range"),
    ],
)
def test_mistakes_are_told_before_anything_starts(tmp_path: Path, overrides: list[str], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        search(overrides, 3, valley, quiet())
    assert list(tmp_path.iterdir()) == []


def test_axes() -> None:
    fixed, axes = axes_of(
        ["seed=3", "attack.scale=tag(log,interval(1,9))", "rounds=range(2,5)", "data=plaid,digits"], KEYS
    )
    assert fixed == ["seed=3"]
    assert axes == {"attack.scale": (1.0, 9.0, True), "rounds": ["2", "3", "4"], "data": ["plaid", "digits"]}


def test_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    task = ["data=digits", "customers=5", "rounds=1", "attack=none", "privacy=none"]
    assert main(["-m", "--optuna", "2", *task, "train.learning_rate=tag(log,interval(0.01,0.2))", "name=s"]) == 0
    assert len(rows(tmp_path)) == 2
    assert "optuna.sqlite" in capsys.readouterr().out
    assert main(["--optuna", "2", *task]) == 2
    assert main(["-m", "--optuna", "0", *task, "seed=1,2"]) == 2
