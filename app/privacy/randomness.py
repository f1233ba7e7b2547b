"""Where noise comes from.

Both sources give independent, uniform 64-bit words from a ChaCha20 key stream; only the key differs. One is keyed by
the operating system and cannot be repeated, the other by a seed and says in its name that it protects nobody. What
the words become, exactly distributed noise, is `app.privacy.sampler`'s.
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

Words = npt.NDArray[np.uint64]

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

    def words(self, count: int) -> Words:
        """Return ``count`` independent uniform words of 64 bits."""


class SystemRandom:
    """Noise keyed by the operating system, for claims that must hold.

    Every draw has a key of its own from ``os.urandom``, which is forgotten with it: nothing is kept that could be
    logged, written down, or shared by a forked process.
    """

    name = "system"

    def words(self, count: int) -> Words:
        """Return ``count`` independent uniform words of 64 bits."""
        return _key_stream(os.urandom(_KEY_BYTES), count)


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

    def words(self, count: int) -> Words:
        """Return ``count`` independent uniform words of 64 bits; the next draw gives others."""
        with self._lock:
            draw, self._draws = self._draws, self._draws + 1
        return _key_stream(hmac.new(self._key, draw.to_bytes(8, "big"), hashlib.sha256).digest(), count)


def _key_stream(key: bytes, words: int) -> Words:
    if 8 * words > _STREAM_LIMIT:
        raise ValueError(f"one draw gives at most {_STREAM_LIMIT // 8} words, not {words}")
    encryptor = Cipher(algorithms.ChaCha20(key, _NONCE), mode=None).encryptor()
    return np.frombuffer(encryptor.update(bytes(8 * words)), dtype="<u8")
