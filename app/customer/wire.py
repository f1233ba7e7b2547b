"""What crosses from the phone to the MEC server: released features and labels, nothing else."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors.numpy import save

from app.privacy.mechanism import Released
from app.protocol.errors import ProtocolError
from app.protocol.tensors import read_tensors

_NAMES = {"values", "step", "labels", "key", "digest"}
_OTHER = "released values must be int32, or finite float32 in the clear, of shape (records, features)"


@dataclass(frozen=True, slots=True, eq=False)
class FeatureRelease:
    """One release of a customer's features.

    Attributes
    ----------
    values : numpy.ndarray of int32 or float32
        What the mechanism released, shape (records, features): whole numbers of steps; float32, finite, where
        features leave in the clear.
    step : float
        The grid's step g, a power of two; 1 in the clear.
    labels : numpy.ndarray of int64
        The records' classes as they were released, shape (records,), not negative.
    key : str
        Which release this is: a digest (64 hexadecimal digits) of task, customer, salted record set, mechanism,
        treatment of labels, and frozen part.

    Raises
    ------
    ProtocolError
        If an array or the key is anything else.
    """

    values: npt.NDArray[np.int32] | npt.NDArray[np.float32]
    step: float
    labels: npt.NDArray[np.int64]
    key: str

    def __post_init__(self) -> None:
        in_the_clear = self.values.dtype == np.float32
        if self.values.ndim != 2 or not (in_the_clear or self.values.dtype == np.int32):
            raise ProtocolError(_OTHER)
        if in_the_clear and not (np.isfinite(self.values).all() and self.step == 1.0):
            raise ProtocolError(_OTHER)
        if not (0.0 < self.step < math.inf and math.frexp(self.step)[0] == 0.5):
            raise ProtocolError("the step of a release must be a power of two")
        if self.labels.dtype != np.int64 or self.labels.shape != self.values.shape[:1] or (self.labels < 0).any():
            raise ProtocolError("released labels must be one class (int64, not negative) a record")
        if len(self.key) != 64 or set(self.key) - set("0123456789abcdef"):
            raise ProtocolError("the key of a release has 64 lower-case hexadecimal digits")

    @property
    def features(self) -> npt.NDArray[np.float32]:
        """The values times the step, float32: what the MEC server trains on."""
        return Released(self.values, self.step).features

    @property
    def digest(self) -> str:
        """SHA-256 of all that leaves the phone, in hexadecimal; what the accountant counts."""
        content = hashlib.sha256(f"{self.key} {self.values.dtype.name} {self.values.shape} {self.step.hex()}".encode())
        content.update(np.ascontiguousarray(self.values, dtype=self.values.dtype.newbyteorder("<")).data)
        content.update(np.ascontiguousarray(self.labels, dtype="<i8").data)
        return content.hexdigest()

    def to_bytes(self) -> bytes:
        """Return the release as safetensors, which cannot execute code, with its digest inside."""
        tensors: dict[str, npt.NDArray[Any]] = {
            "values": np.ascontiguousarray(self.values),
            "step": np.array([self.step]),
            "labels": np.ascontiguousarray(self.labels),
            "key": np.frombuffer(bytes.fromhex(self.key), np.uint8),
            "digest": np.frombuffer(bytes.fromhex(self.digest), np.uint8),
        }
        return bytes(save(tensors))

    @classmethod
    def from_bytes(cls, data: bytes) -> FeatureRelease:
        """Read what `to_bytes` wrote; raise `ProtocolError` on anything else, also if one bit was changed."""
        tensors = read_tensors(data, "a release")
        if set(tensors) != _NAMES:
            raise ProtocolError("a release holds exactly: " + ", ".join(sorted(_NAMES)))
        if tensors["step"].dtype != np.float64 or tensors["step"].shape != (1,):
            raise ProtocolError("the step of a release is one float64")
        step = float(tensors["step"][0])
        release = cls(tensors["values"], step, tensors["labels"], tensors["key"].tobytes().hex())
        if release.digest != tensors["digest"].tobytes().hex():
            raise ProtocolError("a release does not match its digest")
        return release
