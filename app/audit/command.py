"""``hearth audit``: what a person or a machine types and reads."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from app.audit.arguments import Parser, hash_of, run_directory
from app.audit.report import AuditError, Report, Section
from app.protocol.errors import ConfigError

if TYPE_CHECKING:
    from rich.tree import Tree

_DESCRIPTION = """\
Recompute a task from its evidence alone, believing nobody: OK, or the first record that is broken.
Exit code 0: all holds; 1: something does not; 2: bad usage."""
_EXAMPLES = """\
  hearth audit runs/NAME --head 0x5c46...
  hearth audit --chain http://127.0.0.1:8545 --contract 0x51Ec... --store http://127.0.0.1:5001
  hearth audit prove runs/NAME --customer 0xfE67... --round 2 -o proof.json
  hearth audit check proof.json --run runs/NAME      (or --chain URL)"""


def main(arguments: Sequence[str]) -> int:
    """Run ``hearth audit`` with what follows the word; return the exit code."""
    if arguments and arguments[0] in ("prove", "check"):
        from app.audit import proof

        return proof.main(arguments[0], arguments[1:])
    return _audit(_parser().parse_args(list(arguments)))


def _parser() -> Parser:
    parser = Parser(
        prog="hearth audit",
        description=_DESCRIPTION,
        epilog=f"examples:\n{_EXAMPLES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("run", nargs="?", metavar="RUN_DIR", help="the folder of a run")
    parser.add_argument("--head", metavar="HASH", help="hash of a block that the chain must have, kept from elsewhere")
    parser.add_argument("--chain", metavar="URL", help="a node, instead of a run's embedded chain")
    parser.add_argument("--contract", metavar="ADDR", help="the task's contract on that chain")
    parser.add_argument("--store", metavar="URL|DIR", help="the task's blobs: an IPFS node, or an embedded store")
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    return parser


def _audit(options: argparse.Namespace) -> int:
    from app.audit.run import audit_run

    head = hash_of(options.head) if options.head else None
    remote = (options.chain, options.contract, options.store)
    if (options.run and any(remote)) or (not options.run and not all(remote)):
        raise ConfigError("hearth audit", "what is to be audited?", "RUN_DIR, or --chain, --contract and --store")
    subject = options.run or f"{options.contract} on {options.chain}"
    printer = _Printer(subject, quiet=options.json)
    report = Report(subject, printer.passed)
    failure = None
    try:
        if options.run:
            audit_run(run_directory(options.run), report, head)
        else:
            from app.audit.node import audit_node

            audit_node(options.chain, options.contract, options.store, report, head)
    except AuditError as error:
        failure = error
    if options.json:
        print(json.dumps(report.to_json(failure), indent=2))
    else:
        printer.end(report, failure)
    return 0 if failure is None else 1


class _Printer:
    """Shows sections as they pass: a tree in colours on a terminal, plain lines elsewhere."""

    def __init__(self, subject: str, *, quiet: bool) -> None:
        self._quiet, self._terminal = quiet, sys.stdout.isatty()
        if not quiet:
            print(f"audit of {subject}")

    def passed(self, section: Section) -> None:
        """Show a section that holds."""
        if self._quiet:
            return
        if self._terminal:
            from rich.console import Console

            Console(highlight=False).print(_tree(section))
        else:
            for line in _lines(section, 2):
                print(line, flush=True)

    def end(self, report: Report, failure: AuditError | None) -> None:
        """Show the outcome."""
        if failure is not None:
            print(f"BROKEN {failure.place}\n  expected  {failure.expected}\n  found     {failure.found}")
            return
        print(f"OK     {sum(section.seconds for section in report.sections):.1f} s")
        for title, lines in (("not proven", report.unproven), ("no evidence", report.ignored)):
            if lines:
                print(f"{title}:")
            for line in lines:
                print(f"  - {line}")


def _label(section: Section) -> str:
    counts = ", ".join(f"{number:,} {what}" for what, number in section.counts.items() if number)
    return f"{section.name:<26}{counts}"


def _lines(section: Section, indent: int) -> list[str]:
    line = f"{' ' * indent}{_label(section)}  ({section.seconds:.2f} s)"
    return [line, *(text for part in section.parts for text in _lines(part, indent + 2))]


def _tree(section: Section) -> Tree:
    from rich.tree import Tree

    tree = Tree(f"[green]ok[/green] {_label(section)}  [dim]{section.seconds:.2f} s[/dim]")
    for part in section.parts:
        tree.add(_tree(part))
    return tree
