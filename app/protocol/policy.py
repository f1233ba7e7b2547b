"""The task's policy: everything a customer, a miner or an auditor must know to do its part, under one digest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from app.protocol.digest import BlobRef, canonical_json, parse_json, sha256
from app.protocol.errors import ProtocolError
from app.protocol.fixed_point import UPDATE_DTYPES, Grid
from app.protocol.tensors import Layout, layout_from_json, layout_to_json

_INTEGERS = (
    "rounds",
    "f",
    "gamma_initial",
    "gamma_max",
    "examples_cap",
    "fractional_bits",
    "copy_cosine",
    "strikes",
    "tau",
    "cohort",
)
_TEXTS = ("aggregator", "evaluation", "weighting", "precision")
_MEMBERS = {*_INTEGERS, *_TEXTS, "layout", "model", "frozen", "config"}


@dataclass(frozen=True, slots=True)
class Policy:
    """The rules of one task; its digest is the task's identity on chain and in every receipt.

    Attributes
    ----------
    rounds : int
        How many rounds the task has.
    f : int
        How many hostile customers the aggregation withstands.
    aggregator : str
        Which rule makes one update of a round's updates: a name of `strategies.aggregation`.
    evaluation : str
        Which rule gives L: ``outlier`` or ``paper``.
    gamma_initial, gamma_max : int
        Reputation at the start and at most.
    examples_cap : int
        An update weighs ``gamma * min(examples, examples_cap, median of the round's claimed examples)``.
    fractional_bits : int
        The grid (`Grid`) that models and updates lie on.
    weighting : str
        By what the sortition of a round's leader weighs the miners: ``equal``, ``stake`` or ``reputation``.
    tau : int
        How many sub-users it selects on average.
    cohort : int
        How many vectors at most are compared pairwise: a round with more valid updates is scored through this many
        buckets (`strategies.bucketing`).
    precision : str
        The integers that an update consists of: ``int16`` or ``int32``.
    copy_cosine : int
        Two updates are near copies from this cosine on, in millionths (`app.mining.copies`).
    strikes : int
        After so many L a customer is excluded: nothing of it is taken any more. 0: nobody is.
    layout : Layout
        Names and shapes of the trained parameters.
    model, frozen : BlobRef
        The initial global model, and the frozen part (phone layers, constants of the head).
    config : dict
        The resolved configuration of the run, for whoever wants to repeat it.
    """

    rounds: int
    f: int
    aggregator: str
    evaluation: str
    gamma_initial: int
    gamma_max: int
    examples_cap: int
    fractional_bits: int
    weighting: str
    tau: int
    cohort: int
    precision: str
    copy_cosine: int
    strikes: int
    layout: Layout
    model: BlobRef
    frozen: BlobRef
    config: dict[str, Any]

    def __post_init__(self) -> None:
        if self.rounds < 1 or self.f < 0 or self.examples_cap < 1 or self.tau < 1:
            raise ProtocolError("a policy has at least one round, an f from 0, an examples_cap and a tau from 1")
        if not 0 <= self.gamma_initial <= self.gamma_max <= 255 or self.gamma_max < 1:
            raise ProtocolError("a policy's reputations are 0 <= gamma_initial <= gamma_max, gamma_max 1 to 255")
        if self.precision not in UPDATE_DTYPES:
            raise ProtocolError(f"a policy's precision is {' or '.join(UPDATE_DTYPES)}, not {self.precision!r:.40}")
        if self.cohort < 2 * self.f + 3:
            raise ProtocolError(f"a policy with f = {self.f} has a cohort of at least {2 * self.f + 3}")
        if not 500_000 <= self.copy_cosine <= 1_000_000 or self.strikes < 0:
            raise ProtocolError("a policy's copy_cosine is 500000 to 1000000 millionths, its strikes are not negative")
        Grid(self.fractional_bits)  # refuses what is out of range

    @property
    def grid(self) -> Grid:
        """The grid that models and updates lie on."""
        return Grid(self.fractional_bits)

    @property
    def update_dtype(self) -> np.dtype[np.signedinteger]:
        """The type of an update's entries."""
        return UPDATE_DTYPES[self.precision]

    @property
    def digest(self) -> bytes:
        """SHA-256 of the canonical text (32 bytes)."""
        return sha256(self.to_bytes())

    def to_bytes(self) -> bytes:
        """Return the canonical JSON text."""
        return canonical_json(
            {name: getattr(self, name) for name in (*_INTEGERS, *_TEXTS, "config")}
            | {"layout": layout_to_json(self.layout), "model": self.model.to_json(), "frozen": self.frozen.to_json()}
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> Policy:
        """Read what `to_bytes` wrote; raise `ProtocolError` on anything else."""
        value = parse_json(data, "a policy")
        if set(value) != _MEMBERS:
            raise ProtocolError("a policy has exactly these members: " + ", ".join(sorted(_MEMBERS)))
        if any(type(value[name]) is not int for name in _INTEGERS):
            raise ProtocolError("these members of a policy are integers: " + ", ".join(_INTEGERS))
        if not all(isinstance(value[name], str) for name in _TEXTS) or not isinstance(value["config"], dict):
            raise ProtocolError(f"a policy's {' and '.join(_TEXTS)} must be text, its config an object")
        policy = cls(
            **{name: value[name] for name in (*_INTEGERS, *_TEXTS, "config")},
            layout=layout_from_json(value["layout"]),
            model=BlobRef.from_json(value["model"]),
            frozen=BlobRef.from_json(value["frozen"]),
        )
        if policy.to_bytes() != data:
            raise ProtocolError("the policy is not in canonical form")
        return policy
