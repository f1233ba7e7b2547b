"""Adversaries for simulations: wrappers around an honest customer, chosen when a simulation is put together.

Honest code knows nothing of them. An attack is a class here and a line in `ATTACKS`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

from app.protocol.errors import ConfigError

if TYPE_CHECKING:
    from app.customer.customer import Contribution, Customer
    from app.protocol.announcement import Announcement


@dataclass(frozen=True, slots=True)
class AttackConfig:
    """Which customers of a simulation are hostile, and how.

    Attributes
    ----------
    name : str
        ``none`` or a key of `ATTACKS`.
    count : int
        How many: the last ``count`` indices of the task are hostile. Not used by ``none``.
    scale : float
        Strength; its meaning is the attack's.

    Raises
    ------
    ConfigError
        If the name is unknown or a number impossible.
    """

    name: str
    count: int
    scale: float

    def __post_init__(self) -> None:
        if self.name != "none" and self.name not in ATTACKS:
            raise ConfigError("attack.name", f"unknown attack {self.name!r}", ["none", *ATTACKS])
        if self.count < 0:
            raise ConfigError("attack.count", f"{self.count} is impossible", "0 or more")
        if not (math.isfinite(self.scale) and self.scale > 0):
            raise ConfigError("attack.scale", f"{self.scale} is impossible", "a positive finite number")

    def hostile(self, index: int, customers: int) -> bool:
        """Tell whether customer ``index`` of ``customers`` is hostile."""
        return self.name != "none" and index >= customers - self.count


class Participant(Protocol):
    """Whoever takes part in rounds, honest or not."""

    @property
    def address(self) -> str:
        """Checksum address."""

    def participate(self, announcement: Announcement, policy: bytes, frozen: bytes, model: bytes) -> Contribution:
        """Take part in a round, see `Customer.participate`."""


class SignFlip:
    """Train honestly, send ``-scale`` times the update (saturating at the grid's range), sign a valid receipt."""

    def __init__(self, customer: Customer, scale: float) -> None:
        self._customer, self._scale = customer, scale

    @property
    def address(self) -> str:
        """Checksum address."""
        return self._customer.address

    def participate(self, announcement: Announcement, policy: bytes, frozen: bytes, model: bytes) -> Contribution:
        """Take part in a round, turned against it."""
        learnt = self._customer.learn(announcement, policy, frozen, model)
        return self._customer.contribute(announcement, replace(learnt, delta=-self._scale * learnt.delta))


ATTACKS: dict[str, Callable[[Customer, float], Participant]] = {"sign_flip": SignFlip}
"""Every attack by name: from an honest customer and a scale to an adversary."""


def adversary(customer: Customer, attack: AttackConfig) -> Participant:
    """Turn a customer hostile."""
    return ATTACKS[attack.name](customer, attack.scale)
