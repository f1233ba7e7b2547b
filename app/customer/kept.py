"""What a customer has learnt in a round, kept: when it is asked for again, it sends the same and spends nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors.numpy import save

from app.durable import read_if_whole, write_privately
from app.protocol.errors import ProtocolError
from app.protocol.tensors import read_tensors

_SUFFIX = ".safetensors"


class KeptUpdates:
    """The last update of each task, in a folder; a damaged file is the same as none.

    Parameters
    ----------
    folder : Path
        Of the customer's own.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def put(self, task: bytes, asked: bytes, delta: npt.NDArray[np.float64], loss: float) -> None:
        """Keep a task's update in place of the one before; it is on the disk when this returns.

        Parameters
        ----------
        task : bytes
            Digest of the task's policy.
        asked : bytes
            Digest (32 bytes) of what was asked for: round and global model.
        delta : ndarray of float64
            The change, shape (parameters,).
        loss : float
            Of the training.

        Raises
        ------
        StoreError
            If the disk refuses.
        """
        tensors: dict[str, npt.NDArray[Any]] = {
            "asked": np.frombuffer(asked, np.uint8),
            "delta": np.ascontiguousarray(delta, np.float64),
            "loss": np.array([loss], np.float64),
        }
        write_privately(self._path(task), bytes(save(tensors)))

    def get(self, task: bytes, asked: bytes) -> tuple[npt.NDArray[np.float64], float] | None:
        """Return a task's update and its loss; None if the last one is not of what was asked, or not whole."""
        found = read_if_whole(self._path(task), _read)
        return None if found is None or found[0] != asked else found[1:]

    def _path(self, task: bytes) -> Path:
        return self._folder / (task.hex() + _SUFFIX)


def _read(data: bytes) -> tuple[bytes, npt.NDArray[np.float64], float]:
    tensors = read_tensors(data, "a kept update")
    if set(tensors) != {"asked", "delta", "loss"}:
        raise ProtocolError("a kept update holds asked, delta and loss")
    asked, delta, loss = (tensors[name] for name in ("asked", "delta", "loss"))
    if delta.dtype != np.float64 or delta.ndim != 1 or loss.dtype != np.float64 or loss.shape != (1,):
        raise ProtocolError("a kept update is a vector and a number of float64")
    return asked.tobytes(), delta, float(loss[0])
