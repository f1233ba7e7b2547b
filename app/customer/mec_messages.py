"""The messages between a phone and a MEC server that is a service: safetensors and canonical JSON."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors.numpy import save

from app.customer.job import Job
from app.customer.wire import FeatureRelease
from app.protocol.digest import canonical_json, parse_json
from app.protocol.errors import ProtocolError
from app.protocol.shapes import Shape, check, count, flag
from app.protocol.tensors import read_tensors

SERVICE = "hearth.Mec"
CUSTOMER, TIME, SIGNATURE = "hearth-customer", "hearth-time", "hearth-signature"
"""Names of the metadata that tell who asks."""
_JOB = {"policy", "frozen", "model", "seed", "key"}
_KEY_DIGITS = 64


def key_to_bytes(key: str) -> bytes:
    """Return the name of a release as a message."""
    return key.encode()


def key_from_bytes(data: bytes) -> str:
    """Read a release's name; raise `ProtocolError` on anything else."""
    text = data[: _KEY_DIGITS + 1].decode("ascii", "replace")
    if len(text) != _KEY_DIGITS or set(text) - set("0123456789abcdef"):
        raise ProtocolError("the key of a release has 64 lower-case hexadecimal digits")
    return text


def job_to_bytes(key: str, job: Job) -> bytes:
    """Return what is to be trained on which release as a message."""
    blobs = {"policy": job.policy, "frozen": job.frozen, "model": job.model, "key": key.encode()}
    tensors: dict[str, npt.NDArray[Any]] = {name: np.frombuffer(blob, np.uint8) for name, blob in blobs.items()}
    return bytes(save(tensors | {"seed": np.array([job.seed], np.int64)}))


def job_from_bytes(data: bytes) -> tuple[str, Job]:
    """Read what `job_to_bytes` wrote; raise `ProtocolError` on anything else."""
    tensors = _tensors(data, _JOB, "a job")
    seed = tensors.pop("seed")
    if seed.dtype != np.int64 or seed.shape != (1,) or seed[0] < 0:
        raise ProtocolError("a job's seed is one int64 from 0")
    if any(part.dtype != np.uint8 or part.ndim != 1 for part in tensors.values()):
        raise ProtocolError("a job's blobs are bytes")
    blobs = {name: part.tobytes() for name, part in tensors.items()}
    return key_from_bytes(blobs.pop("key")), Job(**blobs, seed=int(seed[0]))


def trained_to_bytes(delta: npt.NDArray[np.float64], loss: float) -> bytes:
    """Return what training changed as a message."""
    return bytes(save({"delta": np.ascontiguousarray(delta, np.float64), "loss": np.array([loss], np.float64)}))


def trained_from_bytes(data: bytes) -> tuple[npt.NDArray[np.float64], float]:
    """Read what `trained_to_bytes` wrote; raise `ProtocolError` on anything else."""
    tensors = _tensors(data, {"delta", "loss"}, "what a MEC server trained")
    delta, loss = tensors["delta"], tensors["loss"]
    if delta.dtype != np.float64 or delta.ndim != 1 or loss.dtype != np.float64 or loss.shape != (1,):
        raise ProtocolError("what a MEC server trained is a vector and a number of float64")
    return delta, float(loss[0])


def step_to_bytes(number: int, release: FeatureRelease) -> bytes:
    """Return a step of joint training, the ``number``-th from 0, as a message."""
    return bytes(save({"number": np.array([number], np.int64), "release": np.frombuffer(release.to_bytes(), np.uint8)}))


def step_from_bytes(data: bytes) -> tuple[int, FeatureRelease]:
    """Read what `step_to_bytes` wrote; raise `ProtocolError` on anything else."""
    tensors = _tensors(data, {"number", "release"}, "a step")
    number, release = tensors["number"], tensors["release"]
    if number.dtype != np.int64 or number.shape != (1,) or release.dtype != np.uint8 or release.ndim != 1:
        raise ProtocolError("a step is one int64 and a release's bytes")
    return int(number[0]), FeatureRelease.from_bytes(release.tobytes())


def gradient_to_bytes(gradient: npt.NDArray[np.float32], loss: float) -> bytes:
    """Return what a step gives the phone as a message."""
    return bytes(save({"gradient": np.ascontiguousarray(gradient, np.float32), "loss": np.array([loss], np.float64)}))


def gradient_from_bytes(data: bytes) -> tuple[npt.NDArray[np.float32], float]:
    """Read what `gradient_to_bytes` wrote; raise `ProtocolError` on anything else."""
    tensors = _tensors(data, {"gradient", "loss"}, "a gradient")
    gradient, loss = tensors["gradient"], tensors["loss"]
    if gradient.dtype != np.float32 or gradient.ndim != 2 or loss.dtype != np.float64 or loss.shape != (1,):
        raise ProtocolError("a gradient is a matrix of float32 and a number of float64")
    return gradient, float(loss[0])


def answer_to_bytes(held: bool) -> bytes:
    """Return whether a release is held as a message."""
    return canonical_json({"held": held})


def answer_from_bytes(data: bytes) -> bool:
    """Read what `answer_to_bytes` wrote; raise `ProtocolError` on anything else."""
    value = parse_json(data, "an answer")
    check(value, {"held": flag}, "an answer")
    return bool(value["held"])


def metadata_of(customer: str, time: int, signature: bytes) -> dict[str, str]:
    """Return what tells a server who asks."""
    return {CUSTOMER: customer, TIME: str(time), SIGNATURE: signature.hex()}


def read_metadata(metadata: dict[str, str]) -> tuple[str, int, bytes]:
    """Read what `metadata_of` made; raise `ProtocolError` on anything else."""
    try:
        time = int(metadata[TIME]) if len(metadata[TIME]) < 20 else -1
        value = {"customer": metadata[CUSTOMER], "time": time}
        signature = bytes.fromhex(metadata[SIGNATURE])
    except (KeyError, ValueError) as error:
        raise ProtocolError("the request does not say who asks") from error
    check(value, _WHO, "who asks")
    return metadata[CUSTOMER], time, signature


def _short(value: object) -> bool:
    return isinstance(value, str) and len(value) == 42


_WHO: Shape = {"customer": _short, "time": count}


def _tensors(data: bytes, names: set[str], what: str) -> dict[str, npt.NDArray[Any]]:
    tensors = read_tensors(data, what)
    if set(tensors) != names:
        raise ProtocolError(f"{what} holds exactly: " + ", ".join(sorted(names)))
    return tensors
