"""Runs side by side: in which keys they differ, and in what they came to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from app.reporting.run_view import RunView, flat

_OWN = ("name", "data.path", "engine.workers")
"""Keys that name a run, or its machine, and say nothing about it."""


def differing_keys(runs: Sequence[RunView]) -> dict[str, list[Any]]:
    """Return the configuration keys that differ between runs, with each one's value; None where it has none."""
    configs = [flat(run.config) for run in runs]
    keys = dict.fromkeys(key for config in configs for key in config if key not in _OWN)
    values = {key: [config.get(key) for config in configs] for key in keys}
    return {key: found for key, found in values.items() if any(value != found[0] for value in found)}


def measures(run: RunView) -> dict[str, float | int | str | None]:
    """Return what a run came to, by name; None where it is not known, or not yet."""
    result = run.result or {}
    evaluated = sum(view.updates for view in run.rounds)
    return {
        "rounds": len(run.rounds),
        "accuracy": run.accuracy,
        "public set alone": run.before,
        "loss": run.rounds[-1].loss if run.rounds else None,
        "epsilon": _of(result, "privacy", "epsilon"),
        "judged L": sum(len(view.rejected) for view in run.rounds) / evaluated if evaluated else None,
        "gas": sum(view.gas for view in run.rounds),
        "gas a customer and round": _of(result, "gas", "per_customer"),
        "seconds": _of(result, "seconds", "total"),
        "model": run.rounds[-1].digests["model"][0] if run.rounds else None,
    }


SHOWN: dict[str, Callable[[Any], str]] = {
    "accuracy": "{:.1%}".format,
    "public set alone": "{:.1%}".format,
    "loss": "{:.4f}".format,
    "epsilon": "{:g}".format,
    "judged L": "{:.1%}".format,
    "gas": "{:,}".format,
    "gas a customer and round": "{:,.0f}".format,
    "seconds": "{:.1f}".format,
    "model": lambda digest: f"{digest:.10}",
}
"""How people read what is not shown as it is."""


def shown(name: str, value: Any) -> str:
    """Return a measure as text."""
    return "-" if value is None else SHOWN.get(name, str)(value)


def _of(result: dict[str, Any], section: str, name: str) -> float | int | None:
    part = result.get(section)
    value = part.get(name) if isinstance(part, dict) else None
    return value if isinstance(value, int | float) else None
