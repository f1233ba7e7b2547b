"""The MEC server of one customer: it trains the head on what the phone has released."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from app.customer.shelf import Shelf
from app.customer.task import TaskConfig
from app.customer.wire import FeatureRelease
from app.privacy.exposure import gradient_multiplier, steps_of_a_round
from app.privacy.randomness import InsecureSeededRandom, SystemRandom
from app.protocol.errors import ProtocolError

if TYPE_CHECKING:
    from app.learning.models import Head


class Mec:
    """Mobile-edge-computing server, half of a customer.

    It is honest in training but not trusted with data: raw data, clean features, the wallet and the accountant are
    the phone's. All that the phone ever sends it is a `FeatureRelease`; everything it does with that, in however many
    epochs and rounds, is post-processing and costs no further privacy.

    Parameters
    ----------
    home : Path, Shelf or None
        Folder of its own, where releases outlive the process, or the shelf that they lie on; None keeps them in memory
        alone.
    """

    def __init__(self, home: Path | Shelf | None) -> None:
        self._shelf = home if isinstance(home, Shelf) else Shelf(home)

    def holds(self, key: str) -> bool:
        """Tell whether it has the release under ``key``, whole."""
        return self._shelf.get(key) is not None

    def accept(self, release: FeatureRelease) -> None:
        """Take a release and keep it; raise `StoreError` if the disk refuses."""
        self._shelf.put(release)

    def train(self, key: str, head: Head, task: TaskConfig, seed: int) -> tuple[npt.NDArray[np.float32], float]:
        """Train a head on a release.

        Parameters
        ----------
        key : str
            Which release.
        head : Head
            The MEC part of the model with the global weights set; it is changed.
        task : TaskConfig
            How: epochs, batch size and so on, and whether by DP-SGD.
        seed : int
            Order of the batches and everything else that is drawn.

        Returns
        -------
        vector : numpy.ndarray of float32
            The trained parameters, shape (parameters,), in the order of the model's layout.
        loss : float
            Mean loss of the last epoch.

        Raises
        ------
        ProtocolError
            If it does not hold the release.
        """
        from app.learning.training import train_head
        from app.learning.weights import get_vector

        release = self._shelf.get(key)
        if release is None:
            raise ProtocolError(f"the MEC server holds no release {key}")
        if task.privacy.mechanism == "dp_sgd":
            loss = _privately(head, release, task, seed)
        else:
            loss = train_head(head, release.features, release.labels, task.train, seed)
        return get_vector(head), loss

    def forget(self, key: str) -> None:
        """Delete a release, once its task is over; raise `StoreError` if the disk refuses."""
        self._shelf.remove(key)


def _privately(head: Head, release: FeatureRelease, task: TaskConfig, seed: int) -> float:
    """Train a head in place by DP-SGD as a task asks for it, and return the loss."""
    from app.learning.private_sgd import train_head_privately

    config, exposure = task.privacy, task.exposure
    seeded = config.randomness != SystemRandom.name
    return train_head_privately(
        head,
        release.features,
        release.labels,
        task.train,
        rate=config.sampling_rate,
        steps=steps_of_a_round(config, exposure),
        clip=config.clip_gradient,
        noise_multiplier=gradient_multiplier(config, exposure),
        source=InsecureSeededRandom(seed, "DP-SGD of the head") if seeded else SystemRandom(),
    )
