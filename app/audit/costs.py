"""What one line of a phone's ledger says: parameters that are the task's, noise that they take, costs that it gives."""

from __future__ import annotations

import math
from decimal import Decimal
from typing import Any

from app.audit import exposure
from app.audit.noise import gaussian_delta
from app.audit.report import holds, same
from app.protocol.policy import Policy


def check_cost(entry: dict[str, Any], place: str, policy: Policy) -> None:
    """Check one release: its parameters are the task's, its noise is what they take, its costs are what it gives."""
    privacy = policy.config["privacy"]
    parameters, mechanism = entry["parameters"], privacy["mechanism"]
    costs, flips = [cost_of(cost, place) for cost in entry["costs"]], privacy["labels"] == "randomized_response"
    stated = {"mechanism": mechanism, "normalisation": privacy["normalisation"], "neighbours": "replace one record"}
    clear = mechanism in ("none", "dp_sgd")
    stated |= {"randomness": "none" if clear else privacy["randomness"], "labels": privacy["labels"]}
    stated |= {"unit": "coordinate" if mechanism == "paper" else "record"}
    if privacy["normalisation"] in ("batch", "map") or mechanism == "paper":
        stated["batch_size"] = privacy["batch_size"]
    if flips:
        stated |= {"epsilon_label": privacy["epsilon_label"], "label_randomness": privacy["randomness"]}
    features = features_share(privacy)
    about = {name: parameters.get(name) for name in ("records", "shape")}
    if exposure.by_rounds(policy):
        of_a_record = _of_a_record(parameters, place, privacy) if mechanism == "paper" else math.nan
        of_round = exposure.check_round(policy, parameters, costs, place, of_a_record)
        stated |= of_round | _grid(parameters, place, policy, costs)
        same(f"{place}, parameters", stated | about, parameters)
        return
    expected = {
        "gaussian": ("gaussian", "record", features, privacy["delta"]),
        "laplace": ("laplace", "record", features, 0.0),
        "paper": ("paper", "coordinate", privacy["epsilon"], 0.0),
        "none": ("none", "record", "infinite", 0.0),
    }[mechanism]
    label = [("randomized_response", "record", privacy["epsilon_label"], 0.0)] * flips
    same(f"{place}, costs", [expected, *label], [cost[:4] for cost in costs])
    if mechanism in ("gaussian", "laplace"):
        stated |= _check_noise(parameters, place, privacy, features)
    elif mechanism == "paper":
        stated |= {"epsilon": privacy["epsilon"], "calibration": privacy["calibration"]}
        same(f"{place}, record_epsilon", _of_a_record(parameters, place, privacy), costs[0][4])
    same(f"{place}, parameters", stated | about, parameters)


def _grid(parameters: dict[str, Any], place: str, policy: Policy, costs: list[tuple[Any, ...]]) -> dict[str, Any]:
    """Return the members that tell of features' noise where every round releases them; check it against its cost."""
    privacy = policy.config["privacy"]
    if privacy["mechanism"] == "paper":
        return {"epsilon": privacy["epsilon"], "calibration": privacy["calibration"]}
    if privacy["mechanism"] != "gaussian":
        return {}
    grid, scale = _noise_on_grid(parameters, place, privacy, privacy["epsilon"])
    same(f"{place}, noise of features, to nine digits", round(scale / costs[0][5], 9), 1.0)
    return grid | {"delta": privacy["delta"]}


def features_share(privacy: dict[str, Any]) -> float:
    """Return how much of a task's epsilon goes to a record's features."""
    if privacy["labels"] == "clear" or privacy["mechanism"] == "paper":
        return float(privacy["epsilon"])
    return float(Decimal(str(privacy["epsilon"])) - Decimal(str(privacy["epsilon_label"])))


def cost_of(cost: Any, place: str) -> tuple[Any, ...]:
    """Return a cost's members in the order of `app.audit.exposure.Cost`; raise `AuditError` if they are others."""
    names = ("mechanism", "unit", "epsilon", "delta", "record_epsilon", "noise_multiplier", "sampling_rate", "steps")
    holds(isinstance(cost, dict) and set(cost) == set(names), f"{place}, cost, members", sorted(names), cost)
    return tuple(cost[name] for name in names)


