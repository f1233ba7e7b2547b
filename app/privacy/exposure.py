"""Tasks that let something of a record out in every step: how often, with how much noise, and what a round costs.

A frozen extractor releases a record once, and whatever is learnt of the release costs nothing more. Two choices give
that up. With a *joint* extractor the phone's layers learn too (Zhao et al. 2020, section IV): features are released
anew in every step, and the phone's own update, which follows from raw records and not from what was released, needs
DP-SGD beside it. With ``privacy=dp_sgd`` the MEC server may see everything, and the head's gradients have the noise.

The noise is such that all steps of the task together cost what the configuration says. T is their number, s(epsilon,
delta) the scale of the analytic Gaussian mechanism (`app.privacy.calibration`), z a noise multiplier as in Opacus: the
deviation over the norm a gradient is clipped to. Replacing a record moves the sum of clipped gradients by up to twice
that norm. A MEC server that sees the features knows who is in a batch, and each epoch has each record in one batch:
there is no amplification by sampling, and T counts epochs. T Gaussian steps of scale m (over sensitivity) cost what one
of m / sqrt(T) does, so

* the phone's layers have z = 2 sqrt(T) s(epsilon_phone, delta),
* released features have m with 1 / m**2 = (1 / s(epsilon, delta)**2 - 1 / s(epsilon_phone, delta)**2) / T,

and everything together is (epsilon, delta)-private. For the head's own DP-SGD batches are sampled and nobody sees them:
z is found by privacy-loss distributions (`app.privacy.composition`).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import lru_cache

from app.privacy.calibration import gaussian_epsilon, gaussian_scale
from app.privacy.composition import composed, dp_sgd_cost
from app.privacy.config import PrivacyConfig
from app.privacy.cost import RECORD, PrivacyCost
from app.protocol.errors import ConfigError

_PRECISION = 1e-3  # of a noise multiplier that is searched for
_LEAST = 0.2  # noise multiplier: with less, a hundred of epsilon is spent in a step
_MOST = 2.0**12
_SLACKS = (0.0, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2)
"""By how much the noise is more than the formula says: privacy-loss distributions are rounded against us, and the
accountant, which goes by them, must not refuse the last round for it."""


@dataclass(frozen=True, slots=True)
class Exposure:
    """How often a task lets something of each record out.

    Attributes
    ----------
    rounds, epochs : int
        Of the task, and passes over the records in each round.
    joint : bool
        Whether the phone's layers learn too.
    """

    rounds: int = 1
    epochs: int = 1
    joint: bool = False

    @property
    def passes(self) -> int:
        """T: passes over a record in the whole task."""
        return self.rounds * self.epochs


ONCE = Exposure()
"""A frozen extractor: each record is released once."""


def by_rounds(config: PrivacyConfig, exposure: Exposure) -> bool:
    """Tell whether every round of a task lets something new of the records out."""
    return exposure.joint or config.mechanism == "dp_sgd"


def steps_of_a_round(config: PrivacyConfig, exposure: Exposure) -> int:
    """Return how many times a round lets something of a record out."""
    return exposure.epochs * (round(1 / config.sampling_rate) if config.mechanism == "dp_sgd" else 1)


def features_multiplier(config: PrivacyConfig, exposure: Exposure) -> float:
    """Return m, the deviation of the noise on released features over their sensitivity; ``gaussian`` only."""
    if not exposure.joint:
        return gaussian_scale(config.epsilon_features, config.delta)
    return _joint_multipliers(config, exposure)[0]


def gradient_multiplier(config: PrivacyConfig, exposure: Exposure) -> float:
    """Return z, the deviation of the noise on a sum of gradients over the norm that each is clipped to."""
    if config.mechanism == "dp_sgd":
        steps = exposure.rounds * steps_of_a_round(config, exposure)
        return _sampled_multiplier(config.epsilon, config.delta, config.sampling_rate, steps)
    if config.mechanism == "gaussian":
        return _joint_multipliers(config, exposure)[1]
    return _phone_multiplier(config.for_phone, config.delta, exposure.passes)


def round_costs(config: PrivacyConfig, exposure: Exposure, features: PrivacyCost) -> tuple[PrivacyCost, ...]:
    """Return what one round costs a record, as a customer's accountant counts it.

    Parameters
    ----------
    config : PrivacyConfig
        The task's; `by_rounds` holds.
    exposure : Exposure
        How often.
    features : PrivacyCost
        What one release of the features costs; not used by ``dp_sgd``, whose features stay with the customer.
    """
    if config.mechanism == "none":
        return (features,)
    multiplier, steps = gradient_multiplier(config, exposure), steps_of_a_round(config, exposure)
    if config.mechanism == "dp_sgd":
        return (dp_sgd_cost(multiplier, config.sampling_rate, steps, config.delta),)
    return _released(features, steps, config.delta), _phone_part(multiplier, steps, config.delta)


def require_possible(config: PrivacyConfig, exposure: Exposure) -> None:
    """Raise `ConfigError` where a task by rounds cannot have the guarantee, or its budget does not pay for it."""
    if exposure.joint and config.mechanism == "laplace":
        problem = "privacy.mechanism=laplace is made for a single release of a record, and a joint extractor has many"
        raise ConfigError("model.extractor", problem, "frozen, or privacy=record|paper|none")
    if exposure.joint and config.mechanism == "dp_sgd":
        problem = "privacy=dp_sgd protects the head alone, and a joint extractor learns on the phone"
        raise ConfigError("model.extractor", problem, "frozen, or privacy=record|paper|none")
    if exposure.joint and config.flips_labels:
        problem = "randomised labels are released once, and a joint extractor releases records many times"
        raise ConfigError("privacy.labels", problem, "clear, or model.extractor=frozen")
    if exposure.joint and config.mechanism == "gaussian" and config.for_phone >= config.epsilon:
        problem = f"{config.for_phone} leaves nothing of privacy.epsilon={config.epsilon} to the features"
        raise ConfigError("privacy.epsilon_phone", problem, f"a number below {config.epsilon}")
    if exposure.joint and config.mechanism == "paper":
        needed = float(max(Decimal(str(config.epsilon)) * exposure.passes, Decimal(str(config.for_phone))))
        if config.budget < needed:
            problem = f"{config.budget} does not pay for {exposure.passes} releases at privacy.epsilon={config.epsilon}"
            raise ConfigError("privacy.budget", problem, f"{needed} or more, or fewer rounds and train.epochs")


def _released(features: PrivacyCost, steps: int, delta: float) -> PrivacyCost:
    """Return what ``steps`` releases of features cost, each of them by itself costing ``features``."""
    if features.noise_multiplier is not None:
        epsilon = gaussian_epsilon(features.noise_multiplier / math.sqrt(steps), delta)
        return replace(features, epsilon=epsilon, delta=delta, steps=steps)
    of_all = float(Decimal(str(features.epsilon)) * steps)
    return replace(features, epsilon=of_all, record_epsilon=features.for_a_record * steps, steps=steps)


def _phone_part(multiplier: float, steps: int, delta: float) -> PrivacyCost:
    """Return what ``steps`` steps of DP-SGD cost a record that is in each of them, as everybody may know."""
    epsilon = gaussian_epsilon(multiplier / (2.0 * math.sqrt(steps)), delta)
    return PrivacyCost("dp_sgd", RECORD, epsilon, delta, noise_multiplier=multiplier, steps=steps)


@lru_cache(maxsize=64)
def _joint_multipliers(config: PrivacyConfig, exposure: Exposure) -> tuple[float, float]:
    """Return m of the features and z of the phone's layers, for ``gaussian``; all steps of both cost epsilon."""
    delta, passes = config.delta, exposure.passes
    total, phone = gaussian_scale(config.epsilon, delta), gaussian_scale(config.for_phone, delta)
    features = 1.0 / math.sqrt(1.0 / total**2 - 1.0 / phone**2)

    def noises(slack: float) -> tuple[float, float]:
        return features * math.sqrt(passes) * slack, 2.0 * phone * math.sqrt(passes) * slack

    def costs(slack: float) -> tuple[PrivacyCost, ...]:
        m, z = noises(slack)
        one = PrivacyCost("gaussian", RECORD, gaussian_epsilon(m, delta), delta, noise_multiplier=m)
        return _released(one, passes, delta), _phone_part(z, passes, delta)

    return noises(_slack(costs, config.epsilon, delta))


