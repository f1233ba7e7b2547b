"""What an audit found: a tree of what was checked, or the first thing that is broken."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from app.protocol.errors import ConfigError, HearthError, LedgerError, StoreUnavailableError

_LONGEST = 300  # characters of a value in a message


class AuditError(HearthError):
    """The evidence contradicts itself, or the rules of the task.

    Parameters
    ----------
    place : str
        The record, as a person would look for it: a file and what in it.
    expected, found : object
        What the audit recomputed, and what the evidence says.
    """

    def __init__(self, place: str, expected: object, found: object) -> None:
        self.place, self.expected, self.found = place, _text(expected), _text(found)
        super().__init__(f"{place}: expected {self.expected}, found {self.found}")


def same(place: str, expected: object, found: object) -> None:
    """Raise `AuditError` unless both are equal."""
    if expected != found:
        raise AuditError(place, expected, found)


def holds(condition: bool, place: str, expected: object, found: object) -> None:
    """Raise `AuditError` unless the condition holds."""
    if not condition:
        raise AuditError(place, expected, found)


def same_json(place: str, expected: Any, found: Any) -> None:
    """Compare two JSON values member by member, so that a failure names the member."""
    if isinstance(expected, dict) and isinstance(found, dict):
        same(f"{place}, members", sorted(expected), sorted(found))
        for name, value in expected.items():
            same_json(f"{place}, {name}", value, found[name])
    elif isinstance(expected, list) and isinstance(found, list):
        same(f"{place}, how many", len(expected), len(found))
        for number, (one, other) in enumerate(zip(expected, found, strict=True)):
            same_json(f"{place}[{number}]", one, other)
    else:
        holds(type(expected) is type(found) and expected == found, place, repr(expected), repr(found))


@dataclass(slots=True)
class Section:
    """One branch of the tree.

    Attributes
    ----------
    name : str
        What was checked.
    counts : collections.Counter
        How many of what.
    seconds : float
        Wall time.
    parts : list of Section
        The branches below it.
    """

    name: str
    counts: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    parts: list[Section] = field(default_factory=list)

    @contextmanager
    def part(self, name: str) -> Iterator[Section]:
        """Check something below this; what goes wrong inside is a failure at ``name``."""
        section = Section(name)
        self.parts.append(section)
        with _timed(section, f"{self.name}, {name}" if self.name else name):
            yield section

    def to_json(self) -> dict[str, Any]:
        """Return the branch as JSON."""
        parts = [part.to_json() for part in self.parts]
        return {"name": self.name, "counts": dict(self.counts), "seconds": round(self.seconds, 3), "parts": parts}


@dataclass(slots=True)
class Report:
    """An audit as it goes on.

    Attributes
    ----------
    subject : str
        What is audited.
    listener : callable
        Is told of every section that has passed.
    sections : list of Section
        What has passed.
    unproven : list of str
        What the evidence alone cannot show.
    ignored : list of str
        Files that are no evidence.
    """

    subject: str
    listener: Callable[[Section], None] = lambda section: None
    sections: list[Section] = field(default_factory=list)
    unproven: list[str] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list)

    @contextmanager
    def section(self, name: str) -> Iterator[Section]:
        """Check one subject; its section is kept once all of it has passed."""
        section = Section(name)
        with _timed(section, name):
            yield section
        self.sections.append(section)
        self.listener(section)

    def to_json(self, failure: AuditError | None) -> dict[str, Any]:
        """Return everything as JSON."""
        broken = failure and {"place": failure.place, "expected": failure.expected, "found": failure.found}
        return {
            "subject": self.subject,
            "ok": failure is None,
            "failure": broken,
            "checked": [section.to_json() for section in self.sections],
            "not_proven": self.unproven,
            "not_evidence": self.ignored,
        }


def listed(names: Sequence[str]) -> str:
    """Return names in one text; ``none`` if there are none."""
    return ", ".join(names) or "none"


@contextmanager
def _timed(section: Section, place: str) -> Iterator[None]:
    start = time.perf_counter()
    try:
        yield
    except (AuditError, ConfigError, LedgerError, StoreUnavailableError):
        raise  # what cannot be reached is not broken
    except HearthError as error:
        raise AuditError(place, "a record that can be read and holds", str(error)) from error
    finally:
        section.seconds = time.perf_counter() - start


def _text(value: object) -> str:
    text = "0x" + value.hex() if isinstance(value, bytes) else str(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
