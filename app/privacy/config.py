"""What a run says about privacy."""

from __future__ import annotations

import math
from dataclasses import dataclass

from app.protocol.errors import ConfigError

MECHANISM_OF = {"record": "gaussian", "none": "none"}
"""The modes by name, and the mechanism that each rests on."""

RANDOMNESS = ("seeded-insecure", "system")


@dataclass(frozen=True, slots=True)
class PrivacyConfig:
    """How features are protected before they leave the phone.

    Attributes
    ----------
    name : str
        The mode: ``record`` (record-level differential privacy) or ``none`` (features leave in the clear).
    mechanism : str
        ``gaussian`` for ``record``, ``none`` for ``none``.
    epsilon, delta : float
        What one record may lose over the whole task; the noise is calibrated to it. Not used by ``none``.
    budget : float
        The epsilon beyond which the customer's accountant refuses a release; at least ``epsilon``.
    clip : float
        L2 norm that a record's features are clipped to.
    randomness : str
        ``system`` (the operating system's) or ``seeded-insecure`` (repeatable, for simulation only).

    Raises
    ------
    ConfigError
        If a value is unknown or impossible; the key is named as the user types it.
    """

    name: str
    mechanism: str
    epsilon: float
    delta: float
    budget: float
    clip: float
    randomness: str

    def __post_init__(self) -> None:
        if self.name not in MECHANISM_OF:
            raise ConfigError("privacy.name", f"unknown mode {self.name!r}", MECHANISM_OF)
        if self.mechanism != MECHANISM_OF[self.name]:
            raise ConfigError("privacy.mechanism", f"{self.mechanism!r} is not {self.name}'s", MECHANISM_OF[self.name])
        if self.randomness not in RANDOMNESS:
            raise ConfigError("privacy.randomness", f"unknown generator {self.randomness!r}", RANDOMNESS)
        if self.name == "none":
            return
        for key in ("epsilon", "budget", "clip"):
            if not (math.isfinite(getattr(self, key)) and getattr(self, key) > 0):
                raise ConfigError(f"privacy.{key}", f"{getattr(self, key)} is impossible", "a positive finite number")
        if not 0 < self.delta < 1:
            raise ConfigError("privacy.delta", f"{self.delta} is impossible", "a number between 0 and 1")
        if self.budget < self.epsilon:
            problem = f"{self.budget} does not pay for one release at privacy.epsilon={self.epsilon}"
            raise ConfigError("privacy.budget", problem, f"{self.epsilon} or more")
