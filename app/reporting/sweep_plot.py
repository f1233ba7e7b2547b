"""A sweep's plot: a measurement against the key that is swept over numbers, or accuracy against the rounds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any

AVERAGED = "seed"
"""The key over which runs are averaged: it makes no line of its own."""
UNUSED = "-"
"""Stands for the value of a key that a job does not use."""
_NAMED = 12
"""How many lines a legend can name without hiding them."""

Rows = Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the plot.

    Attributes
    ----------
    label : str
        What its runs have in common.
    points : tuple of (float or None, tuple of float)
        Ascending values of the axis, each with the measurements of all seeds. None is a run that has no place on the
        axis and holds everywhere.
    """

    label: str
    points: tuple[tuple[float | None, tuple[float, ...]], ...]


def axis(rows: Rows, keys: Sequence[str]) -> str | None:
    """Return the swept key that holds numbers, the one with the most of them; None where there is none."""

    def numbers(key: str) -> set[float]:
        found = {_number(row[key]) for row in rows if row[key] != UNUSED}
        return set() if None in found else {value for value in found if value is not None}

    counted = {key: len(numbers(key)) for key in keys if key != AVERAGED}
    return max((key for key in counted if counted[key] > 1), key=lambda key: counted[key], default=None)


def lines(rows: Rows, keys: Sequence[str], across: str, measure: str = "accuracy") -> list[Line]:
    """Return a line for each combination of the keys that are not the axis; runs that failed are left out."""
    found: dict[str, dict[float | None, list[float]]] = {}
    for row in rows:
        if row[measure] is not None:
            label = _label(row, [key for key in keys if key != across])
            found.setdefault(label, {}).setdefault(_number(row[across]), []).append(float(row[measure]))
    return [_line(label, points) for label, points in found.items()]


def lines_by_round(rows: Rows, keys: Sequence[str], curves: Sequence[Sequence[float]]) -> list[Line]:
    """Return a line for each combination of the keys, over the rounds; round 0 is the public set alone."""
    found: dict[str, dict[float | None, list[float]]] = {}
    for row, curve in zip(rows, curves, strict=True):
        for number, accuracy in enumerate(curve):
            found.setdefault(_label(row, keys), {}).setdefault(float(number), []).append(accuracy)
    return [_line(label, points) for label, points in found.items()]


MEASURES = {
    "accuracy": "accuracy on the test records",
    "seconds": "seconds of the whole job",
    "gas_per_customer": "gas a customer and round",
}
"""What is drawn, and what the axis calls it."""


def plot(rows: Rows, keys: Sequence[str], curves: Sequence[Sequence[float]], measure: str = "accuracy") -> bytes | None:
    """Return the plot as a PNG file; None where no run came to an end.

    Parameters
    ----------
    rows : sequence of mapping
        The sweep's rows: for each job the swept keys, ``accuracy`` and ``public_accuracy``.
    keys : sequence of str
        The swept keys.
    curves : sequence of sequence of float
        Accuracy by round of each job, from round 0 on.
    measure : str, default "accuracy"
        What is drawn against the swept key, one of `MEASURES`.
    """
    across = axis(rows, keys)
    drawn = lines(rows, keys, across, measure) if across else lines_by_round(rows, keys, curves)
    if not drawn:
        return None
    # Without pyplot: no window system is asked for, and no global state kept.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for line in drawn:
        _draw(axes, line)
    values = [x for line in drawn for x, _ in line.points if x is not None]
    if across and min(values) > 0 and max(values) / min(values) >= 8:
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_formatter("{x:g}")
    axes.set(xlabel=across or "round", ylabel=MEASURES[measure if across else "accuracy"])
    axes.grid(alpha=0.3)
    if drawn[0].label and len(drawn) <= _NAMED:
        axes.legend()
    elif len(drawn) > _NAMED:
        axes.set_title(f"{len(drawn)} combinations: see the table", fontsize=10)
    out = BytesIO()
    figure.savefig(out, format="png", dpi=120)
    return out.getvalue()


def _draw(axes: Any, line: Line) -> None:
    placed = [(x, values) for x, values in line.points if x is not None]
    everywhere = [value for x, values in line.points if x is None for value in values]
    if everywhere:
        axes.axhline(sum(everywhere) / len(everywhere), linestyle="--", color="grey", label=line.label)
    if placed:
        x = [place for place, _ in placed]
        mean = [sum(values) / len(values) for _, values in placed]
        (shown,) = axes.plot(x, mean, marker="o", markersize=4, label=None if everywhere else line.label)
        low, high = ([pick(values) for _, values in placed] for pick in (min, max))
        axes.fill_between(x, low, high, color=shown.get_color(), alpha=0.15)


def _line(label: str, points: dict[float | None, list[float]]) -> Line:
    ordered = sorted(points, key=lambda x: (x is None, x or 0.0))
    return Line(label, tuple((x, tuple(points[x])) for x in ordered))


def _label(row: Mapping[str, Any], keys: Sequence[str]) -> str:
    used = [key for key in keys if key != AVERAGED and row[key] != UNUSED]
    return ", ".join(f"{key.rpartition('.')[2]}={row[key]}" for key in used)


def _number(value: Any) -> float | None:
    try:
        return float(value)
    except (TypeError, ValueError):
        return None
