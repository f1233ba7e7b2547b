"""Plots as SVG that stands inside a page: its texts stay texts, and take the page's colour, light or dark."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from io import StringIO
from typing import Any

_INK = "#010203"
"""Drawn in this, replaced by the page's own colour."""
COLOURS = ("#2f7ebc", "#d9692b", "#3a9a5b", "#8f63b8", "#b5446e", "#7a7a2e", "#2aa0a0", "#8a5a44")


def curves(series: Mapping[str, Sequence[tuple[float, float]]], x: str, y: str, *, percent: bool = False) -> str:
    """Return a line chart.

    Parameters
    ----------
    series : mapping of str to sequence of (float, float)
        Points by the line's name; one line has no legend.
    x, y : str
        Names of the axes.
    percent : bool, default False
        Whether y holds shares.
    """
    figure, axes = _axes(4.6, 2.8)
    for (name, points), colour in zip(series.items(), _colours(len(series)), strict=True):
        axes.plot(
            [place for place, _ in points],
            [100 * value if percent else value for _, value in points],
            marker="o",
            markersize=3,
            linewidth=1.6,
            color=colour,
            label=name,
        )
    axes.set(xlabel=x, ylabel=f"{y}, %" if percent else y)
    axes.xaxis.get_major_locator().set_params(integer=True)
    if len(series) > 1:
        axes.legend(frameon=False, fontsize=8, labelcolor=_INK)
    return _svg(figure, f"{y} by {x}")


def shares(parts: Mapping[str, Mapping[str, float]], unit: str) -> str:
    """Return stacked horizontal bars: one for each name, of its parts in order."""
    # The legend has a line of its own above the bars.
    figure, axes = _axes(4.6, 0.8 + 0.34 * len(parts))
    names = list(dict.fromkeys(part for bar in parts.values() for part in bar))
    colours = dict(zip(names, _colours(len(names)), strict=True))
    for row, bar in enumerate(parts.values()):
        left = 0.0
        for name, value in bar.items():
            axes.barh(row, value, left=left, height=0.62, color=colours[name], label=name if row == 0 else None)
            left += value
    axes.set_yticks(range(len(parts)), list(parts) if len(parts) > 1 else [""])
    axes.invert_yaxis()
    axes.set_xlabel(unit)
    axes.legend(frameon=False, fontsize=8, labelcolor=_INK, ncols=len(names), loc="lower left", bbox_to_anchor=(0, 1))
    return _svg(figure, f"{', '.join(names)} in {unit}")


def _axes(width: float, height: float) -> tuple[Any, Any]:
    # Without pyplot: no window system is asked for, and no global state kept.
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasSVG(figure)
    axes = figure.add_subplot()
    axes.grid(alpha=0.25, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(colors=_INK, labelsize=8)
    for name, spine in axes.spines.items():
        spine.set_visible(name in ("left", "bottom"))
        spine.set_color(_INK)
    for label in (axes.xaxis.label, axes.yaxis.label):
        label.set(color=_INK, fontsize=9)
    return figure, axes


def _svg(figure: Any, label: str) -> str:
    import matplotlib

    out = StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "hearth"}):
        figure.savefig(out, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = out.getvalue()
    text = text[text.index("<svg") :].replace(_INK, "currentColor")
    # The page decides width and font. What matplotlib names and nothing refers to is left out, for a page has several.
    text = re.sub(r'^<svg [^>]*viewBox="([^"]*)"[^>]*>', rf'<svg viewBox="\1" role="img" aria-label="{label}">', text)
    text = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>", "", text, flags=re.DOTALL)
    text = re.sub(r' ?font-family: [^;"]*;?', "", text)
    text = re.sub(r'<g id="[^"]*">', "<g>", text)
    return re.sub(r"\s*\n\s*", " ", text)


def _colours(count: int) -> list[str]:
    return [COLOURS[number % len(COLOURS)] for number in range(count)]
