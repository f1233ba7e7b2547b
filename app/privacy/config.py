"""What a run says about privacy."""

from __future__ import annotations

import math
from dataclasses import dataclass
from decimal import Decimal

from app.protocol.errors import ConfigError

MECHANISMS_OF = {
    "record": ("gaussian", "laplace"),
    "laplace": ("laplace",),
    "paper": ("paper",),
    "paper_batch": ("paper",),
    "dp_sgd": ("dp_sgd",),
    "none": ("none",),
}
"""The presets of conf/privacy by name, and the mechanisms that each may have."""

RECORD_LEVEL = ("gaussian", "laplace")
"""The mechanisms whose noised features have a guarantee for a record; they take no normalisation that couples records.
"""

NORMALISATIONS = ("none", "record", "public", "batch", "map")
COUPLING = ("batch", "map")
"""The normalisations under which one record changes what is released of the others."""

CALIBRATIONS = ("batch", "map")
LABELS = ("clear", "randomized_response")
RANDOMNESS = ("seeded-insecure", "system")


@dataclass(frozen=True, slots=True)
class PrivacyConfig:
    """How features and labels are protected before they leave the phone.

    Attributes
    ----------
    name : str
        The preset: ``record`` (record-level differential privacy), ``laplace`` (the same, pure), ``paper`` (the
        paper's per-coordinate noise, no guarantee for a record to speak of), ``paper_batch`` (the same with the
        paper's baseline for a normalisation), ``dp_sgd`` (a guarantee for a record of the updates, given an MEC server
        that may see all) or ``none`` (all in the clear).
    mechanism : str
        The noise: ``gaussian``, ``laplace``, ``paper`` or ``none`` of features, see `app.privacy.mechanism`; or
        ``dp_sgd`` of the head's gradients, see `app.learning.private_sgd`.
    normalisation : str
        What is done to features before they are clipped, see `app.privacy.normalisation`.
    batch_size : int
        N, how many records a phone normalises together; used by the normalisations ``batch`` and ``map``, and by the
        mechanism ``paper``, whose scale follows from it. With a joint extractor also the records of a step.
    calibration : str
        Which of the paper's two bounds its mechanism clips to: ``batch`` is sqrt(N - 1), ``map`` sqrt(N Lf Wf - 1).
    labels : str
        ``clear``, or ``randomized_response`` at ``epsilon_label``.
    epsilon, delta : float
        What one record, features and label, may lose over the whole task; the noise is calibrated to it. For
        ``paper`` epsilon is what one coordinate of the features may lose; delta is not used.
    epsilon_label : float
        How much of it goes to the label; the rest, ``epsilon - epsilon_label``, goes to the features. For ``paper``
        it comes on top. Not used with clear labels.
    budget : float
        The epsilon beyond which the customer's accountant refuses a release; at least ``epsilon``.
    clip : float
        Norm that a record's features are clipped to: the L2 norm for ``gaussian``, the L1 norm for ``laplace``.
    epsilon_phone : float or None
        With a joint extractor: what a record may lose over the whole task by the updates of the phone's layers. For
        ``gaussian`` a part of ``epsilon``, half of it where it is None: the features get the rest, so that together
        they lose ``epsilon``. For ``paper`` it comes on top; None is ``epsilon`` there.
    clip_gradient : float
        L2 norm that a record's gradient is clipped to in DP-SGD: of the phone's layers with a joint extractor, of the
        head with ``dp_sgd``.
    sampling_rate : float
        For ``dp_sgd``: the probability with which a record is in a step; an epoch has about 1 / rate steps.
    randomness : str
        ``system`` (the operating system's) or ``seeded-insecure`` (repeatable, for simulation only).

    Raises
    ------
    ConfigError
        If a value is unknown or impossible; the key is named as the user types it.
    """

    name: str
    mechanism: str
    normalisation: str
    batch_size: int
    calibration: str
    labels: str
    epsilon: float
    epsilon_label: float
    delta: float
    budget: float
    clip: float
    epsilon_phone: float | None
    clip_gradient: float
    sampling_rate: float
    randomness: str

    @property
    def record_level(self) -> bool:
        """Whether features leave the phone with noise that protects a record."""
        return self.mechanism in RECORD_LEVEL

    @property
    def protects_records(self) -> bool:
        """Whether the guarantee, of whatever it is, is a record's."""
        return self.record_level or self.mechanism == "dp_sgd"

    @property
    def epsilon_features(self) -> float:
        """What one release of the features may cost: a record, or with ``paper`` a coordinate."""
        if not (self.record_level and self.flips_labels):
            return self.epsilon
        return float(Decimal(str(self.epsilon)) - Decimal(str(self.epsilon_label)))  # the two add up again exactly

    @property
    def for_phone(self) -> float:
        """What a record may lose by the updates of the phone's layers, with a joint extractor."""
        if self.epsilon_phone is not None:
            return self.epsilon_phone
        return self.epsilon / 2 if self.record_level else self.epsilon

    @property
    def flips_labels(self) -> bool:
        """Whether labels leave under randomised response."""
        return self.labels == "randomized_response"

    def __post_init__(self) -> None:
        if self.name not in MECHANISMS_OF:
            raise ConfigError("privacy.name", f"unknown mode {self.name!r}", MECHANISMS_OF)
        if self.mechanism not in MECHANISMS_OF[self.name]:
            problem = f"{self.mechanism!r} is not a mechanism of privacy={self.name}"
            raise ConfigError("privacy.mechanism", problem, MECHANISMS_OF[self.name])
        for key, choices in (
            ("normalisation", NORMALISATIONS),
            ("calibration", CALIBRATIONS),
            ("labels", LABELS),
            ("randomness", RANDOMNESS),
        ):
            if getattr(self, key) not in choices:
                raise ConfigError(f"privacy.{key}", f"{getattr(self, key)!r} is not known", choices)
        if not 1 <= self.batch_size <= 2**20:
            raise ConfigError("privacy.batch_size", f"{self.batch_size} is out of range", f"1..{2**20}")
        if self.mechanism in ("none", "dp_sgd") and self.flips_labels:
            problem = "randomised labels protect nothing beside features in the clear"
            raise ConfigError("privacy.labels", problem, "clear, or another privacy")
        if self.mechanism == "none":
            return
        self._check_numbers()
        self._check_guarantee()

    def _check_numbers(self) -> None:
        used = ["epsilon", "budget", "clip_gradient"] + ["epsilon_phone"] * (self.epsilon_phone is not None)
        used += ["clip"] * self.record_level + ["epsilon_label"] * self.flips_labels
        for key in used:
            if not (math.isfinite(getattr(self, key)) and getattr(self, key) > 0):
                raise ConfigError(f"privacy.{key}", f"{getattr(self, key)} is impossible", "a positive finite number")
        if not 0 < self.delta < 1:
            raise ConfigError("privacy.delta", f"{self.delta} is impossible", "a number between 0 and 1")
        if not 0 < self.sampling_rate <= 1:
            raise ConfigError("privacy.sampling_rate", f"{self.sampling_rate} is impossible", "above 0, at most 1")

    def _check_guarantee(self) -> None:
        if self.record_level and self.normalisation in COUPLING:
            problem = f"{self.normalisation!r} couples the records of a batch, so no record would have its guarantee"
            raise ConfigError("privacy.normalisation", problem, ("none", "record", "public", "or privacy=paper"))
        if self.epsilon_features <= 0:
            problem = f"{self.epsilon_label} leaves nothing of privacy.epsilon={self.epsilon} to the features"
            raise ConfigError("privacy.epsilon_label", problem, f"a number below {self.epsilon}")
        label_apart = self.flips_labels and not self.protects_records
        needed = max(self.epsilon, self.epsilon_label) if label_apart else self.epsilon
        if self.budget < needed:
            problem = f"{self.budget} does not pay for one release at privacy.epsilon={self.epsilon}"
            problem += f", privacy.epsilon_label={self.epsilon_label}" if label_apart else ""
            raise ConfigError("privacy.budget", problem, f"{needed} or more")
