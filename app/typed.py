"""From plain values to frozen dataclasses, with exact checks: the schema of the configuration is its dataclasses."""

from __future__ import annotations

import dataclasses
import difflib
import math
import types
import typing
from collections.abc import Iterable, Mapping
from typing import Any, Literal, TypeVar, Union

from app.protocol.errors import ConfigError

T = TypeVar("T")

_NAMES: dict[object, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
    type(None): "null",
}


def build(schema: type[T], value: object, key: str = "") -> T:
    """Make a ``schema`` of a mapping, checking every key and every type on the way down.

    Parameters
    ----------
    schema : type
        A dataclass whose fields are ``bool``, ``int``, ``float``, ``str``, a ``Literal``, a ``tuple[X, ...]``, another
        such dataclass, or one of them or None.
    value : object
        What should be a mapping from field names to plain values. A whole number is taken for a ``float``; nothing
        else is converted, and ``True`` is no number.
    key : str, optional
        Dotted key of the mapping itself, for messages.

    Raises
    ------
    ConfigError
        Names the first key that is unknown, missing, or of another type.
    """
    hints = fields(schema)
    if not isinstance(value, Mapping):
        raise ConfigError(key or "configuration", f"{_show(value)} is not a section with keys", sorted(hints))
    for name in value:
        if name not in hints:
            raise unknown(join(key, str(name)), (join(key, known) for known in hints))
    missing = [name for name in hints if name not in value]
    if missing:
        raise ConfigError(join(key, missing[0]), "is missing", describe(hints[missing[0]]))
    return schema(**{name: convert(hint, value[name], join(key, name)) for name, hint in hints.items()})


def convert(hint: Any, value: object, key: str) -> Any:
    """Return ``value`` as the type ``hint``, or raise `ConfigError` naming ``key`` (see `build`)."""
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return build(hint, value, key)
    options = _options(hint)
    if value is None and type(None) in options:
        return None
    for option in options:
        origin = typing.get_origin(option)
        if origin is tuple and isinstance(value, (list, tuple)):
            item = typing.get_args(option)[0]
            return tuple(convert(item, part, f"{key}[{index}]") for index, part in enumerate(value))
        if origin is Literal and isinstance(value, str) and value in typing.get_args(option):
            return value
        if option is float and type(value) in (int, float):
            return _to_float(value, key)
        if type(value) is option:
            return value
    raise ConfigError(key, f"{_show(value)} is not allowed", describe(hint))


def describe(hint: Any) -> str:
    """Say in a few words which values a field of type ``hint`` takes."""
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return "a section with keys " + ", ".join(fields(hint))
    words = []
    for option in _options(hint):
        if typing.get_origin(option) is Literal:
            words += [str(choice) for choice in typing.get_args(option)]
        elif typing.get_origin(option) is tuple:
            words.append("a list of " + describe(typing.get_args(option)[0]).replace("a ", "", 1) + "s")
        else:
            words.append(_NAMES.get(option, getattr(option, "__name__", str(option))))
    return " or ".join(words)


def fields(schema: type) -> dict[str, Any]:
    """Return the fields of a dataclass with their types, in order."""
    hints = typing.get_type_hints(schema)
    return {field.name: hints[field.name] for field in dataclasses.fields(schema)}


def leaves(schema: type, key: str = "") -> dict[str, Any]:
    """Return every dotted key below ``schema`` that holds a value, with its type."""
    found: dict[str, Any] = {}
    for name, hint in fields(schema).items():
        if isinstance(hint, type) and dataclasses.is_dataclass(hint):
            found |= leaves(hint, join(key, name))
        else:
            found[join(key, name)] = hint
    return found


def unknown(key: str, known: Iterable[str]) -> ConfigError:
    """Return the error for a key that nobody knows, with what was probably meant and what stands in its place."""
    known = list(known)
    section, _, leaf = key.rpartition(".")
    beside = [name for name in known if name.rpartition(".")[0] == section]
    close = _closest(leaf, beside, 0.6) or _closest(leaf, known, 0.8)  # `epsilon` means `privacy.epsilon`
    return ConfigError(
        key,
        "unknown key" + (f", did you mean {close}?" if close else ""),
        beside if section and beside else dict.fromkeys(name.partition(".")[0] for name in known),
    )


def join(key: str, name: str) -> str:
    """Return the dotted key of ``name`` below ``key``."""
    return f"{key}.{name}" if key else name


def _closest(leaf: str, keys: Iterable[str], cutoff: float) -> str | None:
    by_leaf = {key.rpartition(".")[2]: key for key in keys}
    found = difflib.get_close_matches(leaf, by_leaf, n=1, cutoff=cutoff)
    return by_leaf[found[0]] if found else None


def _options(hint: Any) -> tuple[Any, ...]:
    return typing.get_args(hint) if typing.get_origin(hint) in (Union, types.UnionType) else (hint,)


def _to_float(value: Any, key: str) -> float:
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise ConfigError(key, f"{number} is not allowed", "a finite number")
    return number


def _show(value: object) -> str:
    text = {True: "true", False: "false", None: "null"}.get(value) if isinstance(value, bool | None) else None
    shown = text or (f"'{value}'" if isinstance(value, str) else str(value))
    return shown if len(shown) <= 60 else shown[:57] + "..."
