"""What a release costs, and what was spent in all."""

from __future__ import annotations

from dataclasses import dataclass

from app.protocol.errors import PrivacyError

NEIGHBOURS = "replace one record"
"""The neighbouring relation of every guarantee stated here: two data sets of equal size that differ in one record."""


@dataclass(frozen=True, slots=True)
class PrivacyCost:
    """The guarantee of one release of features: (epsilon, delta)-differential privacy for one ``unit``.

    Labels are not covered: they leave the phone in the clear.

    Attributes
    ----------
    mechanism : str
        ``gaussian`` or ``none``.
    unit : str
        What is protected: ``record``, under the relation `NEIGHBOURS`.
    epsilon, delta : float
        An infinite epsilon says that nothing is promised.

    Raises
    ------
    PrivacyError
        If epsilon or delta is negative or NaN: no release gives privacy back.
    """

    mechanism: str
    unit: str
    epsilon: float
    delta: float

    def __post_init__(self) -> None:
        if not (self.epsilon >= 0 and 0 <= self.delta <= 1):
            raise PrivacyError(f"a release cannot cost epsilon {self.epsilon}, delta {self.delta}")


@dataclass(frozen=True, slots=True)
class PrivacySpent:
    """Everything released so far, composed, as it bounds the most exposed record.

    Attributes
    ----------
    mechanism : str
        The mechanisms that were used, joined by ``+``; ``nothing released`` if there was none.
    unit : str
        What is protected.
    epsilon, delta : float
        The composed guarantee.
    releases : int
        How many releases were counted. Sending the bytes of an earlier release again is none.
    """

    mechanism: str
    unit: str
    epsilon: float
    delta: float
    releases: int