def _check_noise(parameters: dict[str, Any], place: str, privacy: dict[str, Any], epsilon: float) -> dict[str, Any]:
    """Check a record-level mechanism's noise against what its radius and epsilon take; return its parameters.

    Two records differ by at most twice the radius, in steps of the grid.
    """
    delta = privacy["delta"]
    grid, scale = _noise_on_grid(parameters, place, privacy, epsilon)
    if privacy["mechanism"] == "laplace":
        holds(epsilon * (1 - 1e-6) < 1 / scale <= epsilon, f"{place}, scale", f"what epsilon {epsilon} takes", scale)
        return grid
    reached = gaussian_delta(scale, epsilon)
    holds(reached <= delta * (1 + 1e-9), f"{place}, sigma", f"noise enough for delta {delta}", f"delta {reached}")
    spare = gaussian_delta(scale * (1 - 1e-6), epsilon)
    holds(spare > delta * (1 - 1e-9), f"{place}, sigma", "no more noise than it takes", grid["sigma"])
    return grid | {"delta": delta}


def _noise_on_grid(
    parameters: dict[str, Any], place: str, privacy: dict[str, Any], epsilon: float
) -> tuple[dict[str, Any], float]:
    """Return the members that tell of the grid and the noise on it, and the noise's scale over the sensitivity."""
    clip = privacy["clip"]
    step: Any = parameters.get("step")
    radius: Any = parameters.get("radius")
    holds(type(step) is float and step > 0 and math.frexp(step)[0] == 0.5, f"{place}, step", "a power of two", step)
    same(f"{place}, radius", math.floor(clip / step), radius)
    name = "scale" if privacy["mechanism"] == "laplace" else "sigma"
    noise: Any = parameters.get(name)
    holds(type(noise) is float and noise > 0, f"{place}, {name}", "a positive number", noise)
    grid = {"clip": clip, "epsilon": epsilon, "step": step, "radius": radius, name: noise}
    # Two records differ by twice the radius; with Gaussian noise two steps of the deviation pay for the grid.
    return grid, (noise if name == "scale" else math.sqrt(noise * noise - 4.0)) / (2.0 * radius)


def _of_a_record(parameters: dict[str, Any], place: str, privacy: dict[str, Any]) -> float:
    """Return what the paper's release costs a record: by what it can move of its batch, over the scale of the noise."""
    records: Any = parameters.get("records")
    shape: Any = parameters.get("shape")
    right = type(records) is int and isinstance(shape, list) and all(type(size) is int and size > 0 for size in shape)
    holds(right and len(shape) in (1, 3), f"{place}, shape", "of features or of feature maps", shape)
    size, positions = math.prod(shape), math.prod(shape[1:]) if len(shape) > 1 else shape[0]
    epsilon, full = float(privacy["epsilon"]), privacy["batch_size"]
    if privacy["normalisation"] not in ("batch", "map"):
        return float(size * epsilon)
    per_record = positions if privacy["calibration"] == "map" else 1
    bound = math.sqrt(max(full * per_record - 1, 0)) or 1.0
    fine = math.floor(math.log2(min(bound / 512, 2.0 * bound / epsilon / 256)))
    step = 2.0 ** max(fine, math.ceil(math.log2(max(2.0 * bound / epsilon / 2**14, bound / 2**22))))
    worst = 0.0
    for n in {min(records, full), records % full} - {0}:
        radius = math.floor(math.sqrt(n * per_record - 1) / step)
        if radius:
            root = math.sqrt(n)
            column = n * min(2.0, math.sqrt((root + 1.0) / (root - 1.0))) if n > 1 else 2.0
            scale = 2.0 * radius / epsilon * (1.0 + 2.0**-30)
            worst = max(worst, size * min(column / step + n, 2.0 * radius * n) / scale)
    return float(worst)
