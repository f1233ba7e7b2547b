"""The privacy probe: both attacks on one customer's releases, at several strengths, beside what costs nothing."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from app.learning.data import Dataset
from app.learning.models import Phone
from app.learning.training import features
from app.learning.views import customer_view
from app.privacy.config import PrivacyConfig
from app.privacy.mechanism import mechanism_of
from app.privacy.randomness import InsecureSeededRandom
from app.probe.inversion import Array, decode, squared_error, structural_similarity, train_decoder
from app.probe.membership import most_possible, scores, true_positive_rate
from app.probe.pictures import grid
from app.protocol.errors import ConfigError
from app.settings import Config

FALSE_POSITIVES = 0.01
SHOWN = 12  # records in the picture
_NO_NOISE = math.inf


@dataclass(frozen=True, slots=True, eq=False)
class Side:
    """Records of one side: features as the mechanism has them before noise, labels of K classes, images in 0..1."""

    features: Array
    labels: NDArray[np.int64]
    images: Array
    classes: int


def probe(config: Config, phone: Phone, test: Dataset) -> tuple[dict[str, Any], bytes]:
    """Attack customer 0's releases, and return the measurements and the picture of the reconstructions (a PNG file).

    The members are the first records of customer 0. The adversary owns the first half of the manufacturer's test
    records; the non-members come from the other half, and are as many as the members.

    Parameters
    ----------
    config : Config
        The run's, resolved; ``config.probe`` says how much is attacked.
    phone : Phone
        The frozen extractor.
    test : Dataset
        The manufacturer's test records.

    Raises
    ------
    ConfigError
        If the records are not images, or too few for ``probe.records``.
    """
    home = customer_view(config.data, config.customers, 0, config.seed)
    if test.kind != "image":
        raise ConfigError("probe", f"draws records again, and {test.kind} data has no pictures", "none, or image data")
    count, half = config.probe.records, len(test) // 2
    if count > min(len(home), len(test) - half):
        most = min(len(home), len(test) - half)
        raise ConfigError("probe.records", f"{count} are more than a customer or the test set has", f"100..{most}")
    chosen = np.sort(np.random.default_rng([config.seed, 0x9806E]).permutation(len(home))[:count])
    members = _side(config, phone, home.subset(chosen))
    own = _side(config, phone, test.subset(slice(0, half)))
    others = _side(config, phone, test.subset(slice(half, half + count)))
    shape = test.input_shape[:2]
    rows, drawings = [], [members.images]
    for epsilon in (_NO_NOISE, *sorted(config.probe.epsilons, reverse=True)):
        row, drawn = _attack(config, phone, epsilon, members, others, own, shape)
        rows.append(row)
        drawings.append(drawn)
    free = _free(members, own, shape)
    drawings.append(_class_means(own)[members.labels])
    result = {
        "unit": "record",
        "attacked": count,
        "own": half,
        "false_positive_rate": FALSE_POSITIVES,
        "strengths": rows,
        "for_nothing": free,
    }
    shown = [images[:SHOWN].reshape(-1, *shape) for images in drawings]
    return result, grid(shown)


def _attack(
    config: Config, phone: Phone, epsilon: float, members: Side, others: Side, own: Side, shape: tuple[int, ...]
) -> tuple[dict[str, Any], Array]:
    """Return the row of one strength, and the drawings of the members."""
    released, noise = _released(config, phone, members, epsilon)
    means = _class_means(own)
    decoder = train_decoder(own.features, own.labels, own.images, means, noise, config.probe.passes, config.seed)
    drawn = decode(decoder, released, members.labels)
    inside, outside = (
        scores(
            side.features.astype(np.float64),
            side.labels,
            released.astype(np.float64),
            members.labels,
            own.features.astype(np.float64),
            own.labels,
            noise,
        )
        for side in (members, others)
    )
    row = {
        "epsilon": None if math.isinf(epsilon) else epsilon,
        **_likeness(drawn, members.images, shape),
        "true_positive_rate": true_positive_rate(inside, outside, FALSE_POSITIVES),
        "most_possible": most_possible(FALSE_POSITIVES, 2 * config.privacy.clip / noise if noise else math.inf),
    }
    return row, drawn


def _released(config: Config, phone: Phone, side: Side, epsilon: float) -> tuple[Array, float]:
    """Return what a phone would let out of a side's features, and the deviation of its noise."""
    if math.isinf(epsilon):
        return side.features, 0.0
    mechanism = mechanism_of(_at(config.privacy, epsilon), InsecureSeededRandom(config.seed, "probe"))
    return mechanism.release(side.features, phone.space).features, mechanism.deviation(phone.space)


def _at(privacy: PrivacyConfig, epsilon: float) -> PrivacyConfig:
    return replace(privacy, labels="clear", epsilon=epsilon, budget=epsilon)


def _side(config: Config, phone: Phone, data: Dataset) -> Side:
    mechanism = mechanism_of(config.privacy, InsecureSeededRandom(config.seed, "probe"))
    clean = mechanism.clean(features(phone, data), phone.space)
    images: torch.Tensor = phone.prepare(data.inputs).mean(dim=1)  # colours are attacked as greys
    return Side(clean, data.labels, images.flatten(1).numpy(), len(data.classes))


def _class_means(own: Side) -> Array:
    """Return the mean image of each class (K, pixels); of all records for a class that the adversary lacks."""
    means = np.tile(own.images.mean(axis=0), (own.classes, 1))
    for label in np.unique(own.labels):
        means[label] = own.images[own.labels == label].mean(axis=0)
    return means


def _free(members: Side, own: Side, shape: tuple[int, ...]) -> dict[str, Mapping[str, float]]:
    """Return how near the mean image, and the mean image of the class, come: without any release of features."""
    overall = np.broadcast_to(own.images.mean(axis=0), members.images.shape)
    of_class = _class_means(own)[members.labels]
    return {
        "mean_image": _likeness(np.ascontiguousarray(overall), members.images, shape),
        "mean_of_class": _likeness(of_class, members.images, shape),
    }


def _likeness(drawn: Array, true: Array, shape: tuple[int, ...]) -> dict[str, float]:
    return {
        "mse": squared_error(drawn, true),
        "ssim": structural_similarity(drawn.reshape(-1, *shape), true.reshape(-1, *shape)),
    }
