"""The MEC server of one customer: it trains the head on what the phone has released."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from app.customer.shelf import Shelf
from app.customer.task import TaskConfig
from app.customer.wire import FeatureRelease
from app.learning.config import TrainConfig
from app.privacy.exposure import gradient_multiplier, steps_of_a_round
from app.privacy.randomness import InsecureSeededRandom, SystemRandom
from app.protocol.errors import ProtocolError

if TYPE_CHECKING:
    from app.learning.models import Head


class Mec:
    """Mobile-edge-computing server, half of a customer.

    It is honest in training but not trusted with data, unless the task has ``privacy=dp_sgd``: raw data, clean
    features, the wallet and the accountant are the phone's. All that the phone ever sends it is a `FeatureRelease`;
    everything it does with that, in however many epochs and rounds, is post-processing and costs no further privacy.

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

    def train(self, key: str, head: Head, train: TrainConfig, seed: int) -> tuple[npt.NDArray[np.float32], float]:
        """Train a head on a release.

        Parameters
        ----------
        key : str
            Which release.
        head : Head
            The MEC part of the model with the global weights set; it is changed.
        train : TrainConfig
            Epochs, batch size and so on.
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

        release = self._held(key)
        loss = train_head(head, release.features, release.labels, train, seed)
        return get_vector(head), loss

    def train_privately(
        self, key: str, head: Head, task: TaskConfig, seed: int
    ) -> tuple[npt.NDArray[np.float32], float]:
        """Train a head by DP-SGD, as a task asks for it; else as `train`.

        ``seed`` decides the batches and the noise of a simulation. A task that does not say ``seeded-insecure`` has
        both from the operating system.
        """
        from app.learning.private_sgd import train_head_privately
        from app.learning.weights import get_vector

        release, config = self._held(key), task.privacy
        seeded = config.randomness != SystemRandom.name
        loss = train_head_privately(
            head,
            release.features,
            release.labels,
            task.train,
            rate=config.sampling_rate,
            steps=steps_of_a_round(config, task.exposure),
            clip=config.clip_gradient,
            noise_multiplier=gradient_multiplier(config, task.exposure),
            source=InsecureSeededRandom(seed, "DP-SGD of the head") if seeded else SystemRandom(),
        )
        return get_vector(head), loss

    def _held(self, key: str) -> FeatureRelease:
        release = self._shelf.get(key)
        if release is None:
            raise ProtocolError(f"the MEC server holds no release {key}")
        return release

    def forget(self, key: str) -> None:
        """Delete a release, once its task is over; raise `StoreError` if the disk refuses."""
        self._shelf.remove(key)
