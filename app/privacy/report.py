"""What a run promises, to whom, and what it does not cover: the section ``privacy`` of ``result.json``."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from app.privacy.composition import added_up
from app.privacy.config import COUPLING, PrivacyConfig
from app.privacy.cost import NEIGHBOURS, PrivacyCost
from app.privacy.labels import label_treatment
from app.privacy.mechanism import mechanism_of
from app.privacy.normalisation import FeatureSpace
from app.privacy.randomness import SystemRandom

_ALWAYS_OPEN = ("how many records a customer has", "several records of one household together")


def release_costs(config: PrivacyConfig, records: int, classes: int, space: FeatureSpace) -> tuple[PrivacyCost, ...]:
    """Return what one release of a customer's features and labels costs, as its accountant counts it.

    Parameters
    ----------
    config : PrivacyConfig
        The task's.
    records, classes : int
        How many the customer has, and the task.
    space : FeatureSpace
        Of the features.
    """
    nothing_is_drawn = SystemRandom()
    labels = label_treatment(config, classes, nothing_is_drawn)
    return mechanism_of(config, nothing_is_drawn).cost(records, space), *labels.costs


def record_guarantee(costs: Sequence[PrivacyCost]) -> tuple[float, float]:
    """Return the (epsilon, delta) of a record that some costs come to, as a receipt states it."""
    epsilon, delta = added_up(costs)
    return float(epsilon), float(delta)


def privacy_report(config: PrivacyConfig, records: Sequence[int], classes: int, space: FeatureSpace) -> dict[str, Any]:
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
            the label's share of it; null for clear labels.
    """
    common = {
        "mechanism": config.mechanism,
        "normalisation": config.normalisation,
        "neighbouring": NEIGHBOURS,
        "randomness": config.randomness if config.mechanism != "none" else "none",
        "labels": config.labels,
        "label_epsilon": config.epsilon_label if config.flips_labels else None,
        "budget": config.budget if config.mechanism != "none" else None,
    }
    if config.mechanism == "none":
        promise = {"unit": "none", "epsilon": None, "delta": None, "coordinate_epsilon": None}
        promise |= {"record_epsilon_public_statistics": None, "record_epsilon": None}
        return common | promise | {"not_covered": ["features", "labels", *_ALWAYS_OPEN[:1]]}
    of_customers = [release_costs(config, count, classes, space) for count in records]
    joint, delta = max(record_guarantee(costs) for costs in of_customers)
    open_labels = [] if config.flips_labels else ["labels"]
    if config.record_level:
        return common | {
            "unit": "record",
            "epsilon": joint,
            "delta": delta,
            "coordinate_epsilon": config.epsilon_features,
            "record_epsilon_public_statistics": joint,
            "record_epsilon": joint,
            "not_covered": [*open_labels, *_ALWAYS_OPEN],
        }
    label = config.epsilon_label if config.flips_labels else 0.0
    coupled = ["the other records of a batch, which a record moves"] if config.normalisation in COUPLING else []
    return common | {
        "unit": "coordinate",
        "epsilon": config.epsilon,
        "delta": 0.0,
        "coordinate_epsilon": config.epsilon,
        "record_epsilon_public_statistics": math.fsum([space.size * config.epsilon, label]),
        "record_epsilon": joint,
        "not_covered": ["a record as a whole", *coupled, *open_labels, *_ALWAYS_OPEN],
    }
