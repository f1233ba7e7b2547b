"""What a customer has learnt in a round, kept: when it is asked for again, it sends the same and spends nothing."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import numpy.typing as npt

from app.customer.mec_messages import trained_from_bytes, trained_to_bytes
from app.durable import write_privately
from app.protocol.errors import ProtocolError, StoreError

_log = logging.getLogger(__name__)
_SUFFIX = ".safetensors"


class KeptUpdates:
    """Updates by name, in a folder; a damaged file is the same as none.

    Parameters
    ----------
    folder : Path
        Of the customer's own.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def put(self, name: str, delta: npt.NDArray[np.float64], loss: float) -> None:
        """Keep an update; it is on the disk when this returns. Raise `StoreError` if the disk refuses."""
        write_privately(self._folder / (name + _SUFFIX), trained_to_bytes(delta, loss))

    def get(self, name: str) -> tuple[npt.NDArray[np.float64], float] | None:
        """Return the update under a name and its loss; None if there is none that is whole."""
        path = self._folder / (name + _SUFFIX)
        try:
            return trained_from_bytes(path.read_bytes())
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StoreError(f"cannot read {path}: {error.strerror}") from error
        except ProtocolError as error:
            _log.warning("%s is damaged and taken as lost: %s", path, error)
            return None
