"""The form of a task's records: what a model must know to be built, and everybody may know."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

from app.learning.data import DataSummary, Kind
from app.protocol.errors import ProtocolError
from app.protocol.shapes import Shape, check, count, sequence

_KINDS = ("signal", "image", "table")
_MOST_CLASSES, _MOST_SIDE = 10_000, 2**20


@dataclass(frozen=True, slots=True)
class RecordForm:
    """What the records of a task look like.

    Attributes
    ----------
    kind : str
        ``signal``, ``image`` or ``table``.
    input_shape : tuple of int
        Shape of one record; ``()`` for signals, whose lengths differ.
    classes : tuple of str
        Names of the classes.
    records : int
        How many all customers have together, as far as the manufacturer knows: heads weigh what they start with by it.
    """

    kind: Kind
    input_shape: tuple[int, ...]
    classes: tuple[str, ...]
    records: int

    @classmethod
    def of(cls, summary: DataSummary) -> RecordForm:
        """Return the form of the records that a summary is of."""
        return cls(summary.kind, summary.input_shape, summary.classes, max(1, sum(summary.per_customer)))

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "kind": self.kind,
            "shape": list(self.input_shape),
            "classes": list(self.classes),
            "records": self.records,
        }

    @classmethod
    def from_json(cls, value: Any) -> RecordForm:
        """Read what `to_json` wrote; raise `ProtocolError` on anything else."""
        check(value, _FORM, "the form of the records")
        shape, classes = value["shape"], value["classes"]
        if len(shape) > 3 or not all(type(side) is int and 0 < side <= _MOST_SIDE for side in shape):
            raise ProtocolError("a record's shape has up to three sides")
        if not 0 < len(classes) <= _MOST_CLASSES or not all(type(name) is str for name in classes):
            raise ProtocolError("the classes of a task are texts")
        return cls(cast("Kind", value["kind"]), tuple(shape), tuple(classes), max(1, value["records"]))


def _kind(value: object) -> bool:
    return value in _KINDS


_FORM: Shape = {"kind": _kind, "shape": sequence, "classes": sequence, "records": count}
