"""Where noise comes from.

Both sources turn a ChaCha20 key stream into standard normal numbers in the same way; only the key differs. One is
keyed by the operating system and cannot be repeated, the other by a seed and says in its name that it protects
nobody.

What is not claimed yet: the numbers are a *continuous* Gaussian in float64 (Box-Muller), not samples of a discrete
law drawn exactly. Their tail ends at 8.57 standard deviations (mass 1e-17), and their spacing is float64's. The
mechanism rounds its output to a power-of-two grid far coarser than that spacing. The rounding is post-processing and
removes the low bits that betray float noise in practice (Mironov 2012), but it is no proof. An exact sampler replaces
`RandomSource.normal`, and nothing else has to change.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import threading
from typing import Protocol

import numpy as np
import numpy.typing as npt
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms

from app.protocol.digest import canonical_json

_KEY_BYTES = 32
_NONCE = bytes(16)  # every key is used for one stream only
_STREAM_LIMIT = 2**38  # bytes of one ChaCha20 stream: 2**32 blocks of 64


class RandomSource(Protocol):
    """A source of noise.

    Attributes
    ----------
    name : str
        ``system`` or ``seeded-insecure``; it stands in every record of a release.
    """

    @property
    def name(self) -> str:
        """Which source this is."""

    def normal(self, shape: tuple[int, ...]) -> npt.NDArray[np.float64]:
        """Return independent standard normal numbers in an array of ``shape``."""


class SystemRandom:
    """Noise keyed by the operating system, for claims that must hold.

    Every draw has a key of its own from ``os.urandom``, which is forgotten with it: nothing is kept that could be
    logged, written down, or shared by a forked process.
    """

    name = "system"

    def normal(self, shape: tuple[int, ...]) -> npt.NDArray[np.float64]:
        """Return independent standard normal numbers in an array of ``shape``."""
        return _normal(os.urandom(_KEY_BYTES), shape)


class InsecureSeededRandom:
    """Noise that whoever knows the seed can subtract: for tests and simulations, which must be repeatable.

    Parameters
    ----------
    *seed : int or str
        What the stream is derived from, for example the run's seed and the customer's index. No global generator
        takes part in it.
    """

    name = "seeded-insecure"

    def __init__(self, *seed: int | str) -> None:
        self._key = hashlib.sha256(b"hearth insecure seeded noise" + canonical_json(list(seed))).digest()
        self._draws = 0
        self._lock = threading.Lock()

    def normal(self, shape: tuple[int, ...]) -> npt.NDArray[np.float64]:
        """Return independent standard normal numbers in an array of ``shape``; the next draw gives others."""
        with self._lock:
            draw, self._draws = self._draws, self._draws + 1
        return _normal(hmac.new(self._key, draw.to_bytes(8, "big"), hashlib.sha256).digest(), shape)


def _normal(key: bytes, shape: tuple[int, ...]) -> npt.NDArray[np.float64]:
    """Turn a key stream into normal numbers.

    Box and Muller 1958: for independent u in (0, 1] and v in [0, 1), r = sqrt(-2 ln u) and the angle 2 pi v give two
    independent normal numbers r cos, r sin. u and v have 53 bits each.
    """
    count = int(np.prod(shape, dtype=np.int64))
    pairs = (count + 1) // 2
    bits = _key_stream(key, 2 * pairs) >> np.uint64(11)
    radius = np.sqrt(-2.0 * np.log((bits[:pairs].astype(np.float64) + 1.0) * 2.0**-53))
    angle = 2.0 * np.pi * (bits[pairs:].astype(np.float64) * 2.0**-53)
    return np.concatenate([radius * np.cos(angle), radius * np.sin(angle)])[:count].reshape(shape)


def _key_stream(key: bytes, words: int) -> npt.NDArray[np.uint64]:
    if 8 * words > _STREAM_LIMIT:
        raise ValueError(f"one draw gives at most {_STREAM_LIMIT // 8} numbers, not {words}")
    encryptor = Cipher(algorithms.ChaCha20(key, _NONCE), mode=None).encryptor()
    return np.frombuffer(encryptor.update(bytes(8 * words)), dtype="<u8")
