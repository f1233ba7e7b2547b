"""The customer's accountant: it counts every release before it leaves, and refuses the one too many."""

from __future__ import annotations

import fcntl
import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from decimal import Decimal
from pathlib import Path
from typing import Any

from app.durable import write_privately
from app.privacy.composition import added_up, composed
from app.privacy.cost import COORDINATE, RECORD, PrivacyCost, PrivacySpent
from app.protocol.digest import canonical_json, sha256
from app.protocol.errors import BudgetError, PrivacyError, ProtocolError, StoreError

_FORMAT = "hearth privacy ledger 2"
_MEMBERS = {"previous", "release", "record_set", "parameters", "costs"}
_COST = {field.name for field in fields(PrivacyCost)}
_LONGEST_LINE = 2**13
"""Many times what an entry takes. It also bounds how deeply JSON can nest: some libraries raise Python's recursion
limit so far that a deeper text overflows the stack instead of raising `RecursionError`."""


class Accountant:
    """The ledger of a phone's releases, and the budget that they must stay within.

    The law: a release that has left the phone stands in the ledger. It is kept by counting first: `charge` returns
    only when the entry is on the disk, and the phone sends only after `charge` has returned. A crash in between costs
    budget at worst, never the count.

    Costs are composed over the whole ledger, see `app.privacy.composition`. A digest does not tell whether two record
    sets share a record, so they are taken to.

    Costs of different units are never added up: in a ledger whose unit is a coordinate, those of coordinates and those
    of records are composed apart, and each has to stay within the budget. What everything comes to for a record is
    reported beside it (`PrivacySpent.record_epsilon`). In a ledger whose unit is a record, a release of coordinates
    counts with what it costs a record.

    The file is JSON lines: a head that names the owner, then one line a release, each holding the digest of the line
    before. It is read again at every call, under a lock, so processes and threads may share it.

    Parameters
    ----------
    path : Path
        The ledger; begun by the first charge if there is none.
    owner : str
        Whose ledger it is: the customer's address. Another's is refused.
    epsilon, delta : float
        The budget: what one ``unit`` may lose in all. Infinite epsilon means no promise is made.
    unit : str, default "record"
        ``record`` or ``coordinate``.

    Raises
    ------
    PrivacyError
        From every method, if the ledger is corrupt or another's. It is never reset: whoever has lost the count has
        to take the budget as spent.
    """

    def __init__(self, path: Path, owner: str, epsilon: float, delta: float, unit: str = RECORD) -> None:
        self._path, self._owner, self._unit = path, owner, unit
        self._budget = Decimal(str(epsilon)), Decimal(str(delta))
        self._read()

    def charge(self, release: str, record_set: str, parameters: Mapping[str, Any], *costs: PrivacyCost) -> None:
        """Count a release that is about to leave the phone.

        Parameters
        ----------
        release : str
            Digest of the bytes that will leave, in hexadecimal.
        record_set : str
            Salted digest of the records.
        parameters : mapping
            The mechanism's parameters, for the record.
        *costs : PrivacyCost
            What the release costs: one for each thing that is let out, such as features and labels.

        Raises
        ------
        BudgetError
            If it would exceed the budget; nothing is counted then, and nothing may leave.
        """
        with self._locked():
            lines, entries = self._read()
            self._refuse_beyond_budget(entries, costs)
            lines.append(_Entry(release, record_set, dict(parameters), costs).to_line(lines[-1]))
            write_privately(self._path, b"".join(lines))

    def check(self, *costs: PrivacyCost) -> None:
        """Raise `BudgetError` if a release with these costs would exceed the budget as it stands; count nothing."""
        self._refuse_beyond_budget(self._read()[1], costs)

    def record_sets(self) -> list[str]:
        """Return the salted digests of the record sets of all counted releases, the newest first, each once."""
        return list(dict.fromkeys(entry.record_set for entry in reversed(self._read()[1])))

    def counted(self, release: str) -> bool:
        """Tell whether the ledger counts these very bytes (digest in hexadecimal): they may be sent again for free."""
        return any(entry.release == release for entry in self._read()[1])

    def spent(self) -> PrivacySpent:
        """Return what all releases so far cost together."""
        entries = self._read()[1]
        costs = _costs(entries)
        names = sorted({cost.mechanism for cost in costs}) or ["nothing released"]
        epsilon, delta = self._limited(costs)[self._unit]
        record_epsilon, record_delta = composed(costs, self._budget)
        return PrivacySpent(
            "+".join(names),
            self._unit,
            float(epsilon),
            float(delta),
            sum(max((cost.steps for cost in entry.costs), default=1) for entry in entries),
            float(record_epsilon),
            float(record_delta),
        )

    def _refuse_beyond_budget(self, entries: list[_Entry], costs: tuple[PrivacyCost, ...]) -> None:
        for unit, (epsilon, delta) in self._limited([*_costs(entries), *costs]).items():
            if epsilon > self._budget[0] or delta > self._budget[1]:
                raise BudgetError(
                    f"release refused: epsilon {epsilon}, delta {delta} for a {unit} would exceed the budget of "
                    f"epsilon {self._budget[0]}, delta {self._budget[1]} ({len(entries)} counted in {self._path})"
                )

    def _limited(self, costs: list[PrivacyCost]) -> dict[str, tuple[Decimal, Decimal]]:
        """Return what each unit that the budget limits has lost."""
        if self._unit == RECORD:
            return {RECORD: composed(costs, self._budget)}
        of_coordinates = [cost for cost in costs if cost.unit == COORDINATE]
        of_records = [cost for cost in costs if cost.unit == RECORD]
        return {COORDINATE: added_up(of_coordinates, of_a_record=False), RECORD: composed(of_records, self._budget)}

    def _read(self) -> tuple[list[bytes], list[_Entry]]:
        """Return the ledger's lines, head included, and its entries."""
        head = canonical_json({"ledger": _FORMAT, "owner": self._owner}) + b"\n"
        try:
            lines = self._path.read_bytes().splitlines(keepends=True)
        except FileNotFoundError:
            return [head], []
        except OSError as error:
            raise PrivacyError(f"cannot read the privacy ledger {self._path}: {error.strerror}") from error
        if not lines or lines[0] != head:
            raise PrivacyError(f"{self._path} is not the privacy ledger of {self._owner}; it is left as it is")
        entries = []
        for number, line in enumerate(lines[1:], start=2):
            try:
                if len(line) > _LONGEST_LINE:
                    raise ValueError(f"it is longer than {_LONGEST_LINE} bytes")
                entry = _Entry.from_json(json.loads(line))
                if entry.to_line(lines[number - 2]) != line:
                    raise ValueError("not in canonical form, or the line before was changed")
            except (ProtocolError, PrivacyError, ValueError, RecursionError) as error:
                problem = f"the privacy ledger {self._path} is corrupt at line {number}: {error}"
                raise PrivacyError(f"{problem}; it is left as it is, and nothing is released") from error
            entries.append(entry)
        return lines, entries

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Hold the ledger against every other thread and process; a lock dies with its process."""
        lock = self._path.with_name(self._path.name + ".lock")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            file = open(lock, "ab")  # noqa: SIM115 - closed below, after the caller's part
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError as error:
            raise StoreError(f"cannot lock {lock}: {error.strerror}") from error
        with file:
            yield


@dataclass(frozen=True, slots=True)
class _Entry:
    """One counted release."""

    release: str
    record_set: str
    parameters: dict[str, Any]
    costs: tuple[PrivacyCost, ...]

    def to_line(self, previous: bytes) -> bytes:
        """Return the entry as it follows the line ``previous``; an infinite epsilon is written as null."""
        record = {
            "previous": sha256(previous).hex(),
            "release": self.release,
            "record_set": self.record_set,
            "parameters": self.parameters,
            "costs": [_plain(cost) for cost in self.costs],
        }
        line = canonical_json(record) + b"\n"
        if len(line) > _LONGEST_LINE:
            raise PrivacyError(f"a ledger entry of {len(line)} bytes is too long (at most {_LONGEST_LINE})")
        return line

    @classmethod
    def from_json(cls, value: Any) -> _Entry:
        if not isinstance(value, dict) or set(value) != _MEMBERS:
            raise ValueError("an entry has exactly these members: " + ", ".join(sorted(_MEMBERS)))
        if not all(isinstance(value[name], str) for name in ("previous", "release", "record_set")):
            raise ValueError("a member has the wrong type")
        if not isinstance(value["parameters"], dict) or not isinstance(value["costs"], list):
            raise ValueError("a member has the wrong type")
        costs = tuple(_cost(part) for part in value["costs"])
        return cls(value["release"], value["record_set"], value["parameters"], costs)


def _costs(entries: list[_Entry]) -> list[PrivacyCost]:
    return [cost for entry in entries for cost in entry.costs]


def _plain(cost: PrivacyCost) -> dict[str, Any]:
    """Return a cost as JSON; infinity, which JSON does not have, as text."""
    return {name: "infinite" if value == math.inf else value for name, value in asdict(cost).items()}


def _cost(value: Any) -> PrivacyCost:
    if not isinstance(value, dict) or set(value) != _COST:
        raise ValueError("a cost has exactly these members: " + ", ".join(sorted(_COST)))
    members: dict[str, Any] = {name: math.inf if part == "infinite" else part for name, part in value.items()}
    texts, steps = (members["mechanism"], members["unit"]), members["steps"]
    numbers = [members[name] for name in ("epsilon", "delta", "sampling_rate")]
    numbers += [members[name] for name in ("record_epsilon", "noise_multiplier") if members[name] is not None]
    if not all(isinstance(text, str) for text in texts) or type(steps) is not int:
        raise ValueError("a member of a cost has the wrong type")
    if not all(type(number) is float and not math.isnan(number) for number in numbers):
        raise ValueError("the numbers of a cost must be numbers")
    return PrivacyCost(**members)
