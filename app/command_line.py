"""What the commands of `hearth` share: a parser that refuses in one line, and aligned columns."""

from __future__ import annotations

import argparse
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
