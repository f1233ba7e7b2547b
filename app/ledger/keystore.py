"""Encrypted key files (Web3 Secret Storage, version 3): one key a file, for its owner's eyes, outside the project.

A key file is readable by its owner alone, is never overwritten, and never lies inside a project folder: Flower packs
every ``.json`` of one into the bundle that it hands to other machines, and version control takes the rest.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import stat
from pathlib import Path
from typing import Any

from eth_account import Account
from eth_account.signers.local import LocalAccount
from web3 import Web3

from app.durable import TEMPORARY, sync_directory
from app.protocol.digest import parse_json
from app.protocol.errors import ConfigError, ProtocolError, StoreError

_PROJECT = Path(os.path.realpath(__file__)).parent.parent.parent
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")
_LOOKS_LIKE_A_KEY = re.compile(r"(0[xX])?[0-9A-Fa-f]{40,}")
_HEX_KEY = re.compile(r"(0x)?[0-9A-Fa-f]{64}")
_LARGEST = 64 * 1024  # bytes; a key file has about 500
# A file from elsewhere says how much work opening it is: at most a gigabyte (128 n r) and some ten seconds.
_MOST_SCRYPT = 2**30
_MOST_PBKDF2 = 20_000_000


def keys_home() -> Path:
    """Return the folder of the key files: ``$HEARTH_KEYS`` where it is set, else in the user's configuration."""
    chosen = os.environ.get("HEARTH_KEYS")
    if chosen:
        return Path(chosen).expanduser().absolute()
    import platformdirs

    return Path(platformdirs.user_config_dir("hearth", appauthor=False)) / "keys"


def key_path(name: str, home: Path | None = None) -> Path:
    """Return where the key called ``name`` lies, whether it exists or not.

    Raises
    ------
    ConfigError
        If the name is unfit. It is not repeated: it may be a key that was typed in the wrong place.
    """
    if not _NAME.fullmatch(name) or _LOOKS_LIKE_A_KEY.fullmatch(name) or name.endswith("."):
        allowed = "1 to 64 of A-Z a-z 0-9 _ . -, no dot at the ends, and nothing that looks like a key or an address"
        raise ConfigError("wallet name", "it is not fit for a key file", allowed)
    return (home or keys_home()) / f"{name}.json"


def check_free(name: str, home: Path | None = None) -> Path:
    """Return where a new key called ``name`` may be written.

    Raises
    ------
    ConfigError
        If the name is unfit or taken, or the folder is part of a project.
    """
    path = key_path(name, home)
    _refuse_projects(path.parent)
    if os.path.lexists(path):
        raise _taken(path)
    return path


def new_key() -> bytes:
    """Return a private key (32 bytes) from the operating system's randomness."""
    while True:
        key = secrets.token_bytes(32)
        if _is_key(key):
            return key


def parse_key(text: str) -> bytes:
    """Read a private key from 64 hexadecimal digits, with or without ``0x``.

    Raises
    ------
    ConfigError
        If it is anything else. What it is instead is not repeated.
    """
    text = text.strip()
    key = bytes.fromhex(text.removeprefix("0x")) if _HEX_KEY.fullmatch(text) else b""
    if not _is_key(key):
        raise ConfigError("private key", "this is not one", "64 hexadecimal digits, with or without 0x")
    return key


def create(name: str, key: bytes, password: str, home: Path | None = None, *, work: int | None = None) -> Path:
    """Write a new key file, whole or not at all, and return where it is.

    Parameters
    ----------
    name : str
        What the key is called.
    key : bytes
        The private key (32 bytes).
    password : str
        What it is encrypted with.
    home : Path, optional
        Its folder, made where there is none; `keys_home`, where it is not given.
    work : int, optional
        scrypt's cost n, a power of two; 2**18 (a second, 256 MiB), where it is not given.

    Raises
    ------
    ConfigError
        If the name is unfit or taken, the password is empty, or the folder is part of a project.
    StoreError
        If the disk refuses.
    """
    path = check_free(name, home)
    if not password:
        raise ConfigError("password", "it is empty", "at least one character")
    document = json.dumps(Account.encrypt(key, password, kdf="scrypt", iterations=work)).encode() + b"\n"
    temporary = path.with_name(f"{TEMPORARY}{secrets.token_hex(8)}")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as file:
                file.write(document)
                file.flush()
                os.fsync(file.fileno())
            os.link(temporary, path)  # unlike a rename, it refuses a name that is taken
        finally:
            temporary.unlink(missing_ok=True)
        sync_directory(path.parent)
    except FileExistsError as error:
        raise _taken(path) from error
    except OSError as error:
        raise StoreError(f"{path}: cannot be written: {error.strerror or error}") from error
    return path


