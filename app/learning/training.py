"""Features of records, a customer's local training, and how good a head is."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from app.learning.config import TrainConfig
from app.learning.data import Dataset
from app.learning.models.heads import Head
from app.learning.models.phone import Phone
from app.protocol.errors import ConfigError

Features = NDArray[np.float32]
Labels = NDArray[np.int64]


def features(phone: Phone, data: Dataset, batch: int = 64) -> Features:
    """Run the phone's part on every record; return (n, d) float32, clean and not clipped."""
    found = [np.empty((0, 0), np.float32)] if not len(data) else []
    with torch.no_grad():
        for start in range(0, len(data), batch):
            found.append(phone(phone.prepare(data.inputs[start : start + batch])).numpy())
    return np.concatenate(found)


def train_head(mec: Head, released: Features, labels: Labels, train: TrainConfig, seed: int) -> float:
    """Train a head in place by plain SGD.

    The order of the records comes from a generator of its own: customers that train in threads of one process, or in
    processes of their own, get the same weights.

    Parameters
    ----------
    mec : Head
        The trainable part.
    released : ndarray of float32, shape (n, d)
        Features as they reached the MEC, n >= 1.
    labels : ndarray of int64, shape (n,)
        Their classes.
    train : TrainConfig
        Epochs, batch size, learning rate, momentum.
    seed : int
        Decides the order.

    Returns
    -------
    float
        Mean loss over the records in the last epoch.

    Raises
    ------
    ConfigError
        If a training setting is out of range.
    """
    check(train)
    generator = torch.Generator().manual_seed(seed)
    x, y = torch.from_numpy(released), torch.from_numpy(labels)
    size = min(train.batch_size or len(x), len(x))
    optimiser = torch.optim.SGD(mec.parameters(), lr=train.learning_rate, momentum=train.momentum)
    total = 0.0
    for _ in range(train.epochs):
        total = 0.0
        for batch in torch.split(torch.randperm(len(x), generator=generator), size):
            optimiser.zero_grad()
            loss = mec.loss(x[batch], y[batch])
            torch.autograd.backward(loss)
            optimiser.step()
            total += float(loss.detach()) * len(batch)
    return total / len(x)


def accuracy_and_loss(mec: Head, clean: Features, labels: Labels) -> tuple[float, float]:
    """Return the share of right predictions and the mean cross-entropy, over n >= 1 feature vectors."""
    scores, truth = _scores(mec, clean), torch.from_numpy(labels)
    accuracy = float((scores.argmax(dim=1) == truth).double().mean())
    return accuracy, float(torch.nn.functional.cross_entropy(scores.double(), truth))


def _scores(mec: Head, clean: Features) -> torch.Tensor:
    with torch.no_grad():
        return torch.cat([mec(part) for part in torch.split(torch.from_numpy(clean), 4096)])


def check(train: TrainConfig) -> None:
    """Raise `ConfigError` if a training setting is out of range."""
    if train.epochs < 1:
        raise ConfigError("train.epochs", f"{train.epochs} passes train nothing", allowed=">= 1")
    if train.batch_size < 0:
        raise ConfigError("train.batch_size", f"{train.batch_size} is no size", allowed=">= 0 (0: all records)")
    if not 0 < train.learning_rate < float("inf"):
        raise ConfigError("train.learning_rate", f"{train.learning_rate} is no step", allowed="> 0")
    if not 0 <= train.momentum < 1:
        raise ConfigError("train.momentum", f"{train.momentum} does not decay", allowed="0 <= momentum < 1")
