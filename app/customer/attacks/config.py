"""Which customers of a simulation are hostile, and how."""

from __future__ import annotations

import math
from dataclasses import dataclass

from app.protocol.errors import ConfigError

KNOWLEDGE = ("omniscient", "colluders")
ATTACKS = (
    "sign_flip",
    "label_flip",
    "gaussian",
    "alie",
    "ipm",
    "min_max",
    "copycat",
    "free_rider",
    "replay",
    "zero",
    "inflate",
    "intermittent",
    "silent",
    "malformed",
)
"""Every attack by name; `app.customer.attacks.adversary` has the class of each."""
SCALED = ("sign_flip", "gaussian", "alie", "ipm", "min_max", "copycat", "free_rider", "inflate", "intermittent")
"""Those that have a strength."""
COLLUDING = ("alie", "ipm", "min_max")
"""Those whose update is made of others' honest updates."""
SPYING = (*COLLUDING, "copycat")
"""Those that recompute updates of other customers, which only noise from a seed allows."""


@dataclass(frozen=True, slots=True)
class AttackConfig:
    """Which customers of a simulation are hostile, and how.

    Attributes
    ----------
    name : str
        ``none`` or one of `ATTACKS`.
    count : int
        How many: the last ``count`` indices of the task are hostile. Not used by ``none``.
    scale : float
        Strength; its meaning is the attack's, see conf/attack. Used by `SCALED`.
    knowledge : str
        Whose honest updates the attacks of `COLLUDING` are made of: ``omniscient``, those of all honest customers, as
        the literature assumes of a worst case; or ``colluders``, only what the hostile customers themselves would
        have sent, which is all that a group has that reads nobody else's updates.
    jitter : float
        Length of the noise that each of these adds of its own, relative to the update's: with none, colluders send
        the same update and are caught as each other's copies.

    Raises
    ------
    ConfigError
        If the name is unknown or a number impossible.
    """

    name: str
    count: int
    scale: float
    knowledge: str
    jitter: float

    def __post_init__(self) -> None:
        if self.name != "none" and self.name not in ATTACKS:
            raise ConfigError("attack.name", f"unknown attack {self.name!r}", ["none", *ATTACKS])
        if self.count < 0:
            raise ConfigError("attack.count", f"{self.count} is impossible", "0 or more")
        if not (math.isfinite(self.scale) and self.scale > 0):
            raise ConfigError("attack.scale", f"{self.scale} is impossible", "a positive finite number")
        if self.knowledge not in KNOWLEDGE:
            raise ConfigError("attack.knowledge", f"{self.knowledge!r} is not known", KNOWLEDGE)
        if not 0 <= self.jitter <= 1:
            raise ConfigError("attack.jitter", f"{self.jitter} is impossible", "0 to 1")

    def hostile(self, index: int, customers: int) -> bool:
        """Tell whether customer ``index`` of ``customers`` is hostile."""
        return self.name != "none" and index >= customers - self.count

    def crew(self, customers: int) -> range:
        """Return the indices of the hostile customers."""
        return range(customers - (self.count if self.name != "none" else 0), customers)