@lru_cache(maxsize=64)
def _phone_multiplier(epsilon: float, delta: float, passes: int) -> float:
    """Return z with which ``passes`` steps of the phone's layers alone cost (epsilon, delta)."""
    exact = 2.0 * math.sqrt(passes) * gaussian_scale(epsilon, delta)
    return exact * _slack(lambda slack: (_phone_part(exact * slack, 1, delta),) * passes, epsilon, delta)


def _slack(costs: Callable[[float], tuple[PrivacyCost, ...]], epsilon: float, delta: float) -> float:
    """Return the least factor on the noise with which the accountant finds ``costs`` within (epsilon, delta)."""
    budget = Decimal(str(epsilon)), Decimal(str(delta))
    for slack in _SLACKS:
        spent = composed(costs(1.0 + slack), budget)
        if spent[0] <= budget[0] and spent[1] <= budget[1]:
            return 1.0 + slack
    raise ConfigError("privacy.epsilon", f"{epsilon} cannot be accounted for", "another one, or fewer rounds")


@lru_cache(maxsize=64)
def _sampled_multiplier(epsilon: float, delta: float, rate: float, steps: int) -> float:
    """Return the least z, to a part in a thousand, with which ``steps`` sampled steps cost (epsilon, delta)."""

    def enough(z: float) -> bool:
        return dp_sgd_cost(z, rate, steps, delta).epsilon <= epsilon

    low, high = _LEAST, 1.0
    while not enough(high):
        low, high = high, 2.0 * high
        if high > _MOST:
            problem = f"{epsilon} cannot be kept over {steps} steps of DP-SGD"
            raise ConfigError("privacy.epsilon", problem, "a larger one, or fewer rounds and train.epochs")
    while high - low > _PRECISION * high:
        middle = math.sqrt(low * high)
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high
