"""What users type, ``key=value`` in Hydra's grammar, checked against conf/ before Hydra composes it."""

from __future__ import annotations

import difflib
import functools
import itertools
import math
import os
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.protocol.errors import ConfigError
from app.typed import unknown

if TYPE_CHECKING:
    from hydra.core.override_parser.types import Override

CONF = Path(os.path.abspath(__file__)).parent.parent / "conf"  # the same place in a checkout, a wheel and an app bundle
MOST_JOBS = 1000
"""So many jobs a sweep may have: more is a slip of the hand."""
_SEVERAL = "one value, or several separated by commas"
_PASSWORD = re.compile(r"//[^/\s]*@")
_HOME = re.compile(r"(?<=[=,])~(?=/)")
_GRAMMAR = "key=value; text with special characters in quotes within the shell's: key='\"a, b\"'"


def without_password(text: str) -> str:
    """Return ``text`` as it may be shown: what stands before the host of an address is left out."""
    return _PASSWORD.sub("//...@", text)


@functools.cache
def groups() -> dict[str, tuple[str, ...]]:
    """Return the groups of conf/ in alphabetical order, each with the names of its choices."""
    found = {}
    for folder in sorted(CONF.iterdir()):
        choices = tuple(sorted(path.stem for path in folder.glob("*.yaml"))) if folder.is_dir() else ()
        if choices:
            found[folder.name] = choices
    return found


def check(overrides: Iterable[str], keys: Collection[str], *, grouped: bool = True) -> list[str]:
    """Return the overrides of one run in the form that Hydra composes, each key once.

    Parameters
    ----------
    overrides : iterable of str
        What the user typed, such as ``data=digits`` or ``privacy.epsilon=4``. A leading ``+`` or ``++`` is accepted
        where the key exists.
    keys : collection of str
        The dotted keys that hold values.
    grouped : bool, default True
        Whether the configuration is made of the groups of conf/, or is one file of it.

    Raises
    ------
    ConfigError
        If the grammar, the key or the choice of a group is wrong, or a key is given twice.
    """
    choices = groups() if grouped else {}
    checked: dict[str, str] = {}
    for key, override in _once(overrides, keys, choices, "one value"):
        if override.is_sweep_override():
            shown = without_password(_value(override))
            raise ConfigError(key, f"{shown!r} is more than one value", "one value, or -m for a sweep")
        checked[key] = f"{key}={_choice(override, key) if key in choices else _value(override)}"
    return list(checked.values())


def _choice(override: Override, group: str) -> str:
    """Return the chosen file's name, or null for no experiment; raise `ConfigError` if conf/ has no such file."""
    value, choices = override.value(), groups()[group]
    choice = "null" if value is None else str(value)
    if choice in choices or (group == "experiment" and choice == "null"):
        return choice
    close = difflib.get_close_matches(choice, choices, n=1)
    raise ConfigError(
        group, f"unknown choice '{choice:.60}'" + (f", did you mean {close[0]}?" if close else ""), choices
    )


def expand(overrides: Sequence[str], keys: Collection[str]) -> list[list[str]]:
    """Return the overrides of every job of a sweep: the product of all keys that are given several values.

    Understands what Hydra's own sweeper does: ``a=1,2``, ``range(1,4)``, ``choice(x,y)``, ``glob(*)``.

    Raises
    ------
    ConfigError
        As `check`, and for a sweep over a continuous interval.
    """
    axes: dict[str, list[str]] = {}
    for key, override in _once(overrides, keys, groups(), _SEVERAL):
        axes[key] = [f"{key}={value}" for value in _values(override, key)]
        if not axes[key] or math.prod(map(len, axes.values())) > MOST_JOBS:
            raise ConfigError(key, f"{_value(override)} makes no sweep of this size", f"1 to {MOST_JOBS} jobs in all")
    return [list(job) for job in itertools.product(*axes.values())]


