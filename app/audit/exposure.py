"""Tasks in which every round lets something new of the records out: what a phone's books must say of each round."""

from __future__ import annotations

import math
from typing import Any

from app.audit.noise import CELL, gaussian_delta, sampled_epsilon
from app.audit.report import holds, same
from app.protocol.policy import Policy

Cost = tuple[Any, ...]
"""Mechanism, unit, epsilon, delta, a record's epsilon, noise multiplier, sampling rate, steps."""
_TOLERANCE = 1e-9
_DIGITS = 2e-3  # to which privacy losses in cells are right, relative
_WASTE = 0.02  # noise beyond what the budget takes, as a share of it: the search for it is that coarse


def by_rounds(policy: Policy) -> bool:
    """Tell whether a task is of this kind."""
    joint: bool = policy.config["model"]["extractor"] == "joint"
    return joint or policy.config["privacy"]["mechanism"] == "dp_sgd"


def steps_of_a_round(policy: Policy) -> int:
    """Return how often a round lets something of a record out."""
    privacy, epochs = policy.config["privacy"], int(policy.config["train"]["epochs"])
    return epochs * (round(1 / privacy["sampling_rate"]) if privacy["mechanism"] == "dp_sgd" else 1)


def check_round(
    policy: Policy, parameters: dict[str, Any], costs: list[Cost], place: str, of_a_record: float
) -> dict[str, Any]:
    """Check one round's costs against its noise, and its noise against the budget of all rounds.

    Parameters
    ----------
    policy : Policy
        The task's.
    parameters : dict
        What the ledger says of the round.
    costs : list of tuple
        What it says the round cost.
    place : str
        For messages.
    of_a_record : float
        What one release in the paper's mode costs a record; not used in other modes.

    Returns
    -------
    dict
        The members of ``parameters`` that tell of the round.
    """
    privacy, steps = policy.config["privacy"], steps_of_a_round(policy)
    number = parameters.get("round")
    holds(type(number) is int and 1 <= number <= policy.rounds, f"{place}, round", f"1..{policy.rounds}", number)
    stated = {"round": number, "steps": steps}
    if privacy["mechanism"] == "none":
        same(f"{place}, costs", [("none", "record", "infinite", 0.0, None, None, 1.0, 1)], costs)
        return stated
    multiplier: Any = parameters.get("noise_multiplier")
    holds(type(multiplier) is float and multiplier > 0, f"{place}, noise_multiplier", "a positive number", multiplier)
    kinds = {"dp_sgd": ["dp_sgd"], "gaussian": ["gaussian", "dp_sgd"], "paper": ["paper", "dp_sgd"]}
    same(f"{place}, costs", kinds[privacy["mechanism"]], [cost[0] for cost in costs])
    gradients = costs[-1]
    rate = privacy["sampling_rate"] if privacy["mechanism"] == "dp_sgd" else 1.0
    expected = ("dp_sgd", "record", gradients[2], privacy["delta"], None, multiplier, rate, steps)
    same(f"{place}, cost of gradients", expected, gradients)
    if privacy["mechanism"] == "dp_sgd":
        _check_sampled(policy, multiplier, gradients, place)
    else:
        _check_joint(policy, costs, place, of_a_record)
    return stated | {"clip_gradient": privacy["clip_gradient"], "noise_multiplier": multiplier}


def _of_phone(privacy: dict[str, Any]) -> float:
    """Return what the phone's layers may lose of a record: as said; else half of epsilon, in the paper's mode all."""
    if privacy["epsilon_phone"] is not None:
        return float(privacy["epsilon_phone"])
    return float(privacy["epsilon"]) / (1 if privacy["mechanism"] == "paper" else 2)


