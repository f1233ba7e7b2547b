from __future__ import annotations

from typing import Any

import pytest
from rich.console import Console

from app.reporting.pivot import detection, pivot, pivot_plot

RESULT: dict[str, Any] = {
    "rounds": 2,
    "adversaries": ["d"],
    "reputation": {"a": 5, "b": 5, "c": 5, "d": 0},
    "rejected": {"1": ["d"], "2": ["d", "a"]},
    "absent": {"1": {"c": "no reply"}},
}


def test_detection_counts_evaluations_and_not_absences() -> None:
    assert detection(RESULT) == (1.0, 1 / 5)
    assert detection(RESULT | {"adversaries": []}) == (None, 3 / 7)
    assert detection(RESULT | {"absent": {"1": {"d": "late"}, "2": {"d": "late"}}}) == (None, 1 / 6)


def _row(attack: str, rule: str, seed: int, accuracy: float | None) -> dict[str, Any]:
    values = {"accuracy": accuracy, "attackers_low": None if attack == "none" else 0.5, "honest_low": 0.01}
    return {"attack": attack, "strategy.aggregator": rule, "data.partition": "iid", "seed": seed} | values


def test_a_cell_is_the_mean_over_seeds_and_failed_jobs_are_left_out() -> None:
    rows = [_row("none", "median", 0, 0.9), _row("none", "median", 1, 0.8), _row("alie", "median", 0, 0.5)]
    rows += [_row("alie", "fedavg", 0, None), _row("alie", "fedavg", 1, 0.25)]
    table = pivot(rows, ["data.partition", "attack", "strategy.aggregator", "seed"])
    assert table is not None
    console = Console(width=120)
    with console.capture() as captured:
        console.print(table)
    lines = [line.split() for line in captured.get().splitlines()]
    assert lines[1] == ["data.partition", "attack", "median", "fedavg"]
    assert lines[2] == ["iid", "none", "85.0", "(-", "/", "1.0)", "-"]
    assert lines[3] == ["iid", "alie", "50.0", "(50.0", "/", "1.0)", "25.0", "(50.0", "/", "1.0)"]


@pytest.mark.parametrize("keys", [["attack"], ["strategy.aggregator", "seed"], []])
def test_other_sweeps_have_no_such_table(keys: list[str]) -> None:
    assert pivot([_row("none", "median", 0, 0.9)], keys) is None


def test_the_heat_map_is_a_picture_or_nothing() -> None:
    keys = ["data.partition", "attack", "strategy.aggregator", "seed"]
    rows = [_row("none", "median", 0, 0.9), _row("alie", "median", 0, None), _row("alie", "fedavg", 0, 0.25)]
    assert (pivot_plot(rows, keys) or b"").startswith(b"\x89PNG")
    assert pivot_plot(rows, ["attack", "seed"]) is None
    assert pivot_plot([_row("none", "median", 0, None)], keys) is None
