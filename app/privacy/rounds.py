"""How one customer protects a task in which every round lets something new of its records out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from app.privacy.config import PrivacyConfig
from app.privacy.cost import PrivacyCost
from app.privacy.exposure import Exposure, gradient_multiplier, round_costs, steps_of_a_round
from app.privacy.mechanism import Mechanism, mechanism_of
from app.privacy.normalisation import FeatureSpace
from app.privacy.randomness import RandomSource


@dataclass(frozen=True, slots=True)
class RoundProtection:
    """What a phone needs to protect each round.

    Attributes
    ----------
    config : PrivacyConfig
        The task's.
    exposure : Exposure
        How often records are exposed.
    source : callable
        From a purpose, which names the round, to a source of noise that no other purpose has.
    """

    config: PrivacyConfig
    exposure: Exposure
    source: Callable[[str], RandomSource]

    @property
    def noised_gradients(self) -> bool:
        """Whether the phone's own gradients have noise: always, unless nothing is promised."""
        return self.config.mechanism != "none"

    @property
    def noise_multiplier(self) -> float:
        """Z of the gradients, see `app.privacy.exposure.gradient_multiplier`."""
        return gradient_multiplier(self.config, self.exposure)

    def mechanism(self, round_number: int) -> Mechanism:
        """Return how the features of a round are released."""
        return mechanism_of(self.config, self.source(f"features, round {round_number}"), self.exposure)

    def gradients(self, round_number: int) -> RandomSource:
        """Return where the noise on a round's gradients comes from."""
        return self.source(f"gradients, round {round_number}")

    def costs(self, mechanism: Mechanism, records: int, space: FeatureSpace) -> tuple[PrivacyCost, ...]:
        """Return what a round costs."""
        return round_costs(self.config, self.exposure, mechanism.cost(records, space))

    def parameters(self, mechanism: Mechanism, round_number: int) -> dict[str, Any]:
        """Return how a round is protected, for the ledger."""
        stated: dict[str, Any] = {"round": round_number, "steps": steps_of_a_round(self.config, self.exposure)}
        if self.noised_gradients:
            stated |= {"clip_gradient": self.config.clip_gradient, "noise_multiplier": self.noise_multiplier}
        return mechanism.parameters | stated
