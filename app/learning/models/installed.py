"""Models that somebody installed beside ours: packages with an entry point in the group ``hearth.models``.

A task names such a model as it names one of ours, ``model.name=NAME``; what runs under that name is what the owner of
each machine has installed there. A task itself brings no code, so it cannot make a phone run any.

The entry point names a module (or another object) with

* ``KINDS``: the kinds of records that it reads, of ``signal``, ``image`` and ``table``;
* ``shape(input_shape)``: the shape of one record as `prepare` makes it, for records of that shape;
* ``stages(shape, bottleneck)``: its stages in order, by name, as `torch.nn.Module`; the last one is ``bottleneck``, and
  gives that many features of L2 norm 1 (`app.learning.models.phone.UnitNorm`);
* ``prepare(inputs)``: records as a float32 tensor (n, *shape), each record by itself;
* ``augment(inputs, generator)``: varied copies of the manufacturer's public records.

No stage may look at other records of a batch: features are released record by record.
"""

from __future__ import annotations

from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from app.protocol.errors import ConfigError

GROUP = "hearth.models"
_NEEDED = ("KINDS", "shape", "stages", "prepare", "augment")


@cache
def _found() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=GROUP)}


def names() -> tuple[str, ...]:
    """Return the names of the installed models; nothing of them is imported."""
    return tuple(sorted(_found()))


@cache
def load(name: str) -> Any:
    """Return an installed model.

    Raises
    ------
    ConfigError
        If it cannot be imported, or lacks one of the members that this module lists.
    """
    point = _found()[name]
    try:
        model = point.load()
    except Exception as error:  # somebody else's code, whatever it raises
        raise ConfigError("model.name", f"{name} ({point.value}) cannot be imported: {error}") from error
    missing = [member for member in _NEEDED if not hasattr(model, member)]
    if missing:
        raise ConfigError("model.name", f"{name} ({point.value}) has no {missing[0]}", _NEEDED)
    return model
