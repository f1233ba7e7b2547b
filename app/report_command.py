"""``hearth report``, ``compare`` and ``dashboard``: runs as a page, against each other, and while they are going on."""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import re
from collections.abc import Sequence
from pathlib import Path

from app.command_line import Parser, columns
from app.protocol.errors import ConfigError
from app.run_directory import runs_home, write_atomically

_MARK = b"<!doctype html>"
"""What a file must begin with to be overwritten: it is a page then, such as an earlier report."""


def report(arguments: Sequence[str]) -> int:
    """Run ``hearth report`` with what follows the word; return the exit code."""
    parser = Parser(
        prog="hearth report",
        description="One self-contained HTML page of one or several runs, finished or not. Nothing is sent anywhere.",
        epilog="examples:\n"
        "  hearth report runs/plaid-record-s0-20260101-120000\n"
        "  hearth report runs/a runs/b --output both.html --gas-price 12 --ether-price 3000EUR",
    )
    parser.add_argument("runs", nargs="+", metavar="RUN_DIR", help="folders of runs; several are put side by side")
    parser.add_argument("--output", metavar="FILE", help="where to write it (default: report.html in the first run)")
    parser.add_argument("--gas-price", metavar="GWEI", type=_positive, default=20.0, help="default: 20")
    parser.add_argument("--ether-price", metavar="PRICE", type=_money, help="such as 3000EUR; without it, ether")
    options = parser.parse_args(list(arguments))

    from app.reporting.page import Prices, render
    from app.reporting.run_view import read_run

    runs = [read_run(run) for run in options.runs]
    target = Path(options.output or Path(options.runs[0]) / "report.html").expanduser().absolute()
    _refuse_other_files(target)
    ether, currency = options.ether_price or (None, "ether")
    page = render(runs, Prices(options.gas_price, ether, currency)).encode()
    write_atomically(target, page)
    print(f"{target} ({len(page) / 1000:,.0f} kB)")
    return 0


def compare(arguments: Sequence[str]) -> int:
    """Run ``hearth compare`` with what follows the word; return the exit code."""
    parser = Parser(
        prog="hearth compare", description="Where the configurations of two runs differ, and what came of it."
    )
    parser.add_argument("runs", nargs=2, metavar="RUN_DIR", help="the folder of a run")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args(list(arguments))

    from app.reporting.comparison import differing_keys, measures, shown
    from app.reporting.run_view import read_run

    runs = [read_run(run) for run in options.runs]
    differing, found = differing_keys(runs), [measures(run) for run in runs]
    if options.json:
        both = {name: [one[name] for one in found] for name in found[0]}
        print(json.dumps({"runs": [run.name for run in runs], "configuration": differing, "measures": both}, indent=2))
        return 0
    print("configuration" if differing else "configuration: the same")
    keys = [(key, *map(str, values)) for key, values in differing.items()]
    rows = [(name, shown(name, found[0][name]), shown(name, found[1][name])) for name in found[0]]
    changes = [_change(name, found[0][name], found[1][name]) for name in found[0]]
    print("\n".join(columns(keys)) if keys else "", end="\n" if keys else "")
    print("measures")
    print("\n".join(columns([(*row, change) for row, change in zip(rows, changes, strict=True)])))
    return 0


def dashboard(arguments: Sequence[str]) -> int:
    """Run ``hearth dashboard`` with what follows the word; return the exit code."""
    parser = Parser(
        prog="hearth dashboard",
        description="Reports of all runs in a folder, on loopback, while they are going on. Ctrl-C ends it.",
    )
    parser.add_argument("runs", nargs="?", metavar="RUNS_DIR", help="the folder (default: where runs go to)")
    parser.add_argument("--port", type=_port, default=8460, help="default: 8460; 0 takes a free one")
    parser.add_argument("--gas-price", metavar="GWEI", type=_positive, default=20.0, help="default: 20")
    parser.add_argument("--ether-price", metavar="PRICE", type=_money, help="such as 3000EUR; without it, ether")
    options = parser.parse_args(list(arguments))

    from app.reporting.dashboard import serve
    from app.reporting.page import Prices

    folder = Path(options.runs).expanduser().absolute() if options.runs else runs_home()
    ether, currency = options.ether_price or (None, "ether")
    with contextlib.suppress(KeyboardInterrupt):
        serve(folder, options.port, Prices(options.gas_price, ether, currency), lambda url: print(url, flush=True))
    return 0


def _port(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and int(text) < 2**16):
        raise argparse.ArgumentTypeError(f"'{text}' is no port (allowed: 0..65535)")
    return int(text)


def _change(name: str, one: object, other: object) -> str:
    """Return by how much a measure differs, as people say it."""
    if isinstance(one, str) or isinstance(other, str):
        return "same" if one == other else "differs"
    if not isinstance(one, int | float) or not isinstance(other, int | float) or one == other:
        return "same" if one == other else ""
    if name in ("accuracy", "public set alone", "judged L"):
        return f"{100 * (other - one):+.1f} points"
    return f"{other - one:+,.4g}" + (f" ({100 * (other / one - 1):+.1f} %)" if one else "")


def _refuse_other_files(path: Path) -> None:
    """Raise `ConfigError` if something stands at ``path`` that is no page."""
    if not path.parent.is_dir():
        raise ConfigError("--output", f"{path.parent} is not a folder", "a file in a folder that exists")
    if path.is_dir() or (path.exists() and not path.is_file()):
        raise ConfigError("--output", f"{path} is no file", "the name of a file")
    if path.exists():
        with path.open("rb") as file:
            if file.read(len(_MARK)) != _MARK:
                raise ConfigError("--output", f"{path} exists and is no report", "another name")


def _positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"'{text}' is no price (allowed: a positive number)")
    return value


def _money(text: str) -> tuple[float, str]:
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?) ?([A-Za-z]{1,8}|[€$£¥])", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"'{text}' is no price (allowed: a number and a currency, such as 3000EUR)")
    return _positive(match[1]), match[2]
