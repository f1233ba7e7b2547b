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
    from app.learning.models import Head, SplitModel

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
        start = _set_global(head, rules, job.model)
        trained, loss = self._mec.train(key, head, TaskConfig.of(rules).train, job.seed)
        return trained.astype(np.float64) - start, loss


def fitting(model: bytes, rules: Policy, head: Head) -> npt.NDArray[np.int64]:
    """Return a global model on the task's grid, shape (parameters,).

    Raises
    ------
    ProtocolError
        If it, or the policy's layout, is not that of the head.
    """
    from app.learning.weights import layout

    if layout(head) != rules.layout:
        raise ProtocolError("the policy's layout is not that of the model that its config describes")
    return unpack(model, rules.layout, MODEL_DTYPE)


def _set_global(head: Head, rules: Policy, model: bytes) -> npt.NDArray[np.float64]:
    """Set the global weights and return them as the head has them, in float64."""
    from app.learning.weights import get_vector, set_vector

    set_vector(head, rules.grid.decode(fitting(model, rules, head)))
    return get_vector(head).astype(np.float64)
