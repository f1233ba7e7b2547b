"""What the commands of `hearth` share: a parser that refuses in one line, and aligned columns."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from app.protocol.errors import ConfigError


class Parser(argparse.ArgumentParser):
    """An argument parser, also of subcommands, whose refusals are `ConfigError`; nothing may be abbreviated."""

    def __init__(self, **options: Any) -> None:
        formatter = argparse.RawDescriptionHelpFormatter
        super().__init__(**{"allow_abbrev": False, "formatter_class": formatter, **options})

    def error(self, message: str) -> NoReturn:
        """Refuse what was typed."""
        raise ConfigError(self.prog, message, f"see {self.prog} --help")


def service_parser(party: str, verb: str, text: str, about: str) -> Parser:
    """Return the parser of a command that runs a party as a process, configured by ``conf/PARTY.yaml``."""
    parser = Parser(prog=f"hearth {party}", description=about)
    command = parser.add_subparsers(dest="command", required=True, metavar="COMMAND").add_parser(
        verb, help=text, description=about
    )
    command.add_argument("--config", metavar="FILE", type=Path, help=f"YAML with keys of conf/{party}.yaml")
    command.add_argument("overrides", metavar="key=value", nargs="*", help=f"keys of conf/{party}.yaml")
    return parser


def dispatch(
    arguments: Sequence[str],
    parse: Callable[[Sequence[str]], argparse.Namespace],
    actions: Mapping[str, Callable[[argparse.Namespace], int]],
) -> int:
    """Parse what was typed after a command of ours (nothing is ``--help``), act on it, and return the exit code.

    Raises
    ------
    HearthError
        If what was asked for cannot be done.
    """
    try:
        options = parse(list(arguments) or ["--help"])
    except SystemExit as end:  # argparse ends so after --help
        return int(end.code or 0)
    return actions[options.command](options)


def columns(rows: list[tuple[str, ...]], indent: str = "  ") -> list[str]:
    """Return rows of texts as lines whose columns are aligned."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)) for row in rows)
    return [(indent + line).rstrip() for line in lines]


def chain_id(text: str) -> int:
    """Read an EIP-155 chain id that was typed."""
    if not (text.isascii() and text.isdecimal() and 0 < int(text) < 2**53):
        raise argparse.ArgumentTypeError(f"'{text}' is no chain id (allowed: 1..{2**53 - 1})")
    return int(text)
