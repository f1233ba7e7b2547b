"""The final tables: what a stranger must find in them, at any width, with and without a terminal."""

from __future__ import annotations

import io
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from app.reporting.summary import print_summary, sparkline


def a_result(customers: int = 10, rounds: int = 12, attackers: int = 1) -> dict[str, Any]:
    numbers = random.Random(customers)
    everyone = [f"0x{numbers.getrandbits(160):040x}" for _ in range(customers)]
    hostile = everyone[customers - attackers :]
    accuracies = [0.412 + 0.35 * (1 - 0.7**number) for number in range(rounds + 1)]
    return {
        "name": "plaid-record-s0",
        "place": "/home/someone/hearth/runs/plaid-record-s0-20260101-120000",
        "seed": 0,
        "accuracy": accuracies[-1],
        "accuracy_by_round": accuracies,
        "rounds": rounds,
        "customers": customers,
        "data": {"name": "plaid", "kind": "signal", "classes": 11, "train": 537, "public": 33, "test": 537},
        "model": {"name": "signal", "split": "bottleneck", "head": "prototype", "parameters": 363},
        "model_digest": "0x" + "ab" * 32,
        "contract": "0x" + "cd" * 20,
        "chain_id": 2020,
        "head": {"number": 26, "hash": "0x" + "12" * 32},
        "privacy": {
            "mechanism": "gaussian",
            "unit": "record",
            "epsilon": 8.0,
            "delta": 1e-5,
            "releases": 1,
            "randomness": "seeded-insecure",
            "labels": "leave the phone in the clear",
            "neighbouring": "one record is replaced",
            "not_covered": ["labels", "the number of records"],
        },
        "gas": {"seal": 91234, "finalise": 154321, "per_customer": 24555, "deploy": 3123456, "total": 6123456},
        "rewards": {address: 0 if address in hostile else 87_500_000_000_000_000 for address in everyone},
        "reputation": {address: 0 if address in hostile else 10 for address in everyone},
        "reputation_by_round": {
            address: [max(0, 5 - number) if address in hostile else min(10, 5 + number) for number in range(rounds)]
            for address in everyone
        },
        "aggregated": {address: 0 if address in hostile else rounds for address in everyone},
        "adversaries": hostile,
        "rejected": {str(number + 1): hostile for number in range(rounds)},
        "seconds": {"prepare": 4.1, "train": 12.3, "mine": 4.5, "chain": 6.7, "store": 0.8, "total": 30.2},
    }


def printed(result: dict[str, Any], width: int, terminal: bool = False) -> str:
    file = io.StringIO()
    color = "truecolor" if terminal else None
    console = Console(file=file, width=width, force_terminal=terminal, color_system=color)  # type: ignore[arg-type]
    print_summary(result, console)
    return file.getvalue()


def words(text: str) -> str:
    return " ".join(text.split())


@pytest.mark.parametrize("width", [80, 100, 200])
@pytest.mark.parametrize(("customers", "rounds", "attackers"), [(10, 12, 1), (30, 200, 8), (3, 1, 0), (5, 3, 5)])
def test_it_fits_and_says_what_was_promised(width: int, customers: int, rounds: int, attackers: int) -> None:
    result = a_result(customers, rounds, attackers)
    text = printed(result, width)
    assert max(map(len, text.splitlines())) <= min(width, 100)
    assert "\x1b" not in text
    for phrase in (
        f"public set alone 41.2% -> with the customers' data {result['accuracy']:.1%}",
        "epsilon 8, delta 1e-05",
        "1 release",
        "INSECURE",
        "a round 245,555 (seal 91,234, finalise 154,321)",
        "a customer and round 24,555",
        "30.2 s",
        "on chain 2020",
        "not covered: labels; the number of records",
    ):
        assert phrase in words(text), phrase
    for whole in (result["model_digest"], result["head"]["hash"], result["contract"], result["place"]):
        assert any(whole in line for line in text.splitlines()), "what is to be copied is on one line"


def test_attackers_stand_apart_from_the_honest() -> None:
    result = a_result()
    lines = printed(result, 100).splitlines()
    (honest,) = [line.split() for line in lines if "9 honest" in line]
    (attacker,) = [line.split() for line in lines if f"attacker {result['adversaries'][0][:10]}" in line]
    assert honest[-7:] == ["10", "5", "12", "of", "12", "0", "0.0875"]
    assert attacker[-7:] == ["0", "0", "0", "of", "12", "12", "0.0000"]
    assert "8 attackers" in printed(a_result(30, 12, 8), 100)


def test_a_run_without_privacy_says_so() -> None:
    result = a_result()
    result["privacy"] |= {"mechanism": "none", "epsilon": None, "randomness": ""}
    assert "features left the phones in the clear" in words(printed(result, 100))


def test_the_operating_systems_noise_is_not_called_insecure() -> None:
    result = a_result()
    result["privacy"]["randomness"] = "system"
    assert "INSECURE" not in printed(result, 100)


def test_colours_are_for_terminals() -> None:
    assert "\x1b" in printed(a_result(), 100, terminal=True)


def test_the_last_round_is_always_shown() -> None:
    result = a_result(10, 157, 1)
    result["accuracy_by_round"][-1] = 0.999
    assert "99.9" in printed(result, 100).partition("each 8 rounds")[2].partition("reputation")[0]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=50))
def test_a_sparkline_keeps_the_order(values: list[float]) -> None:
    line = sparkline(values)
    assert len(line) == len(values)
    for left, lower in zip(line, values, strict=True):
        for right, higher in zip(line, values, strict=True):
            assert left <= right or lower > higher
