"""The report: one or several runs as one self-contained HTML page that asks no network for anything.

Every text goes through the template's escaping; charts are SVG of our own making (`app.reporting.charts`), whose texts
matplotlib escapes. A policy in the page's head forbids scripts and any request.
"""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from app.protocol.receipt import UNBOUNDED
from app.reporting import charts
from app.reporting.comparison import differing_keys, measures, shown
from app.reporting.run_view import RunView, flat

if TYPE_CHECKING:
    from jinja2 import Environment

_MOST_ROWS = 60
"""Customers in the heat map: those with the lowest reputation, where there are more."""


@dataclass(frozen=True, slots=True)
class Prices:
    """What gas costs.

    Attributes
    ----------
    gwei : float
        Price of a unit of gas, in 1e-9 ether.
    ether : float or None
        Price of an ether in ``currency``; None to state ether.
    currency : str
        Its name.
    """

    gwei: float = 20.0
    ether: float | None = None
    currency: str = "ether"

    def of(self, gas: float) -> str:
        """Return what some gas costs, as text."""
        paid = gas * self.gwei * 1e-9
        return f"{paid:.6f}" if self.ether is None else f"{paid * self.ether:,.2f}"

    @property
    def note(self) -> str:
        """Say what was reckoned with."""
        worth = "" if self.ether is None else f" and {self.ether:g} {self.currency} an ether"
        return f"Costs at {self.gwei:g} gwei a gas{worth}; what a chain asks changes by the minute."


@dataclass(frozen=True, slots=True)
class _Page:
    """What the template shows of one run."""

    run: RunView
    headline: list[tuple[str, str, str]]
    accuracy: Any
    loss: Any
    heat: list[dict[str, Any]]
    hidden: int
    attackers: frozenset[str]
    contribution: list[tuple[str, str]]
    rejected: list[tuple[str, int, str]]
    absent: list[tuple[str, int, str]]
    prices: Prices
    privacy: list[tuple[str, str, str]]
    receipts: list[tuple[str, str, str, int]]
    seconds: Any
    identity: list[tuple[str, str]]
    picture: str = ""
    config: dict[str, Any] = field(default_factory=dict)

    @property
    def currency(self) -> str:
        """What costs are stated in."""
        return self.prices.currency

    def price(self, gas: float) -> str:
        """Return what some gas costs."""
        return self.prices.of(gas)

    @property
    def price_note(self) -> str:
        """Say what was reckoned with."""
        return self.prices.note


def render(runs: Sequence[RunView], prices: Prices | None = None, refresh: int | None = None) -> str:
    """Return the page.

    Parameters
    ----------
    runs : sequence of RunView
        At least one.
    prices : Prices, optional
        What gas costs.
    refresh : int, optional
        After how many seconds a browser asks for the page again, where somebody serves it.
    """
    from markupsafe import Markup

    together, compared = "", {}
    if len(runs) > 1:
        names = {f"{number} {run.name}": run for number, run in enumerate(runs, start=1)}
        together = charts.curves({name: _curve(run) for name, run in names.items()}, "round", "accuracy", percent=True)
        found = [measures(run) for run in runs]
        compared = {name: [shown(name, one[name]) for one in found] for name in found[0]}
    title = runs[0].name if len(runs) == 1 else f"{len(runs)} runs"
    return (
        environment()
        .get_template("report.html")
        .render(
            title=title,
            version=version("hearth"),
            refresh=refresh,
            pages=[_page(run, prices or Prices()) for run in runs],
            together=Markup(together),  # noqa: S704 - made by app.reporting.charts
            compared=compared,
            differing=differing_keys(runs) if len(runs) > 1 else {},
        )
    )


