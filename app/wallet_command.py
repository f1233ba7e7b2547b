"""``hearth wallet``: keys in encrypted files. It prints addresses and places, and never a key."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from app.protocol.errors import ConfigError

_ABOUT = """\
Keys in encrypted files, one each, in $HEARTH_KEYS or else the user's configuration folder. The password comes from
--password-file or $HEARTH_PASSWORD_FILE (a file that only you may read), else from $HEARTH_PASSWORD, else from the
terminal. Neither a password nor a key is ever given on the command line."""


def main(arguments: Sequence[str]) -> int:
    """Run ``hearth wallet``; return its exit code.

    Raises
    ------
    HearthError
        If what was asked for cannot be done; nothing was changed then.
    """
    try:
        options = _parse(list(arguments) or ["--help"])
        return {"new": _new, "show": _show, "import": _import}[options.command](options)
    except SystemExit as end:  # argparse ends so after --help
        return int(end.code or 0)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


def _new(options: argparse.Namespace) -> int:
    from app.ledger.keystore import check_free, create, new_key
    from app.ledger.password import password

    for name in options.names:
        check_free(name)
    secret = password(options.password_file, confirm=True)
    for name in dict.fromkeys(options.names):
        _created(name, create(name, new_key(), secret))
    return 0


def _import(options: argparse.Namespace) -> int:
    from app.ledger.keystore import check_free, create, parse_key
    from app.ledger.password import password, secret_line

    check_free(options.name)  # before anybody types a key or a password for it
    key = parse_key(secret_line("private key"))
    _created(options.name, create(options.name, key, password(options.password_file, confirm=True)))
    return 0


def _show(options: argparse.Namespace) -> int:
    from app.ledger.keystore import address_of, key_path, keys_home, names

    if options.name is not None:
        path = key_path(options.name)
        _print(options.name, address_of(path), path)
        return 0
    found = names()
    if not found:
        print(f"no keys in {keys_home()} (hearth wallet new NAME makes one)")
    failed = 0
    for name in found:
        try:
            _print(name, address_of(key_path(name)), key_path(name))
        except ConfigError as error:  # one damaged file must not hide the others
            print(f"error: {error}", file=sys.stderr)
            failed = 1
    return failed


def _created(name: str, path: Path) -> None:
    from app.ledger.keystore import address_of

    _print(name, address_of(path), path)


def _print(name: str, address: str, path: Path) -> None:
    print(f"{name}  {address}  {path}")


class _Parser(argparse.ArgumentParser):
    """Refuses with one line, and does not repeat what was typed: it may be a key."""

    def error(self, message: str) -> NoReturn:
        raise ConfigError(self.prog, "these arguments do not fit", f"see {self.prog} --help; keys are never arguments")


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = _Parser(prog="hearth wallet", description=_ABOUT, allow_abbrev=False)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, what, more in (
        ("new", "make keys", "Make a key for each name from the operating system's randomness."),
        ("show", "print addresses and files", "Print the address and the file of a key, or of all keys."),
        ("import", "store a key that exists", "Store a key: 64 hexadecimal digits on the standard input or typed."),
    ):
        command = commands.add_parser(name, help=what, description=more, allow_abbrev=False)
        if name == "show":
            command.add_argument("name", metavar="NAME", nargs="?", help="which key; all of them, where it is left out")
            continue
        if name == "new":
            command.add_argument("names", metavar="NAME", nargs="+", help="what to call it; several get one password")
        else:
            command.add_argument("name", metavar="NAME", help="what to call it")
        command.add_argument("--password-file", metavar="FILE", type=Path, help="its first line is the password")
    return parser.parse_args(arguments)
