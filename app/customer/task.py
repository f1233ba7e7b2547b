"""What a customer reads from the task's policy to do its part."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypeVar

from app.learning.config import DataConfig, ModelConfig, TrainConfig
from app.learning.form import RecordForm
from app.privacy.config import PrivacyConfig
from app.privacy.exposure import Exposure, by_rounds
from app.protocol.errors import ConfigError, ProtocolError
from app.protocol.policy import Policy
from app.typed import build

_Section = TypeVar("_Section")


@dataclass(frozen=True, slots=True)
class TaskConfig:
    """The configuration inside a policy, as far as customers need it.

    Attributes
    ----------
    seed : int
        The run's seed, from which every other seed is derived.
    customers : int
        How many customers the task has.
    rounds : int
        How many rounds.
    form : RecordForm
        What the records look like.
    data, model, train, privacy
        The sections of the same names.
    """

    seed: int
    customers: int
    rounds: int
    form: RecordForm
    data: DataConfig
    model: ModelConfig
    train: TrainConfig
    privacy: PrivacyConfig

    @property
    def exposure(self) -> Exposure:
        """How often the task lets something of each record out."""
        return Exposure(self.rounds, self.train.epochs, self.model.extractor == "joint")

    @property
    def by_rounds(self) -> bool:
        """Whether every round lets something new out, see `app.privacy.exposure`."""
        return by_rounds(self.privacy, self.exposure)

    @classmethod
    def of(cls, policy: Policy, data_path: str | None = None) -> TaskConfig:
        """Read a policy; raise `ProtocolError` if its configuration is not a task's.

        A policy is the same on all machines, so it does not say where a simulation's data is: ``data_path`` does.
        """
        return cls(
            seed=integer(policy, "seed"),
            customers=integer(policy, "customers"),
            rounds=policy.rounds,
            form=RecordForm.from_json(policy.config.get("inputs")),
            data=replace(section(policy, "data", DataConfig), path=data_path),
            model=section(policy, "model", ModelConfig),
            train=section(policy, "train", TrainConfig),
            privacy=section(policy, "privacy", PrivacyConfig),
        )


def integer(policy: Policy, name: str) -> int:
    """Return the integer ``name`` of the policy's configuration; raise `ProtocolError` if there is none."""
    value = policy.config.get(name)
    if type(value) is not int:
        raise ProtocolError(f"the policy's config must have the integer {name}")
    return value


def section(policy: Policy, name: str, kind: type[_Section]) -> _Section:
    """Return the section ``name`` of the policy's configuration as the dataclass ``kind``.

    Raises
    ------
    ProtocolError
        If it is missing, has other members or types than ``kind``, or a value that ``kind`` refuses.
    """
    try:
        return build(kind, policy.config.get(name), name)
    except ConfigError as error:
        raise ProtocolError(f"the policy's config is not a task's: {error}") from error