@lru_cache(maxsize=1)
def environment() -> Environment:
    """Return the templates of this package; whatever is put into one is escaped."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    return Environment(
        loader=PackageLoader("app.reporting"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )


def _page(run: RunView, prices: Prices) -> _Page:
    from markupsafe import Markup

    result = run.result or {}
    attackers = frozenset(who for who in result.get("adversaries", ()) if isinstance(who, str))
    heat, hidden = _heat(run, attackers)
    losses = [(view.number, view.loss) for view in run.rounds]
    parts = {name: value for name, value in _numbers(result, "seconds").items() if name != "total"}
    return _Page(
        run=run,
        headline=_headline(run, prices),
        accuracy=Markup(charts.curves({"accuracy": _curve(run)}, "round", "accuracy", percent=True)),  # noqa: S704
        loss=Markup(charts.curves({"loss": losses}, "round", "loss")),  # noqa: S704
        heat=heat,
        hidden=hidden,
        attackers=attackers,
        contribution=_contribution(result.get("contribution")),
        rejected=_told([view.rejected for view in run.rounds]),
        absent=_told([view.absent for view in run.rounds]),
        prices=prices,
        privacy=_privacy(result.get("privacy")),
        receipts=_receipts(run),
        seconds=Markup(charts.shares({"this run": parts}, "seconds")) if parts else "",  # noqa: S704
        identity=_identity(run),
        picture=base64.b64encode(run.picture).decode() if run.picture else "",
        config=flat(run.config),
    )


def _curve(run: RunView) -> list[tuple[float, float]]:
    before = [] if run.before is None else [(0.0, run.before)]
    return [*before, *((float(view.number), view.accuracy) for view in run.rounds)]


def _headline(run: RunView, prices: Prices) -> list[tuple[str, str, str]]:
    found = measures(run)
    gain = "" if run.before is None or run.accuracy is None else f"{100 * (run.accuracy - run.before):+.1f} points"
    privacy = (run.result or {}).get("privacy")
    clear = isinstance(privacy, dict) and privacy.get("epsilon") is None
    return [
        ("accuracy", shown("accuracy", run.accuracy), ""),
        ("over the public set alone", gain or "-", "good" if gain.startswith("+") else "bad" if gain else ""),
        ("privacy, ε", "none" if clear else shown("epsilon", found["epsilon"]), "bad" if clear else ""),
        ("rounds", f"{len(run.rounds)} of {run.planned}", ""),
        ("evaluations that were L", shown("judged L", found["judged L"]), ""),
        ("gas a customer and round", shown("gas a customer and round", found["gas a customer and round"]), ""),
        (f"gas of all rounds, {prices.currency}", prices.of(float(found["gas"] or 0)), ""),
        ("seconds", shown("seconds", found["seconds"]), ""),
    ]


def _heat(run: RunView, attackers: frozenset[str]) -> tuple[list[dict[str, Any]], int]:
    """Return the rows of the heat map, the lowest reputation first, and how many customers are left out."""
    if not run.rounds:
        return [], 0
    last = run.rounds[-1].reputation
    highest = max([1, *(gamma for view in run.rounds for gamma in view.reputation.values())])
    order = sorted(last, key=lambda who: (who not in attackers, last[who]))
    rows = [
        {
            "customer": who,
            "attacker": who in attackers,
            "cells": [
                {
                    "gamma": view.reputation.get(who, 0),
                    "heat": f"{0.75 * max(0, view.reputation.get(who, 0)) / highest:.2f}",
                    "reason": view.rejected.get(who, ""),
                }
                for view in run.rounds
            ],
        }
        for who in order[:_MOST_ROWS]
    ]
    return rows, max(0, len(order) - _MOST_ROWS)


def _told(rounds: Sequence[Mapping[str, str]]) -> list[tuple[str, int, str]]:
    """Return who was told what, in how many rounds: the most often first."""
    reasons: dict[str, Counter[str]] = {}
    for told in rounds:
        for who, why in told.items():
            reasons.setdefault(who, Counter())[why] += 1
    rows = [
        (who, sum(found.values()), ", ".join(f"{why} ({count})" for why, count in found.most_common()))
        for who, found in reasons.items()
    ]
    return sorted(rows, key=lambda row: (-row[1], row[0]))


def _privacy(privacy: Any) -> list[tuple[str, str, str]]:
    if not isinstance(privacy, dict) or not privacy:
        return []
    if privacy.get("epsilon") is None:
        return [("guarantee", "NONE: features left the phones in the clear", "bad")]
    unit, randomness = privacy.get("unit"), str(privacy.get("randomness"))
    rows = [
        ("guarantee", f"ε = {privacy['epsilon']}, δ = {privacy.get('delta')} for one {unit}", ""),
        ("of a record", f"ε = {privacy.get('record_epsilon')}", "warn" if unit == "coordinate" else ""),
        ("budget", str(privacy.get("budget")), ""),
        ("mechanism", f"{privacy.get('mechanism')}, normalisation {privacy.get('normalisation')}", ""),
        ("neighbours", str(privacy.get("neighbouring")), ""),
        ("labels", str(privacy.get("labels")), ""),
        ("noise from", randomness, "warn" if "insecure" in randomness else ""),
        ("releases", str(privacy.get("releases")), ""),
    ]
    if privacy.get("phone_epsilon"):
        rows.append(("phone's layers", f"DP-SGD, ε = {privacy['phone_epsilon']} of a record in their updates", ""))
    if isinstance(privacy.get("not_covered"), list):
        rows.append(("not covered", "; ".join(map(str, privacy["not_covered"])), ""))
    return rows


def _contribution(measured: Any) -> list[tuple[str, str]]:
    """Return by how much each customer lowered the loss over the task, the most first; nothing where nobody asked."""
    if not isinstance(measured, dict) or not all(isinstance(value, int | float) for value in measured.values()):
        return []
    ordered = sorted(measured.items(), key=lambda item: -item[1])
    return [(str(customer), f"{value:+.4f}") for customer, value in ordered]


def _receipts(run: RunView) -> list[tuple[str, str, str, int]]:
    return [
        (
            receipt.customer,
            "unbounded" if receipt.epsilonMicros == UNBOUNDED else f"{receipt.epsilonMicros / 1e6:g}",
            f"{receipt.deltaPicos / 1e12:g}",
            receipt.releases,
        )
        for receipt in run.receipts
    ]


def _identity(run: RunView) -> list[tuple[str, str]]:
    result = run.result or {}
    head = result.get("head")
    block = f"{head.get('hash')} (block {head.get('number')})" if isinstance(head, dict) else None
    pairs = {
        "model": run.rounds[-1].digests["model"][0] if run.rounds else None,
        "task (policy)": result.get("policy_digest"),
        "contract": result.get("contract"),
        "chain": result.get("chain_id"),
        "head": block,
    }
    return [(name, str(value)) for name, value in pairs.items() if value is not None]


def _numbers(result: Mapping[str, Any], section: str) -> dict[str, float]:
    part = result.get(section)
    if not isinstance(part, dict):
        return {}
    return {str(name): float(value) for name, value in part.items() if isinstance(value, int | float) and value >= 0}
