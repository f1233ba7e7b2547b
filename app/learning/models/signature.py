"""A fixed description of one electrical signal: how it switches on, and how it hums afterwards.

No number in here comes from other records, so the signature of a record depends on that record alone. Everything
except the level is relative to the record's own root mean square, because amplitudes span four orders of magnitude.
A record does not start at the moment of switching on, so the transient is read from the first clear rise.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

# Windows after the rise, in samples: short where the inrush current is, long where the load settles.
EDGES = np.array([0, 1, 2, 3, 5, 8, 12, 18, 26, 38, 55, 80, 115, 165, 240])
STEADY = 100  # samples at the end that show the steady state
WINDOW = 40  # samples of one spectrum of the steady state
LONG_WINDOW = 64  # samples of one spectrum of the whole record
LAGS = 11
RISE = 0.3  # share of the record's large values that counts as switched on
_TINY = 1e-9


def signature(signal: NDArray[np.float32]) -> NDArray[np.float32]:
    """Describe one signal of any length >= 1 by `SIZE` numbers of order one."""
    x = signal.astype(np.float64)
    rms = float(np.sqrt(np.mean(x * x))) + _TINY
    magnitude = np.abs(x)
    rise = int(np.argmax(magnitude > RISE * np.quantile(magnitude, 0.9)))
    steady = x[-STEADY:] - x[-STEADY:].mean()
    level = float(np.median(magnitude[-max(20, len(x) // 4) :]))
    parts = [
        _transient(x[rise:], rms),
        [min(rise, 50) / 50, np.log(len(x) / 200)],
        np.log(_spectrum(steady, WINDOW)[1:] / rms + 1e-3),
        _autocorrelation(steady),
        [np.log(rms + 1e-4), np.log(level + 1e-4)],
        np.log(_spectrum(x, LONG_WINDOW) / rms + 1e-3),
    ]
    return np.concatenate([np.asarray(part) for part in parts]).astype(np.float32)


def _transient(x: Array, rms: float) -> Array:
    """Mean, largest, smallest and spread of the windows after the rise, and when the peak comes."""
    missing = EDGES[-1] - len(x)
    if missing > 0:
        x = np.concatenate([x, np.resize(x[-5:], missing)])  # goes on as it ended
    starts = EDGES[:-1]
    x = x[: EDGES[-1]]
    means = np.add.reduceat(x, starts) / np.diff(EDGES)
    spreads = np.sqrt(np.maximum(np.add.reduceat(x * x, starts) / np.diff(EDGES) - means**2, 0))
    shape = np.concatenate([means, np.maximum.reduceat(x, starts), np.minimum.reduceat(x, starts)]) * (4 / rms)
    peak = np.argmax(np.abs(x)) / 50
    return np.concatenate([np.sign(shape) * np.log1p(np.abs(shape)), np.log(spreads[3:] / rms + 0.01), [peak]])


def _spectrum(x: Array, window: int) -> Array:
    """Return the mean magnitude of half-overlapping Hann-windowed spectra (Welch), window // 2 + 1 bins."""
    if len(x) < window:
        x = np.pad(x, (0, window - len(x)))
    frames = np.lib.stride_tricks.sliding_window_view(x, window)[:: window // 2]
    magnitudes: Array = np.abs(np.fft.rfft(frames * np.hanning(window), axis=1)).mean(axis=0) / window
    return magnitudes


def _autocorrelation(x: Array) -> Array:
    """Return the autocorrelation at lags 1 to `LAGS`; zero at lags that the record does not have."""
    z = x / (x.std() + _TINY)
    return np.array([np.mean(z[lag:] * z[:-lag]) if lag < len(z) else 0.0 for lag in range(1, LAGS + 1)])


SIZE = len(signature(np.ones(1, np.float32)))
