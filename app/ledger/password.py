"""Where a password or a key is typed: never on the command line, which other users and the shell's history see."""

from __future__ import annotations

import getpass
import os
import sys
import warnings
from pathlib import Path

from app.ledger.keystore import read_private
from app.protocol.errors import ConfigError

_LONGEST = 1024  # characters


def password(file: Path | None, *, confirm: bool = False) -> str:
    """Return the password from ``file`` or ``$HEARTH_PASSWORD_FILE``, else from ``$HEARTH_PASSWORD`` or the terminal.

    Parameters
    ----------
    file : Path or None
        A file that only its owner may read; its first line is the password.
    confirm : bool
        Ask twice at the terminal: a new password that was mistyped is a lost key.

    Raises
    ------
    ConfigError
        If there is none to be had, it is empty, or the two differ.
    """
    named = os.environ.get("HEARTH_PASSWORD_FILE")
    source = "--password-file" if file is not None else "HEARTH_PASSWORD_FILE"
    file = Path(named).expanduser() if file is None and named else file
    if file is not None:
        try:
            text = read_private(file, source).decode("utf-8")
        except UnicodeDecodeError as error:
            raise ConfigError(source, f"{file} is not text in UTF-8") from error
        return _not_empty(text.split("\n")[0].removesuffix("\r"), f"the first line of {file}")
    if "HEARTH_PASSWORD" in os.environ:
        return _not_empty(os.environ["HEARTH_PASSWORD"], "HEARTH_PASSWORD")
    typed = _not_empty(
        ask("password", "--password-file FILE, HEARTH_PASSWORD_FILE, HEARTH_PASSWORD, or a terminal"), "it"
    )
    if confirm and ask("password again", "a terminal") != typed:
        raise ConfigError("password", "the two differ", "the same password twice")
    return typed


def secret_line(what: str) -> str:
    """Return a secret from the standard input, or, where that is a terminal, typed unseen.

    Raises
    ------
    ConfigError
        If nothing comes, or more than a line.
    """
    if sys.stdin is None or sys.stdin.isatty():
        return ask(what, "a terminal to type it at, or the standard input")
    text = sys.stdin.read(_LONGEST + 1)
    if not text.strip() or len(text) > _LONGEST:
        raise ConfigError(what, "the standard input does not hold one", "one line")
    return text.strip()


def ask(what: str, allowed: str) -> str:
    """Ask at the terminal without showing what is typed.

    Raises
    ------
    ConfigError
        If there is no terminal that can hide it.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", getpass.GetPassWarning)  # it would go on, and show what is typed
            return getpass.getpass(f"{what}: ")
    except (getpass.GetPassWarning, EOFError, OSError) as error:
        raise ConfigError(what, "there is no terminal to ask at", allowed) from error


def _not_empty(text: str, where: str) -> str:
    if not text:
        raise ConfigError("password", f"{where} is empty", "at least one character")
    return text
