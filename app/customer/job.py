"""What a phone asks of its MEC server, wherever that is: keep a release, and train a head on it."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt

from app.customer.mec import Mec
from app.customer.task import TaskConfig
from app.customer.wire import FeatureRelease
from app.protocol.errors import ProtocolError
from app.protocol.fixed_point import MODEL_DTYPE
from app.protocol.policy import Policy
from app.protocol.tensors import unpack

if TYPE_CHECKING:
    from torch import nn

    from app.learning.models import SplitModel

ModelFactory = Callable[[Policy, bytes], "SplitModel"]
"""From a policy and the bytes of its frozen part to the split model with the frozen part loaded."""


@dataclass(frozen=True, slots=True)
class Job:
    """A head to train, given by all that it follows from.

    Attributes
    ----------
    policy, frozen, model : bytes
        The blobs of the task's policy, its frozen part and the global model.
    seed : int
        Order of the batches and everything else that is drawn.
    """

    policy: bytes
    frozen: bytes
    model: bytes
    seed: int


class HeadTrainer(Protocol):
    """A head that is being trained jointly with a phone's layers.

    Raises a `HearthError` where it fails.
    """

    def step(self, release: FeatureRelease) -> tuple[npt.NDArray[np.float32], float]:
        """Take a step on a batch, and return what `app.customer.joint.HeadSteps.step` does."""

    def end(self) -> npt.NDArray[np.float32]:
        """Return the head's weights, see `app.learning.weights.get_vector`, once no step is to follow."""


class MecServer(Protocol):
    """A customer's MEC server: in this process, or a service somewhere else.

    Raises a `HearthError` where it fails.
    """

    def holds(self, key: str) -> bool:
        """Tell whether it has the release under ``key``, whole."""

    def accept(self, release: FeatureRelease) -> None:
        """Take a release and keep it."""

    def train(self, key: str, job: Job) -> tuple[npt.NDArray[np.float64], float]:
        """Return the trained minus the global parameters, shape (parameters,), and the mean loss of the last epoch."""

    def begin(self, job: Job) -> HeadTrainer:
        """Begin to train the head of a joint extractor's model, step by step."""

    def forget(self, key: str) -> None:
        """Delete a release, once its task is over."""


class InProcessMec:
    """A MEC server in this process; implements `MecServer`.

    Parameters
    ----------
    mec : Mec
        The server.
    split_model : callable
        Opens a task's model, see `ModelFactory`. What it returns is not changed and may be shared.
    """

    def __init__(self, mec: Mec, split_model: ModelFactory) -> None:
        self._mec, self._split_model = mec, split_model
        self.holds, self.accept, self.forget = mec.holds, mec.accept, mec.forget

    def train(self, key: str, job: Job) -> tuple[npt.NDArray[np.float64], float]:
        """Train the head that a job describes; see `MecServer.train`.

        Raises
        ------
        ProtocolError
            If the job is none, or the release is not held.
        """
        rules = Policy.from_bytes(job.policy)
        head = deepcopy(self._split_model(rules, job.frozen).mec)
        start = set_global(head, rules, job.model)
        task = TaskConfig.of(rules)
        if task.privacy.mechanism == "dp_sgd":
            trained, loss = self._mec.train_privately(key, head, task, job.seed)
        else:
            trained, loss = self._mec.train(key, head, task.train, job.seed)
        return trained.astype(np.float64) - start, loss

    def begin(self, job: Job) -> HeadTrainer:
        """Begin joint training; see `MecServer.begin`. Raises `ProtocolError` if the job is none."""
        from app.customer.joint import HeadSteps

        rules = Policy.from_bytes(job.policy)
        model = global_model(self._split_model(rules, job.frozen), rules, job.model)
        task = TaskConfig.of(rules)
        return HeadSteps(model.mec, task.train, model.feature_size, len(task.form.classes))


def global_model(split: SplitModel, rules: Policy, model: bytes) -> SplitModel:
    """Return a copy of a task's model with the global weights set."""
    copy = deepcopy(split)
    set_global(copy.trained, rules, model)
    return copy


def fitting(model: bytes, rules: Policy, trained: nn.Module) -> npt.NDArray[np.int64]:
    """Return a global model on the task's grid, shape (parameters,).

    Raises
    ------
    ProtocolError
        If it, or the policy's layout, is not that of what is trained.
    """
    from app.learning.weights import layout

    if layout(trained) != rules.layout:
        raise ProtocolError("the policy's layout is not that of the model that its config describes")
    return unpack(model, rules.layout, MODEL_DTYPE)


def set_global(trained: nn.Module, rules: Policy, model: bytes) -> npt.NDArray[np.float64]:
    """Set the global weights and return them as the module has them, in float64."""
    from app.learning.weights import get_vector, set_vector

    set_vector(trained, rules.grid.decode(fitting(model, rules, trained)))
    return get_vector(trained).astype(np.float64)