def load(path: Path, password: str) -> LocalAccount:
    """Decrypt a key file.

    Raises
    ------
    ConfigError
        If there is none, others may read it, it is damaged, asks for too much work, or the password is wrong.
    """
    document = _read(path)
    try:
        _check_work(document["crypto"])
        if document["crypto"]["cipher"] != "aes-128-ctr":
            raise ValueError("its cipher is not aes-128-ctr")
        account: LocalAccount = Account.from_key(Account.decrypt(document, password))
    except ValueError as error:
        if "MAC mismatch" in str(error):
            raise ConfigError("password", f"it does not open {path}", "the one that was given to 'new'") from None
        raise _malformed(path, error) from None
    except (KeyError, TypeError, AttributeError, NotImplementedError) as error:
        raise _malformed(path, error) from None
    if _address(document) != account.address:  # the format's checksum leaves the initial vector out
        named = _address(document) or "no address"
        raise _malformed(path, ValueError(f"it names {named}, its key is {account.address}'s"))
    return account


def address_of(path: Path) -> str:
    """Return the checksum address that a key file names; only `load` proves it.

    Raises
    ------
    ConfigError
        If there is no such file, others may read it, or it names none.
    """
    address = _address(_read(path))
    if address is None:
        raise _malformed(path, ValueError("it names no address"))
    return address


def names(home: Path | None = None) -> list[str]:
    """Return the names of the keys in a folder, in order; none where there is no folder."""
    return sorted(path.stem for path in (home or keys_home()).glob("*.json") if _NAME.fullmatch(path.stem))


def read_private(path: Path, what: str) -> bytes:
    """Read a small file that nobody but its owner may read.

    Raises
    ------
    ConfigError
        If it cannot be read, is no ordinary file, is too large, or others may read or change it.
    """
    try:
        with open(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK), "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise ConfigError(what, f"{path} is not an ordinary file")
            if status.st_mode & 0o077:
                raise ConfigError(what, f"{path} is open to others (mode {status.st_mode & 0o777:o})", "chmod 600")
            data = file.read(_LARGEST + 1)
    except OSError as error:
        raise ConfigError(what, f"{path} cannot be read: {error.strerror or error}") from error
    if len(data) > _LARGEST:
        raise ConfigError(what, f"{path} is too large", f"{_LARGEST} bytes")
    return data


def _read(path: Path) -> dict[str, Any]:
    try:
        document = parse_json(read_private(path, "key file"), "a key file")
    except ProtocolError as error:
        raise _malformed(path, error) from None
    if document.get("version") != 3:
        raise _malformed(path, ValueError("its version is not 3"))
    return document


def _check_work(crypto: Any) -> None:
    """Refuse parameters that would keep this machine busy, or that are no protection at all."""
    function, parameters = crypto["kdf"], crypto["kdfparams"]
    numbers = {key: value for key, value in parameters.items() if key in ("n", "r", "p", "c", "dklen")}
    if any(isinstance(value, bool) or not isinstance(value, int) or value < 1 for value in numbers.values()):
        raise ValueError("its parameters are not positive integers")
    if numbers["dklen"] > 64:
        raise ValueError("it asks for a key that is too long")
    if function == "scrypt":
        if 128 * numbers["n"] * numbers["r"] > _MOST_SCRYPT or numbers["p"] > 16:
            raise ValueError("it asks for too much work")
    elif function != "pbkdf2":
        raise ValueError("its key derivation is neither scrypt nor pbkdf2")
    elif numbers["c"] > _MOST_PBKDF2:
        raise ValueError("it asks for too much work")


def _address(document: dict[str, Any]) -> str | None:
    address = document.get("address")
    if not isinstance(address, str) or not Web3.is_address(address):
        return None
    return Web3.to_checksum_address("0x" + address.removeprefix("0x").lower())


def _is_key(key: bytes) -> bool:
    try:
        Account.from_key(key)
    except ValueError:
        return False
    return True


def _refuse_projects(folder: Path) -> None:
    """Raise unless ``folder`` lies outside this project and every other one, symbolic links resolved."""
    real = Path(os.path.realpath(folder))
    for parent in (real, *real.parents):
        if parent == _PROJECT or (parent / "pyproject.toml").exists():
            problem = f"{folder} lies in the project {parent}, whose files are given to other machines"
            raise ConfigError("HEARTH_KEYS", problem, "a folder outside of every project")


def _taken(path: Path) -> ConfigError:
    return ConfigError("wallet name", f"{path} exists, and a key is never overwritten", "another name")


def _malformed(path: Path, error: Exception) -> ConfigError:
    reason = f"it lacks {error}" if isinstance(error, KeyError) else str(error) or type(error).__name__
    return ConfigError("key file", f"{path} is damaged, or not a key file: {reason}")