def axes_of(
    overrides: Sequence[str], keys: Collection[str]
) -> tuple[list[str], dict[str, list[str] | tuple[float, float, bool]]]:
    """Return the overrides with one value, and for each key with several what may be chosen of them.

    A list stands for choices, a tuple (low, high, logarithmic) for a continuous interval.

    Raises
    ------
    ConfigError
        As `check`, and for an interval that is none.
    """
    fixed: list[str] = []
    axes: dict[str, list[str] | tuple[float, float, bool]] = {}
    for key, override in _once(overrides, keys, groups(), _SEVERAL):
        if not override.is_sweep_override():
            fixed.append(f"{key}={_value(override)}")
        elif override.is_discrete_sweep():
            axes[key] = _values(override, key)
        else:
            interval: Any = override.value()
            low, high, logarithmic = float(interval.start), float(interval.end), "log" in interval.tags
            if not low < high or (logarithmic and low <= 0):
                raise ConfigError(
                    key, f"{_value(override)} is no interval", "interval(low,high), above 0 with tag(log,...)"
                )
            axes[key] = (low, high, logarithmic)
    return fixed, axes


def _once(
    overrides: Iterable[str], keys: Collection[str], choices: Mapping[str, tuple[str, ...]], allowed: str
) -> Iterator[tuple[str, Override]]:
    """Yield each override with its key, and refuse an unknown key or one that is given twice."""
    seen: set[str] = set()
    for override in _parse(overrides):
        key = _known(override, keys, choices)
        if key in seen:
            raise ConfigError(key, "is given twice", allowed)
        seen.add(key)
        yield key, override


def _parse(overrides: Iterable[str]) -> list[Override]:
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    parser, parsed = OverridesParser.create(), []
    for text in overrides:
        if text.find("=") < 1 and not text.startswith("~"):
            raise ConfigError(f"'{without_password(text)}'", "is not an override", "key=value, such as rounds=5")
        try:
            # No shell replaces the ~ of data.path=~/mine, and Hydra's grammar has no such character.
            parsed.append(parser.parse_override(_HOME.sub(lambda _: os.path.expanduser("~"), text)))
        except HydraException:
            key = text.partition("=")[0].strip()
            raise ConfigError(key, f"cannot read '{without_password(text)}'", _GRAMMAR) from None
    return parsed


def _known(override: Override, keys: Collection[str], choices: Mapping[str, tuple[str, ...]]) -> str:
    key = override.key_or_group
    if override.is_delete():
        raise ConfigError(key, "cannot be removed", f"{key}=VALUE")
    if override.package is not None:
        raise ConfigError(f"{key}@{override.package}", "unknown key", [*choices])
    if key not in keys and key not in choices:
        raise unknown(key, [*keys, *choices])
    section, _, leaf = key.rpartition(".")
    # What conf/ has no file of may be a model that somebody installed (`app.learning.models.installed`).
    other = section == "model" and _value(override) not in choices.get("model", ())
    if leaf == "name" and section in choices and not other:
        raise ConfigError(key, "is set by the choice", [f"{section}={choice}" for choice in choices[section]])
    return key


def _value(override: Override) -> str:
    return override.get_value_string().strip()


def _values(override: Override, key: str) -> list[str]:
    from hydra.errors import HydraException

    if not override.is_sweep_override():
        return [_value(override)]
    if not override.is_discrete_sweep():
        raise ConfigError(key, "an interval cannot be swept", "a=1,2 or range(1,4) or choice(x,y) or glob(*)")
    if override.value_type is not None and override.value_type.name == "GLOB_CHOICE_SWEEP":
        return _glob(override, key)
    try:
        return list(itertools.islice(override.sweep_string_iterator(), MOST_JOBS + 1))
    except (HydraException, ValueError):
        raise ConfigError(
            key, f"cannot sweep over {_value(override)}", "such as range(1,4) or range(0,1,0.25)"
        ) from None


def _glob(override: Override, key: str) -> list[str]:
    from hydra.core.override_parser.types import Glob

    pattern: object = override.value()
    if key not in groups() or not isinstance(pattern, Glob):
        raise ConfigError(key, "glob() chooses among files of conf/", [*groups()])
    found = pattern.filter(list(groups()[key]))
    if not found:
        raise ConfigError(key, f"{_value(override)} matches nothing", groups()[key])
    return found
