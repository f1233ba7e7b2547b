"""What crosses from the phone to the MEC server: released features and labels, nothing else."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load, save

from app.protocol.errors import ProtocolError

_NAMES = {"features", "labels", "key", "digest"}


@dataclass(frozen=True, slots=True, eq=False)
class FeatureRelease:
    """One release of a customer's features.

    Attributes
    ----------
    features : numpy.ndarray of float32
        What the mechanism released, shape (records, features), finite.
    labels : numpy.ndarray of int64
        The records' classes in the clear, shape (records,), not negative.
    key : str
        Which release this is: a digest (64 hexadecimal digits) of task, customer, salted record set, mechanism
        and frozen part.

    Raises
    ------
    ProtocolError
        If an array or the key is anything else.
    """

    features: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]
    key: str

    def __post_init__(self) -> None:
        if self.features.dtype != np.float32 or self.features.ndim != 2 or not np.isfinite(self.features).all():
            raise ProtocolError("released features must be finite float32 of shape (records, features)")
        if self.labels.dtype != np.int64 or self.labels.shape != self.features.shape[:1] or (self.labels < 0).any():
            raise ProtocolError("released labels must be one class (int64, not negative) a record")
        if len(self.key) != 64 or set(self.key) - set("0123456789abcdef"):
            raise ProtocolError("the key of a release has 64 lower-case hexadecimal digits")

    @property
    def digest(self) -> str:
        """SHA-256 of all that leaves the phone, in hexadecimal; what the accountant counts."""
        content = hashlib.sha256(f"{self.key} {self.features.shape}".encode())
        content.update(np.ascontiguousarray(self.features, dtype="<f4").data)
        content.update(np.ascontiguousarray(self.labels, dtype="<i8").data)
        return content.hexdigest()

    def to_bytes(self) -> bytes:
        """Return the release as safetensors, which cannot execute code, with its digest inside."""
        tensors: dict[str, npt.NDArray[Any]] = {
            "features": np.ascontiguousarray(self.features),
            "labels": np.ascontiguousarray(self.labels),
            "key": np.frombuffer(bytes.fromhex(self.key), np.uint8),
            "digest": np.frombuffer(bytes.fromhex(self.digest), np.uint8),
        }
        return bytes(save(tensors))

    @classmethod
    def from_bytes(cls, data: bytes) -> FeatureRelease:
        """Read what `to_bytes` wrote; raise `ProtocolError` on anything else, also if one bit was changed."""
        try:
            tensors = load(data)
        except (SafetensorError, KeyError, ValueError, OverflowError, json.JSONDecodeError) as error:
            raise ProtocolError(f"not a release: {error}") from error
        if set(tensors) != _NAMES:
            raise ProtocolError("a release holds exactly: " + ", ".join(sorted(_NAMES)))
        release = cls(tensors["features"], tensors["labels"], tensors["key"].tobytes().hex())
        if release.digest != tensors["digest"].tobytes().hex():
            raise ProtocolError("a release does not match its digest")
        return release