def _check_sampled(policy: Policy, multiplier: float, gradients: Cost, place: str) -> None:
    privacy, steps = policy.config["privacy"], steps_of_a_round(policy)
    rate, delta, promised = privacy["sampling_rate"], privacy["delta"], privacy["epsilon"]
    one = sampled_epsilon(multiplier, rate, steps, delta)
    right = abs(gradients[2] - one) <= _DIGITS * one + 2 * CELL
    holds(right, f"{place}, epsilon", f"{one:.3f}, what the noise gives", gradients[2])
    whole = sampled_epsilon(multiplier, rate, policy.rounds * steps, delta)
    enough = whole <= (1.0 + _DIGITS) * promised + 2 * CELL
    holds(enough, f"{place}, noise_multiplier", f"enough for epsilon {promised}", f"{whole:.3f}")
    spare = whole >= (1.0 - _WASTE) * promised - 2 * CELL
    holds(spare, f"{place}, noise_multiplier", f"no more than epsilon {promised} takes", f"{whole:.3f}")


def _check_joint(policy: Policy, costs: list[Cost], place: str, of_a_record: float) -> None:
    privacy, steps = policy.config["privacy"], steps_of_a_round(policy)
    released, gradients = costs
    delta, passes = privacy["delta"], policy.rounds * steps
    phone = gradients[5] / 2.0  # replacing a record moves the sum by twice the clip
    _enough(f"{place}, epsilon of gradients", phone / math.sqrt(steps), gradients[2], delta)
    _enough(f"{place}, noise_multiplier", phone / math.sqrt(passes), _of_phone(privacy), delta)
    if privacy["mechanism"] == "paper":
        of_steps, of_record = privacy["epsilon"] * steps, of_a_record * steps
        same(
            f"{place}, cost of features", ("paper", "coordinate", of_steps, 0.0, of_record, None, 1.0, steps), released
        )
        return
    features = released[5]
    holds(type(features) is float and features > 0, f"{place}, noise of features", "a positive number", features)
    same(
        f"{place}, cost of features",
        ("gaussian", "record", released[2], delta, None, features, 1.0, steps),
        released,
    )
    _enough(f"{place}, epsilon of features", features / math.sqrt(steps), released[2], delta)
    whole = together(features, gradients[5], passes)
    _enough(f"{place}, noise of features", whole, privacy["epsilon"], delta)
    spare = gaussian_delta(whole * (1.0 - _WASTE), privacy["epsilon"])
    holds(spare > delta, f"{place}, noise of features", "no more than it takes", features)


def check_spent(policy: Policy, entries: list[list[Cost]], epsilon: float, place: str) -> None:
    """Check that a phone's last receipt states at least what all the rounds in its books lose of a record.

    Not for the paper's mode, whose sum is far beyond any guarantee, nor where nothing is promised.
    """
    privacy = policy.config["privacy"]
    if not entries or privacy["mechanism"] not in ("gaussian", "dp_sgd"):
        return
    last, passes = entries[-1], sum(costs[-1][7] for costs in entries)
    if privacy["mechanism"] == "dp_sgd":
        lost = sampled_epsilon(last[-1][5], privacy["sampling_rate"], passes, privacy["delta"])
        holds(epsilon >= (1.0 - _DIGITS) * lost - 2 * CELL, place, f"at least {lost:.3f}", epsilon)
    else:
        _enough(place, together(last[0][5], last[-1][5], passes), epsilon, privacy["delta"])


def together(features: float, multiplier: float, passes: int) -> float:
    """Return the scale of the one Gaussian release that costs what ``passes`` of features and of gradients do."""
    return 1.0 / math.sqrt(passes * (1.0 / features**2 + 4.0 / multiplier**2))


def _enough(place: str, scale: float, epsilon: Any, delta: float) -> None:
    holds(type(epsilon) is float and epsilon > 0, place, "a positive number", epsilon)
    reached = gaussian_delta(scale, epsilon)
    holds(reached <= delta * (1.0 + _TOLERANCE), place, f"noise enough for delta {delta}", f"delta {reached}")
