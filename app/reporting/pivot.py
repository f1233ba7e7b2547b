"""A sweep over attacks and aggregation rules as a table: a line an attack, a column a rule."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table

ROW, COLUMN = "attack", "strategy.aggregator"
_REPEATED = "seed"
"""The key over whose values a cell is the mean."""


def detection(result: Mapping[str, Any]) -> tuple[float | None, float | None]:
    """Return which share of the evaluations of attackers, and of honest customers, were L.

    Parameters
    ----------
    result : mapping
        The contents of ``result.json``. Who sent nothing in a round was not evaluated in it.

    Returns
    -------
    attackers, honest : float or None
        None where nobody of them was evaluated.
    """
    hostile, low, judged = set(result.get("adversaries", ())), [0, 0], [0, 0]
    for number in map(str, range(1, result.get("rounds", 0) + 1)):
        rejected, absent = result.get("rejected", {}).get(number, ()), result.get("absent", {}).get(number, {})
        for customer in result.get("reputation", {}):
            if customer not in absent:
                low[customer in hostile] += customer in rejected
                judged[customer in hostile] += 1
    honest, attackers = (part / whole if whole else None for part, whole in zip(low, judged, strict=True))
    return attackers, honest


def pivot(rows: Sequence[Mapping[str, Any]], keys: Sequence[str]) -> Table | None:
    """Return accuracy by attack and rule, with who was judged L; None unless a sweep went over both.

    Parameters
    ----------
    rows : sequence of mapping
        The sweep's rows: the swept keys' values, ``accuracy``, ``attackers_low`` and ``honest_low``.
    keys : sequence of str
        The swept keys. Lines are made of all but rule and seed; a cell is the mean over seeds.
    """
    if not {ROW, COLUMN} <= set(keys):
        return None
    others = [key for key in keys if key not in (ROW, COLUMN, _REPEATED)]
    rules = list(dict.fromkeys(str(row[COLUMN]) for row in rows))
    cells: dict[tuple[str, ...], dict[str, list[Mapping[str, Any]]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        cells[(*(str(row[key]) for key in others), str(row[ROW]))][str(row[COLUMN])].append(row)
    title = "accuracy % (L %: attackers / honest)"
    grid = Table(title=title, title_justify="left", box=None, padding=(0, 2, 0, 0), header_style="bold")
    for name in (*others, ROW):
        grid.add_column(name, no_wrap=True)
    for rule in rules:
        grid.add_column(rule, justify="right", no_wrap=True)
    for line, by_rule in cells.items():
        grid.add_row(*line, *(_cell(by_rule.get(rule, ())) for rule in rules))
    return grid


def _cell(rows: Sequence[Mapping[str, Any]]) -> str:
    accuracy, attackers, honest = (_mean(rows, name) for name in ("accuracy", "attackers_low", "honest_low"))
    return "-" if accuracy == "-" else f"{accuracy} ({attackers} / {honest})"


def _mean(rows: Sequence[Mapping[str, Any]], name: str) -> str:
    values = [row[name] for row in rows if row[name] is not None]
    return f"{100 * sum(values) / len(values):.1f}" if values else "-"
