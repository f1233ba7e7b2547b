"""Exact samples of a law, from uniform bits, by the inverse of its cumulative distribution.

A uniform number U in [0, 1) is drawn bit by bit. Its first bits leave it in an interval [u, u + 1) 2**-b; as soon as
no F(m) lies inside, the sample is decided: the m with F(m - 1) <= U < F(m). With b = 63 nearly every sample is
decided by a search in a table of floor(F(m) 2**63). The few whose u equals an entry draw 64 bits more and
are compared with F computed to that precision, and so on. So the law of the samples is the stated one exactly, over
its whole infinite range; nothing is truncated, and no residual has to be paid for in delta.

(How long a draw takes depends on the sample only where more bits are drawn, about once in 10**14 samples.)
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from app.privacy.laws import GaussianMagnitude, LaplaceMagnitude, Law, Shift
from app.privacy.randomness import RandomSource

Integers = npt.NDArray[np.int64]

FIRST_BITS = 63
_MORE_BITS = 64
_GUIDE_BITS = 16
_AT_ONCE = 2**18


class Sampler:
    """Draws from one law.

    Parameters
    ----------
    law : Law
        What is drawn.
    signed : bool
        Whether the sample of the law is a magnitude that gets a fair sign.
    first_bits : int, default 63
        Bits of the table, 1 to 63. Fewer only make it slower: more samples need more bits.
    """

    def __init__(self, law: Law, *, signed: bool, first_bits: int = FIRST_BITS) -> None:
        self._law, self._signed, self._first_bits = law, signed, first_bits
        self._table = np.array(floors(law, first_bits), dtype=np.uint64)
        # The answers by the first bits of U alone: `_guide[i]` and `_guide[i + 1]` are equal unless an entry lies
        # between, which is so for one in a hundred. Those are searched for.
        self._guide_shift = np.uint64(max(0, first_bits - _GUIDE_BITS))
        starts = np.arange(2 ** min(first_bits, _GUIDE_BITS) + 1, dtype=np.uint64) << self._guide_shift
        self._guide = np.searchsorted(self._table, starts).astype(np.int32)

    def draw(self, shape: tuple[int, ...], source: RandomSource) -> Integers:
        """Return independent samples in an array of ``shape``."""
        samples = np.empty(int(np.prod(shape, dtype=np.int64)), np.int64)
        for start in range(0, len(samples), _AT_ONCE):
            part = samples[start : start + _AT_ONCE]
            part[:] = self._some(len(part), source)
        return samples.reshape(shape)

    def _some(self, count: int, source: RandomSource) -> Integers:
        words = source.words(count)
        prefix = words >> np.uint64(64 - self._first_bits)
        bucket = (prefix >> self._guide_shift).astype(np.intp)
        first = self._guide[bucket]
        samples = first.astype(np.int64)
        crossed = np.flatnonzero(first != self._guide[bucket + 1])
        found = np.searchsorted(self._table, prefix[crossed], side="right")
        samples[crossed] = found
        equal = self._table[np.maximum(found - 1, 0)] == prefix[crossed]
        for index in crossed[equal]:
            samples[index] = decide(self._law, int(prefix[index]), self._first_bits, source)
        if self._signed:
            # The last bit is none of the first 63, and with a magnitude of 0 it says nothing.
            np.negative(samples, out=samples, where=(words & np.uint64(1)).astype(bool))
        return samples


def decide(law: Law, prefix: int, bits: int, source: RandomSource) -> int:
    """Draw more bits of U, of which the first ``bits`` are ``prefix``, until the sample is decided."""
    while True:
        prefix, bits = prefix << _MORE_BITS | int(source.words(1)[0]), bits + _MORE_BITS
        table = floors(law, bits)
        if (sample := bisect_right(table, prefix)) == bisect_left(table, prefix):
            return sample


def floors(law: Law, bits: int) -> list[int]:
    """Return floor(F(m) 2**bits), and 2**bits - 1 instead of 2**bits; with as many more digits as it takes."""
    guard, top = 32, (1 << bits) - 1
    while True:
        table, error = law.cumulative(bits + guard)
        below = [min(top, max(0, value - error) >> guard) for value in table]
        if below == [min(top, (value + error) >> guard) for value in table]:
            return below
        guard *= 2


@lru_cache(maxsize=16)
def _sampler(make: Callable[..., Law], signed: bool, *parameters: float) -> Sampler:
    return Sampler(make(*parameters), signed=signed)


def discrete_laplace(scale: float, shape: tuple[int, ...], source: RandomSource) -> Integers:
    """Draw from P(z) ~ exp(-|z| / scale); a scale of 0 gives zeros."""
    if scale == 0:
        return np.zeros(shape, np.int64)
    return _sampler(LaplaceMagnitude, True, scale).draw(shape, source)


def discrete_gaussian(sigma: float, shape: tuple[int, ...], source: RandomSource) -> Integers:
    """Draw from P(z) ~ exp(-z**2 / (2 sigma**2))."""
    return _sampler(GaussianMagnitude, True, sigma).draw(shape, source)


def label_shifts(epsilon: float, classes: int, shape: tuple[int, ...], source: RandomSource) -> Integers:
    """Draw by how many classes randomised response moves each label."""
    return _sampler(Shift, False, epsilon, classes).draw(shape, source)
