"""What a user can choose about data, model and local training: plain frozen records, checked where they are used."""

from __future__ import annotations

import math
from dataclasses import dataclass

DATA_SETS = ("plaid", "digits", "mnist", "folder")
PARTITIONS = ("iid", "dirichlet", "column")
MODELS = ("auto", "signal", "scattering", "cnn", "mlp")
EXTRACTORS = ("frozen", "joint")
HEADS = ("auto", "mlp", "prototype", "discriminant")


@dataclass(frozen=True)
class DataConfig:
    """Which records, and how they lie with the manufacturer and the customers.

    Attributes
    ----------
    name : str
        One of `DATA_SETS`.
    path : str or None
        ``folder``: the directory with the user's files. ``mnist``: a local directory or a Hugging Face hub name;
        None looks in the usual places.
    label : str or None
        Column that holds the class; None means ``label``.
    partition : str
        One of `PARTITIONS`. ``iid`` is stratified: every customer gets its share of every class.
    alpha : float
        Concentration of the Dirichlet partition, > 0; the smaller, the more the customers differ.
    column : str or None
        Column whose groups are the customers (``household``); needed by ``column``, and never an input.
    public : int
        Records of each class that the manufacturer itself owns, >= 1. They are taken from train, at most half of a
        class, and no customer has them.
    records : int or None
        How many of the train records are used, class by class in proportion, and with them the same share of the test
        records; None takes all.
    test_share : float
        Share of the records that is held out where the source has one file, in (0, 1).
    """

    name: str = "plaid"
    path: str | None = None
    label: str | None = None
    partition: str = "iid"
    alpha: float = 0.5
    column: str | None = None
    public: int = 3
    records: int | None = None
    test_share: float = 0.2


@dataclass(frozen=True)
class ModelConfig:
    """Which model, where it is cut, and what the MEC trains.

    Attributes
    ----------
    name : str
        One of `MODELS`, or an installed one (`app.learning.models.installed`); ``auto`` takes what fits the data, and
        for images whether features are noised.
    extractor : str
        One of `EXTRACTORS`: whether the phone's layers stay as the manufacturer made them, or learn from the gradient
        that the MEC server returns, as in the paper.
    split : str
        Last stage that runs on the phone; ``auto`` is ``bottleneck`` where features are noised and the stage before
        it where they are not.
    head : str
        One of `HEADS`; ``auto`` is ``mlp`` where features are not noised or the extractor is joint, else
        ``discriminant`` after the model ``scattering`` and ``prototype`` after the others.
    bottleneck : int or None
        Features that leave the phone after the stage ``bottleneck``; None takes what suits the model.
    hidden : tuple of int
        Widths of the hidden layers of the head ``mlp``; empty makes it linear.
    """

    name: str = "auto"
    extractor: str = "frozen"
    split: str = "auto"
    head: str = "auto"
    bottleneck: int | None = None
    hidden: tuple[int, ...] = (128, 64)


@dataclass(frozen=True)
class TrainConfig:
    """One customer's local training in one round: plain SGD on cached features.

    Attributes
    ----------
    epochs : int
        Passes over the customer's features, >= 1.
    batch_size : int
        Records of a step; 0 takes all of them in one step.
    learning_rate : float
        Step size, > 0.
    momentum : float
        In [0, 1).
    """

    epochs: int = 1
    batch_size: int = 0
    learning_rate: float = 1.0
    momentum: float = 0.0


def default_training(
    head: str, records: int, *, noise: float = 0.0, joint: bool = False, private: bool = False
) -> TrainConfig:
    """Return settings that suit a resolved head and a customer with ``records`` records.

    The loss of ``prototype`` and ``discriminant`` is linear in the features, so one step over all records says
    everything. An MLP wants a few hundred small steps a round: many passes over a small home's records, one over
    thousands. Where every pass costs privacy there is one.

    Noise of deviation s makes features of mean square 1 longer by sqrt(1 + s**2), and a step that much smaller: a head
    of the paper's mode, whose s is 11 at epsilon 2, else learns nothing.

    Parameters
    ----------
    head : str
        ``mlp``, ``prototype`` or ``discriminant``.
    records : int
        Of one customer.
    noise : float
        Deviation of the noise on each feature.
    joint : bool
        Whether the phone's layers learn too.
    private : bool
        Whether the head is trained by DP-SGD.
    """
    if joint or private:
        return TrainConfig(epochs=1, batch_size=64, learning_rate=_shorter(0.1, noise), momentum=0.9)
    if head != "mlp":
        return TrainConfig(epochs=1, batch_size=0, learning_rate=1.0, momentum=0.0)
    if records < 1000:
        return TrainConfig(epochs=8, batch_size=16, learning_rate=_shorter(0.01, noise), momentum=0.9)
    return TrainConfig(epochs=1, batch_size=64, learning_rate=_shorter(0.02, noise), momentum=0.9)


def _shorter(rate: float, noise: float) -> float:
    """Return a learning rate for features with noise, in the two digits that mean something."""
    return float(f"{rate / math.hypot(1.0, noise):.2g}")
