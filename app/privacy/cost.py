"""What a release costs, and what was spent in all."""

from __future__ import annotations

import math
from dataclasses import dataclass

from app.protocol.errors import PrivacyError

NEIGHBOURS = "replace one record"
"""The neighbouring relation of every guarantee stated here: two data sets of equal size that differ in one record."""

RECORD, COORDINATE = "record", "coordinate"
UNITS = (RECORD, COORDINATE)


@dataclass(frozen=True, slots=True)
class PrivacyCost:
    """The guarantee of one step that lets something out: (epsilon, delta)-differential privacy for one ``unit``.

    Attributes
    ----------
    mechanism : str
        What it is: ``gaussian``, ``laplace``, ``paper``, ``randomized_response`` (labels), ``dp_sgd``, or ``none``.
    unit : str
        What is protected, under the relation `NEIGHBOURS`: a whole ``record``, or, in the paper's mode, one
        ``coordinate`` of its features, looked at alone.
    epsilon, delta : float
        An infinite epsilon says that nothing is promised.
    record_epsilon : float, optional
        What it comes to for a record; epsilon itself where the unit is a record.
    noise_multiplier : float, optional
        Of Gaussian steps: standard deviation over sensitivity. With it several of them compose more tightly. For
        ``gaussian`` the sensitivity is to replacing a record; for ``dp_sgd`` it is the norm that gradients are clipped
        to, as in Opacus.
    sampling_rate : float, default 1
        Of ``dp_sgd``: the probability with which a record is in a step (Poisson sampling).
    steps : int, default 1
        How many steps of this kind, one after the other, are counted together.

    Raises
    ------
    PrivacyError
        If a number is negative or NaN: no release gives privacy back.
    """

    mechanism: str
    unit: str
    epsilon: float
    delta: float
    record_epsilon: float | None = None
    noise_multiplier: float | None = None
    sampling_rate: float = 1.0
    steps: int = 1

    def __post_init__(self) -> None:
        if not (self.epsilon >= 0 and 0 <= self.delta <= 1):
            raise PrivacyError(f"a release cannot cost epsilon {self.epsilon}, delta {self.delta}")
        if self.unit not in UNITS:
            raise PrivacyError(f"a release protects a record or a coordinate, not {self.unit!r}")
        if self.record_epsilon is None and self.unit == COORDINATE:
            raise PrivacyError("what a release of coordinates costs a record must be said")
        if self.record_epsilon is not None and not self.record_epsilon >= 0:
            raise PrivacyError(f"a release cannot cost a record epsilon {self.record_epsilon}")
        if self.noise_multiplier is not None and not (0 < self.noise_multiplier < math.inf):
            raise PrivacyError(f"a noise multiplier is positive and finite, not {self.noise_multiplier}")
        if not (0 < self.sampling_rate <= 1 and self.steps >= 1):
            raise PrivacyError("a sampling rate lies in (0, 1], and there is at least one step")

    @property
    def for_a_record(self) -> float:
        """Epsilon for a record."""
        return self.epsilon if self.record_epsilon is None else self.record_epsilon


@dataclass(frozen=True, slots=True)
class PrivacySpent:
    """Everything released so far, composed, as it bounds the most exposed record.

    Attributes
    ----------
    mechanism : str
        The mechanisms that were used, joined by ``+``; ``nothing released`` if there was none.
    unit : str
        What ``epsilon`` and ``delta`` protect, and the budget limits: ``record`` or ``coordinate``.
    epsilon, delta : float
        The composed guarantee.
    releases : int
        How many releases were counted; a joint extractor and DP-SGD make one in every step. Sending the bytes of an
        earlier release again is none.
    record_epsilon, record_delta : float
        What everything comes to for a record, labels included where they are randomised. The same as ``epsilon`` and
        ``delta`` where the unit is a record.
    """

    mechanism: str
    unit: str
    epsilon: float
    delta: float
    releases: int
    record_epsilon: float
    record_delta: float
