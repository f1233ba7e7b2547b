"""``hearth task``: the tasks of a chain, read and acted upon by whoever has a part in them."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from app.command_line import Parser, chain_id, columns
from app.protocol.errors import HearthError, LedgerError

if TYPE_CHECKING:
    pass

_ABOUT = """\
PLACE is a run directory, the file of an embedded chain, or the address of a node (http://...); for the last two
--contract says which task, where there are several. What is sent is tried first, shown with its cost, and sent once you
agree (--yes agrees beforehand). Keys come from `hearth wallet`; a run's simulated parties act with --as customer/3.

A customer without ether signs its claim, and anybody sends it:

  hearth task claim PLACE --key me --sign-only claim.json
  hearth task claim PLACE --key other --relay claim.json"""
_ROUNDS = 10
_HOURS = 24 * 30


def main(arguments: Sequence[str]) -> int:
    """Run ``hearth task``; return its exit code.

    Raises
    ------
    HearthError
        If what was asked for cannot be done; nothing was sent then, unless the message says so.
    """
    try:
        options = _parse(list(arguments) or ["--help"])
    except SystemExit as end:  # argparse ends so after --help
        return int(end.code or 0)
    try:
        if options.command in ("list", "show"):
            return _list(options) if options.command == "list" else _show(options)
        from app import task_actions

        return int(getattr(task_actions, options.command)(options))
    except KeyboardInterrupt:
        raise LedgerError("interrupted; what was signed until then is in the journal and is sent once") from None


# Reading


def _list(options: argparse.Namespace) -> int:
    from app.ledger.task_ledger import TaskLedger
    from app.ledger.tasks import find_tasks
    from app.reporting.task_text import phase
    from app.run_directory import runs_home
    from app.task_actions import connected

    home = Path(options.place) if options.place else runs_home()
    runs = _runs_in(home)
    if runs is not None or options.place is None:
        return _list_runs(runs or [], home, options.json)
    with connected(options) as chain:
        rows: list[tuple[str, ...]] = [
            (found.address, phase(TaskLedger(chain, found.address).state()), f"published in block {found.block}")
            for found in find_tasks(chain)
        ]
    return _print_list(rows, ("contract", "phase", "published"), options.json, f"no tasks on {options.place}")


def _runs_in(place: Path) -> list[Path] | None:
    """Return the run directories in a folder of runs, or None where a place is something else."""
    from app.run_directory import RunDirectory

    folder = place.expanduser().absolute()
    if not folder.is_dir() or RunDirectory(folder).config_path.exists() or RunDirectory(folder).chain_path.exists():
        return None
    return sorted(path.parent for path in folder.glob("*/config.yaml"))


def _list_runs(runs: list[Path], home: Path, as_json: bool) -> int:
    from app.places import open_place
    from app.reporting.task_text import phase
    from app.task_actions import task_at

    rows: list[tuple[str, ...]] = []
    for run in runs:
        try:
            chain = open_place(str(run))
            try:
                task = task_at(chain, str(run), None)
                rows.append((run.name, task.address, phase(task.state())))
            finally:
                chain.close()
        except HearthError as error:  # one run without a chain must not hide the others
            rows.append((run.name, "", str(error)))
    return _print_list(rows, ("run", "contract", "phase"), as_json, f"no runs in {home}")


def _print_list(rows: list[tuple[str, ...]], names: tuple[str, ...], as_json: bool, nothing: str) -> int:
    if as_json:
        print(json.dumps([dict(zip(names, row, strict=True)) for row in rows], indent=2))
    else:
        print("\n".join(columns(rows, indent="")) if rows else nothing)
    return 0


def _show(options: argparse.Namespace) -> int:
    from app.ledger.overview import overview
    from app.reporting.task_text import describe
    from app.task_actions import connected, task_at

    with connected(options) as chain:
        found = overview(task_at(chain, options.place, options.contract), options.rounds)
    print(json.dumps(found.to_json(), indent=2) if options.json else describe(found))
    return 0


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = Parser(prog="hearth task", description=_ABOUT)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    listing = commands.add_parser("list", help="the tasks of a chain, or of a folder of runs")
    listing.add_argument("place", metavar="PLACE", nargs="?", help="a chain, or a folder of runs (the usual one)")
    show = commands.add_parser("show", help="a task: phase, deadlines, members, reputation, money, rounds")
    show.add_argument("place", metavar="PLACE")
    show.add_argument("--contract", metavar="ADDRESS", help="which task")
    show.add_argument("--rounds", metavar="N", type=_count, default=_ROUNDS, help=f"past rounds to tell ({_ROUNDS})")
    for reading in (listing, show):
        reading.add_argument("--chain-id", metavar="N", type=chain_id, help="refuse any other chain")
        reading.add_argument("--json", action="store_true", help="for machines; amounts are wei")
    for name, text in (
        ("claim", "fetch what a customer earned"),
        ("cancel", "end the task before the round is sealed; by the manufacturer"),
        ("expire", "end a round whose deadline has passed; by anyone"),
        ("reclaim", "return what nobody earned to the manufacturer, once the task has ended; by anyone"),
        ("deposit", "make a member's deposit"),
        ("refund", "take a member's deposit back, once the task has ended"),
    ):
        command = commands.add_parser(name, help=text, description=text)
        _add_sending(command)
        if name == "claim":
            _add_claiming(command)
        elif name in ("deposit", "refund"):
            command.add_argument("--role", choices=("customer", "miner"), required=True)
    return parser.parse_args(arguments)


def _add_sending(command: argparse.ArgumentParser) -> None:
    command.add_argument("place", metavar="PLACE")
    command.add_argument("--contract", metavar="ADDRESS", help="which task")
    command.add_argument("--chain-id", metavar="N", type=chain_id, help="refuse any other chain")
    command.add_argument("--key", metavar="NAME|FILE", help="whose key signs; see hearth wallet")
    command.add_argument("--password-file", metavar="FILE", type=Path, help="its first line is the key's password")
    command.add_argument(
        "--as", dest="party", metavar="ROLE[/INDEX]", help="a simulated run's manufacturer, customer/3"
    )
    command.add_argument("--yes", action="store_true", help="send without asking")


def _add_claiming(command: argparse.ArgumentParser) -> None:
    ways = command.add_mutually_exclusive_group()
    ways.add_argument("--sign-only", metavar="FILE", type=Path, help="write a signed claim, and send nothing")
    ways.add_argument("--relay", metavar="FILE", type=Path, help="send somebody's signed claim")
    command.add_argument("--to", metavar="ADDRESS", help="where a signed claim is paid to (the customer)")
    command.add_argument("--hours", metavar="N", type=_count, default=_HOURS, help=f"how long it is good ({_HOURS})")


def _count(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) < 7):
        raise argparse.ArgumentTypeError(f"'{text}' is no count (allowed: 0..999999)")
    return int(text)
