"""A sweep over attacks and aggregation rules as a table: a line an attack, a column a rule."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from io import BytesIO
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


Cells = dict[tuple[str, ...], dict[str, list[Mapping[str, Any]]]]
"""Rows of a sweep by the values of all swept keys but rule and seed (the attack last), then by rule."""


def cells(rows: Sequence[Mapping[str, Any]], keys: Sequence[str]) -> tuple[list[str], Cells] | None:
    """Return the keys that lines are made of beside the attack, and the cells; None unless a sweep went over both."""
    if not {ROW, COLUMN} <= set(keys):
        return None
    others = [key for key in keys if key not in (ROW, COLUMN, _REPEATED)]
    found: Cells = defaultdict(lambda: defaultdict(list))
    for row in rows:
        found[(*(str(row[key]) for key in others), str(row[ROW]))][str(row[COLUMN])].append(row)
    return others, found


def pivot(rows: Sequence[Mapping[str, Any]], keys: Sequence[str]) -> Table | None:
    """Return accuracy by attack and rule, with who was judged L; None unless a sweep went over both.

    Parameters
    ----------
    rows : sequence of mapping
        The sweep's rows: the swept keys' values, ``accuracy``, ``attackers_low`` and ``honest_low``.
    keys : sequence of str
        The swept keys. Lines are made of all but rule and seed; a cell is the mean over seeds.
    """
    if (found := cells(rows, keys)) is None:
        return None
    others, by_line = found
    title = "accuracy % (L %: attackers / honest)"
    grid = Table(title=title, title_justify="left", box=None, padding=(0, 2, 0, 0), header_style="bold")
    for name in (*others, ROW):
        grid.add_column(name, no_wrap=True)
    rules = list(dict.fromkeys(str(row[COLUMN]) for row in rows))
    for rule in rules:
        grid.add_column(rule, justify="right", no_wrap=True)
    for line, by_rule in by_line.items():
        grid.add_row(*line, *(_cell(by_rule.get(rule, ())) for rule in rules))
    return grid


def pivot_plot(rows: Sequence[Mapping[str, Any]], keys: Sequence[str]) -> bytes | None:
    """Return the same table's accuracies as a heat map in a PNG file, a panel for each value of the other keys.

    None where `pivot` is None, or no run came to an end.
    """
    if (found := cells(rows, keys)) is None or all(row["accuracy"] is None for row in rows):
        return None
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    others, by_line = found
    panels = list(dict.fromkeys(line[:-1] for line in by_line))
    rules = list(dict.fromkeys(str(row[COLUMN]) for row in rows))
    values = [100 * row["accuracy"] for row in rows if row["accuracy"] is not None]
    most = max(sum(line[:-1] == panel for line in by_line) for panel in panels)
    size = (1.6 + len(panels) * (0.6 + 0.85 * len(rules)), 1.2 + 0.32 * most)
    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    for axes, panel in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        attacks = [line[-1] for line in by_line if line[:-1] == panel]
        grid = [[_accuracy(by_line[(*panel, attack)].get(rule, ())) for rule in rules] for attack in attacks]
        axes.imshow(grid, aspect="auto", cmap="RdYlGn", vmin=min(values), vmax=max(values), alpha=0.75)
        axes.set_xticks(range(len(rules)), rules, rotation=30, ha="right")
        axes.set_yticks(range(len(attacks)), attacks)
        axes.set_title(", ".join(f"{key}={value}" for key, value in zip(others, panel, strict=True)), fontsize=10)
        for y, line in enumerate(grid):
            for x, value in enumerate(line):
                axes.text(x, y, "-" if math.isnan(value) else f"{value:.1f}", ha="center", va="center", fontsize=8)
    figure.suptitle("accuracy, %", fontsize=10)
    out = BytesIO()
    figure.savefig(out, format="png", dpi=120)
    return out.getvalue()


def _accuracy(rows: Sequence[Mapping[str, Any]]) -> float:
    """Return the mean accuracy over seeds in percent; NaN where no run came to an end."""
    values = [100 * row["accuracy"] for row in rows if row["accuracy"] is not None]
    return sum(values) / len(values) if values else math.nan


def _cell(rows: Sequence[Mapping[str, Any]]) -> str:
    accuracy, attackers, honest = (_mean(rows, name) for name in ("accuracy", "attackers_low", "honest_low"))
    return "-" if accuracy == "-" else f"{accuracy} ({attackers} / {honest})"


def _mean(rows: Sequence[Mapping[str, Any]], name: str) -> str:
    values = [row[name] for row in rows if row[name] is not None]
    return f"{100 * sum(values) / len(values):.1f}" if values else "-"
