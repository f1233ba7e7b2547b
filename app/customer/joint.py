"""Joint training: the phone's layers learn from the gradient that the MEC server returns (Zhao et al. 2020, IV).

In every step the phone runs a batch through its layers as they are, normalises and noises the features afresh, and
sends them with their labels. The MEC server steps its head and returns the gradient by the features; the phone steps
its layers.

That gradient follows from released features alone, but what the phone makes of it follows from raw records, so it is
protected by DP-SGD: each record's own gradient is clipped, and the sum has noise. The normalisation is passed straight
through: its own derivative would bring the batch's other records into a record's gradient, which no clip could undo.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from app.customer.wire import FeatureRelease
from app.learning.config import TrainConfig
from app.learning.data import Dataset
from app.learning.models import Head
from app.learning.models import Phone as Extractor
from app.learning.training import check
from app.learning.weights import get_vector
from app.privacy.mechanism import Mechanism
from app.privacy.rounds import RoundProtection
from app.protocol.errors import ProtocolError

Step = Callable[[FeatureRelease], tuple[npt.NDArray[np.float32], float]]
"""What the MEC server does with a batch, see `HeadSteps.step`."""


class HeadSteps:
    """A head that learns from one release after another, and tells the phone which way each feature should move.

    Implements `app.customer.job.HeadTrainer`.

    Parameters
    ----------
    head : Head
        With the global weights; it is changed.
    train : TrainConfig
        Learning rate and momentum.
    width, classes : int
        Features of a record, and classes.
    """

    def __init__(self, head: Head, train: TrainConfig, width: int, classes: int) -> None:
        check(train)
        self._head, self._width, self._classes = head, width, classes
        self._optimiser = torch.optim.SGD(head.parameters(), lr=train.learning_rate, momentum=train.momentum)

    def step(self, release: FeatureRelease) -> tuple[npt.NDArray[np.float32], float]:
        """Take a step on a batch.

        Returns
        -------
        gradient : numpy.ndarray of float32
            Of the batch's mean loss by the released features, before the step; their shape.
        loss : float
            That loss.

        Raises
        ------
        ProtocolError
            If the release is empty, or not of the task's features and classes.
        """
        if (
            not len(release.labels)
            or release.values.shape[1] != self._width
            or release.labels.max(initial=0) >= self._classes
        ):
            raise ProtocolError("the released features, or their labels, are not the task's")
        features = torch.from_numpy(release.features).requires_grad_(True)
        self._optimiser.zero_grad()
        loss = self._head.loss(features, torch.from_numpy(release.labels))
        torch.autograd.backward(loss)
        self._optimiser.step()
        assert features.grad is not None
        return features.grad.numpy(), float(loss.detach())

    def end(self) -> npt.NDArray[np.float32]:
        """Return the head's weights, shape (its parameters,)."""
        return get_vector(self._head)


class PhoneSteps:
    """The phone's half of joint training.

    Parameters
    ----------
    extractor : app.learning.models.Phone
        The phone's layers with the global weights; they are changed.
    train : TrainConfig
        Learning rate, momentum, epochs.
    protection : RoundProtection
        How features and gradients are protected.
    round_number : int
        Which round.
    """

    def __init__(
        self, extractor: Extractor, train: TrainConfig, protection: RoundProtection, round_number: int
    ) -> None:
        self._extractor, self._train, self._protection = extractor, train, protection
        self._mechanism: Mechanism = protection.mechanism(round_number)
        self._round = round_number

    def learn(self, data: Dataset, key: str, step: Step, seed: int) -> float:
        """Train on all records, in batches that follow from ``seed`` alone, and return the last epoch's mean loss.

        Parameters
        ----------
        data : Dataset
            The customer's records, at least one.
        key : str
            Names the releases.
        step : callable
            The MEC server.
        seed : int
            Order of the records.
        """
        records = self._extractor.prepare(data.inputs)
        size = min(self._protection.config.batch_size, len(data))
        update = self._update(size)
        generator, total = torch.Generator().manual_seed(seed), 0.0
        for _ in range(self._train.epochs):
            total = 0.0
            for batch in torch.split(torch.randperm(len(data), generator=generator), size):
                x = records[batch]
                with torch.no_grad():
                    found = self._extractor(x).numpy()
                released = self._mechanism.release(found, self._extractor.space)
                labels = data.labels[batch.numpy()].astype(np.int64)
                gradient, loss = step(FeatureRelease(released.values, released.step, labels, key))
                update(x, torch.from_numpy(gradient))
                total += loss * len(batch)
        return total / len(data)

    def _update(self, size: int) -> Callable[[Tensor, Tensor], None]:
        """Return what steps the layers on a batch (n, ...) and the gradient (n, d) of its mean loss."""
        inner = torch.optim.SGD(
            [p for p in self._extractor.parameters() if p.requires_grad],
            lr=self._train.learning_rate,
            momentum=self._train.momentum,
        )
        if not self._protection.noised_gradients:

            def plainly(x: Tensor, gradient: Tensor) -> None:
                inner.zero_grad()
                torch.autograd.backward(_through(self._extractor, x, gradient))
                inner.step()

            return plainly
        from app.learning.private_sgd import LatticeOptimizer

        optimiser = LatticeOptimizer(
            inner,
            noise_multiplier=self._protection.noise_multiplier,
            max_grad_norm=self._protection.config.clip_gradient,
            expected_batch_size=size,
            source=self._protection.gradients(self._round),
        )
        return lambda x, gradient: optimiser.take(self._extractor, _through, x, len(x) * gradient)


def _through(extractor: nn.Module, x: Tensor, gradient: Tensor) -> Tensor:
    """Return a number whose derivative by the layers' weights is the returned gradient, carried through the layers."""
    carried: Tensor = (extractor(x) * gradient).sum()
    return carried
