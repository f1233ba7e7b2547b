"""The customer's accountant: it counts every release before it leaves, and refuses the one too many."""

from __future__ import annotations

import fcntl
import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from app.durable import write_privately
from app.privacy.cost import PrivacyCost, PrivacySpent
from app.protocol.digest import canonical_json, sha256
from app.protocol.errors import PrivacyError, ProtocolError, StoreError

_FORMAT = "hearth privacy ledger 1"
_MEMBERS = {"previous", "release", "record_set", "parameters", "mechanism", "unit", "epsilon", "delta"}
_LONGEST_LINE = 2**13
"""Many times what an entry takes. It also bounds how deeply JSON can nest: some libraries raise Python's recursion
limit so far that a deeper text overflows the stack instead of raising `RecursionError`."""


class Accountant:
    """The ledger of a phone's releases, and the budget that they must stay within.

    The law: a release that has left the phone stands in the ledger. It is kept by counting first: `charge` returns
    only when the entry is on the disk, and the phone sends only after `charge` has returned. A crash in between costs
    budget at worst, never the count.

    Costs add up over the whole ledger (basic composition): epsilons and deltas of all releases. A digest does not
    tell whether two record sets share a record, so they are taken to. Tighter composition, and parallel composition
    of record sets that are known to be disjoint, would replace `_compose` alone.

    The file is JSON lines: a head that names the owner, then one line a release, each holding the digest of the line
    before. It is read again at every call, under a lock, so processes and threads may share it.

    Parameters
    ----------
    path : Path
        The ledger; begun by the first charge if there is none.
    owner : str
        Whose ledger it is: the customer's address. Another's is refused.
    epsilon, delta : float
        The budget: what one record may lose in all. Infinite epsilon means no promise is made.

    Raises
    ------
    PrivacyError
        From every method, if the ledger is corrupt or another's. It is never reset: whoever has lost the count has
        to take the budget as spent.
    """

    def __init__(self, path: Path, owner: str, epsilon: float, delta: float) -> None:
        self._path, self._owner = path, owner
        self._epsilon, self._delta = Decimal(str(epsilon)), Decimal(str(delta))
        self._read()

    def charge(self, release: str, record_set: str, parameters: Mapping[str, Any], cost: PrivacyCost) -> None:
        """Count a release that is about to leave the phone.

        Parameters
        ----------
        release : str
            Digest of the bytes that will leave, in hexadecimal.
        record_set : str
            Salted digest of the records.
        parameters : mapping
            The mechanism's parameters, for the record.
        cost : PrivacyCost
            What the release costs.

        Raises
        ------
        PrivacyError
            If it would exceed the budget; nothing is counted then, and nothing may leave.
        """
        with self._locked():
            lines, entries = self._read()
            entry = _Entry(release, record_set, dict(parameters), cost)
            epsilon, delta = _compose([*entries, entry])
            if epsilon > self._epsilon or delta > self._delta:
                raise PrivacyError(
                    f"release refused: epsilon {epsilon}, delta {delta} would exceed the budget of epsilon "
                    f"{self._epsilon}, delta {self._delta} ({len(entries)} counted in {self._path})"
                )
            lines.append(entry.to_line(lines[-1]))
            write_privately(self._path, b"".join(lines))

    def counted(self, release: str) -> bool:
        """Tell whether the ledger counts these very bytes (digest in hexadecimal): they may be sent again for free."""
        return any(entry.release == release for entry in self._read()[1])

    def spent(self) -> PrivacySpent:
        """Return what all releases so far cost together."""
        entries = self._read()[1]
        epsilon, delta = _compose(entries)
        names = sorted({entry.cost.mechanism for entry in entries}) or ["nothing released"]
        units = sorted({entry.cost.unit for entry in entries}) or ["record"]
        return PrivacySpent("+".join(names), "+".join(units), float(epsilon), float(delta), len(entries))

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
    cost: PrivacyCost

    def to_line(self, previous: bytes) -> bytes:
        """Return the entry as it follows the line ``previous``; an infinite epsilon is written as null."""
        record = {
            "previous": sha256(previous).hex(),
            "release": self.release,
            "record_set": self.record_set,
            "parameters": self.parameters,
            "mechanism": self.cost.mechanism,
            "unit": self.cost.unit,
            "epsilon": self.cost.epsilon if math.isfinite(self.cost.epsilon) else None,
            "delta": self.cost.delta,
        }
        line = canonical_json(record) + b"\n"
        if len(line) > _LONGEST_LINE:
            raise PrivacyError(f"a ledger entry of {len(line)} bytes is too long (at most {_LONGEST_LINE})")
        return line

    @classmethod
    def from_json(cls, value: Any) -> _Entry:
        if not isinstance(value, dict) or set(value) != _MEMBERS:
            raise ValueError("an entry has exactly these members: " + ", ".join(sorted(_MEMBERS)))
        texts = ("previous", "release", "record_set", "mechanism", "unit")
        if not all(isinstance(value[name], str) for name in texts) or not isinstance(value["parameters"], dict):
            raise ValueError("a member has the wrong type")
        epsilon = math.inf if value["epsilon"] is None else _number(value["epsilon"])
        cost = PrivacyCost(value["mechanism"], value["unit"], epsilon, _number(value["delta"]))
        return cls(value["release"], value["record_set"], value["parameters"], cost)


def _number(value: object) -> float:
    if type(value) is not float or not math.isfinite(value):
        raise ValueError("epsilon and delta must be finite numbers")
    return value


def _compose(entries: list[_Entry]) -> tuple[Decimal, Decimal]:
    """Add up, exactly, the decimal numbers that people wrote: three times 0.1 is 0.3 here."""
    epsilon = sum((Decimal(str(entry.cost.epsilon)) for entry in entries), Decimal(0))
    delta = sum((Decimal(str(entry.cost.delta)) for entry in entries), Decimal(0))
    return epsilon, delta
