"""What a run promises, to whom, and what it does not cover: the section ``privacy`` of ``result.json``."""

from __future__ import annotations

import math
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from app.privacy.composition import composed
from app.privacy.config import COUPLING, PrivacyConfig
from app.privacy.cost import NEIGHBOURS, PrivacyCost
from app.privacy.exposure import ONCE, Exposure, by_rounds, round_costs
from app.privacy.labels import label_treatment
from app.privacy.mechanism import mechanism_of
from app.privacy.normalisation import FeatureSpace
from app.privacy.randomness import SystemRandom

_ALWAYS_OPEN = ("how many records a customer has", "several records of one household together")


def costs_of(
    config: PrivacyConfig, exposure: Exposure, records: int, classes: int, space: FeatureSpace, rounds: int
) -> tuple[PrivacyCost, ...]:
    """Return what a customer's part in a task costs, as its accountant counts it.

    Parameters
    ----------
    config : PrivacyConfig
        The task's.
    exposure : Exposure
        How often records are exposed.
    records, classes : int
        How many the customer has, and the task.
    space : FeatureSpace
        Of the features.
    rounds : int
        In how many it took part; of no account where each record is released once.
    """
    nothing_is_drawn = SystemRandom()
    features = mechanism_of(config, nothing_is_drawn, exposure).cost(records, space)
    if by_rounds(config, exposure):
        return round_costs(config, exposure, features) * rounds
    return features, *label_treatment(config, classes, nothing_is_drawn).costs


def record_guarantee(config: PrivacyConfig, costs: Sequence[PrivacyCost]) -> tuple[float, float]:
    """Return the (epsilon, delta) of a record that some costs come to, as a receipt states it."""
    if config.mechanism == "none":
        return math.inf, 0.0
    epsilon, delta = composed(costs, (Decimal(str(config.budget)), Decimal(str(config.delta))))
    return float(epsilon), float(delta)


def privacy_report(
    config: PrivacyConfig,
    records: Sequence[int],
    classes: int,
    space: FeatureSpace,
    exposure: Exposure = ONCE,
) -> dict[str, Any]:
    """Return what is promised, in each of the senses in which it can be meant.

    Parameters
    ----------
    config : PrivacyConfig
        The task's.
    records : sequence of int
        Records of each customer; the promise is to the one that is worst off.
    classes : int
        Of the task.
    space : FeatureSpace
        Of the features.
    exposure : Exposure, optional
        How often records are exposed.

    Returns
    -------
    dict
        ``unit``, ``epsilon``, ``delta`` and ``budget`` of the promise; then

        ``coordinate_epsilon``
            one released number alone (the paper's statement);
        ``record_epsilon_public_statistics``
            a record, if what its batch is normalised with were constants that everybody knows;
        ``record_epsilon``
            a record, against everything of its batch that it moves: the statement to go by;
        ``label_epsilon``
            the label's share of it; null for clear labels;
        ``phone_epsilon``
            what the updates of the phone's own layers lose of a record; null where they do not learn.
    """
    common = {
        "mechanism": config.mechanism,
        "normalisation": config.normalisation,
        "neighbouring": NEIGHBOURS,
        "randomness": config.randomness if config.mechanism != "none" else "none",
        "labels": config.labels,
        "label_epsilon": config.epsilon_label if config.flips_labels else None,
        "phone_epsilon": config.for_phone if exposure.joint and config.mechanism != "none" else None,
        "budget": config.budget if config.mechanism != "none" else None,
    }
    if config.mechanism == "none":
        promise = {"unit": "none", "epsilon": None, "delta": None, "coordinate_epsilon": None}
        promise |= {"record_epsilon_public_statistics": None, "record_epsilon": None}
        return common | promise | {"not_covered": ["features", "labels", *_ALWAYS_OPEN[:1]]}
    of_customers = [costs_of(config, exposure, count, classes, space, exposure.rounds) for count in records]
    joint, delta = max(record_guarantee(config, costs) for costs in of_customers)
    if config.mechanism == "dp_sgd":
        return common | {
            "unit": "record",
            "epsilon": joint,
            "delta": delta,
            "coordinate_epsilon": None,
            "record_epsilon_public_statistics": joint,
            "record_epsilon": joint,
            "not_covered": ["features and labels, from the customer's own MEC server", *_ALWAYS_OPEN],
        }
    open_labels = [] if config.flips_labels else ["labels"]
    if config.record_level:
        return common | {
            "unit": "record",
            "epsilon": joint,
            "delta": delta,
            "coordinate_epsilon": joint if exposure.joint else config.epsilon_features,
            "record_epsilon_public_statistics": joint,
            "record_epsilon": joint,
            "not_covered": [*open_labels, *_ALWAYS_OPEN],
        }
    label = config.epsilon_label if config.flips_labels else 0.0
    releases = exposure.passes if exposure.joint else 1
    of_coordinate = float(Decimal(str(config.epsilon)) * releases)
    phone = config.for_phone if exposure.joint else 0.0
    coupled = ["the other records of a batch, which a record moves"] if config.normalisation in COUPLING else []
    return common | {
        "unit": "coordinate",
        "epsilon": of_coordinate,
        "delta": 0.0,
        "coordinate_epsilon": of_coordinate,
        "record_epsilon_public_statistics": math.fsum([space.size * of_coordinate, label, phone]),
        "record_epsilon": joint,
        "not_covered": ["a record as a whole", *coupled, *open_labels, *_ALWAYS_OPEN],
    }
