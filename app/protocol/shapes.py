"""What holds of the members of a JSON object that came from outside: checked whole, before anything is made of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from eth_utils import is_checksum_address

from app.protocol.errors import ProtocolError

Shape = dict[str, Callable[[object], bool]]
"""The members of a JSON object, and what holds of each."""


def check(value: Any, shape: Shape, what: str) -> None:
    """Raise `ProtocolError` unless ``value`` is an object with exactly the members of ``shape``, each as it says."""
    if not isinstance(value, dict) or set(value) != set(shape):
        raise ProtocolError(f"{what} has exactly these members: " + ", ".join(sorted(shape)))
    for name, holds in shape.items():
        if not holds(value[name]):
            raise ProtocolError(f"{what} has a bad {name}: {value[name]!r:.60}")


def count(value: object) -> bool:
    """Return whether a value is an integer from 0 to 2**63 - 1."""
    return type(value) is int and 0 <= value < 2**63


def optional_count(value: object) -> bool:
    """Return whether a value is a `count` or null."""
    return value is None or count(value)


def flag(value: object) -> bool:
    """Return whether a value is true or false."""
    return type(value) is bool


def text(value: object) -> bool:
    """Return whether a value is a text."""
    return type(value) is str


def sequence(value: object) -> bool:
    """Return whether a value is a list."""
    return type(value) is list


def mapping(value: object) -> bool:
    """Return whether a value is an object."""
    return type(value) is dict


def address(value: object) -> bool:
    """Return whether a value is a checksum address."""
    return isinstance(value, str) and is_checksum_address(value)


def whole(value: object) -> bool:
    """Return whether a value is decimal text of at most 40 digits: a number that JSON's readers might not keep."""
    return isinstance(value, str) and len(value) <= 40 and value.isascii() and value.isdecimal()


def optional_whole(value: object) -> bool:
    """Return whether a value is a `whole` or null."""
    return value is None or whole(value)
