"""What everything costs is written down; a change has to be deliberate, and the limits hold."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))

import gas

WRITTEN = json.loads(gas.SNAPSHOT.read_text())


@pytest.fixture(scope="module")
def found() -> dict[str, dict[str, int]]:
    return gas.snapshot()


def test_it_is_as_it_is_written(found: dict[str, dict[str, int]]) -> None:
    """Changed on purpose? `python tests/benchmarks/gas.py --write`, and say why in the commit."""
    assert found == {size: cost for size, cost in WRITTEN.items() if size != gas.DEPOSITS}


@pytest.mark.long
@pytest.mark.timeout(2400)  # a thousand members deposit, in a transaction each
def test_deposits_of_a_thousand_customers() -> None:
    found = gas.with_deposits()
    assert found == WRITTEN[gas.DEPOSITS]
    assert found["seal"] <= 75_000
    assert found["round 3, per customer"] <= 850


def test_the_thousand_deposits_are_within_the_limits_as_written() -> None:
    """The default suite does not measure them again: this and the long test above hold each other."""
    assert WRITTEN[gas.DEPOSITS]["seal"] <= 75_000
    assert WRITTEN[gas.DEPOSITS]["round 3, per customer"] <= 850


@pytest.mark.parametrize(
    ("size", "limit"),
    [("10 customers, 4 miners", 27_000), ("100 customers, 10 miners", 3_300), ("1000 customers, 10 miners", 850)],
)
def test_limits(found: dict[str, dict[str, int]], size: str, limit: int) -> None:
    """A paid task's round, in every round alike."""
    cost = found[size]
    assert cost["seal"] <= 75_000
    assert cost["round 3, per customer"] <= limit
    assert cost["seal"] + cost["finalise, round 1"] <= limit * int(size.split()[0])


def test_a_committee_of_four(found: dict[str, dict[str, int]]) -> None:
    assert found["10 customers, 4 miners"]["finalise, round 3"] <= 200_000
