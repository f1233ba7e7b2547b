"""Adversaries for simulations: wrappers around an honest customer, chosen when a simulation is put together.

Honest code knows nothing of them. An attack is a class of `attackers`, a line in `_CLASSES` and a name in
`config.ATTACKS`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from app.customer.attacks.config import ATTACKS, COLLUDING, SCALED, SPYING, AttackConfig

if TYPE_CHECKING:
    from app.customer.attacks.crew import Simulation
    from app.customer.customer import Contribution
    from app.protocol.announcement import Announcement

__all__ = ["ATTACKS", "COLLUDING", "SCALED", "SPYING", "AttackConfig", "Participant", "adversary"]


class Participant(Protocol):
    """Whoever takes part in rounds, honest or not."""

    @property
    def address(self) -> str:
        """Checksum address."""

    def participate(self, announcement: Announcement, policy: bytes, frozen: bytes, model: bytes) -> Contribution:
        """Take part in a round, see `Customer.participate`."""


def adversary(simulation: Simulation, attack: AttackConfig, index: int) -> Participant:
    """Return customer ``index`` of a simulation, turned hostile."""
    from app.customer.attacks import attackers
    from app.customer.attacks.crew import Crew

    classes: dict[str, type[attackers.Attacker]] = {
        "sign_flip": attackers.SignFlip,
        "label_flip": attackers.LabelFlip,
        "gaussian": attackers.Gaussian,
        "alie": attackers.Colluder,
        "ipm": attackers.Colluder,
        "min_max": attackers.Colluder,
        "copycat": attackers.Copycat,
        "free_rider": attackers.FreeRider,
        "replay": attackers.Replay,
        "zero": attackers.Zero,
        "inflate": attackers.Inflate,
        "intermittent": attackers.Intermittent,
        "silent": attackers.Silent,
        "malformed": attackers.Malformed,
    }
    return classes[attack.name](Crew(simulation, attack, index))
