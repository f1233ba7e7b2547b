"""The laws of the noise, to any precision: what an exact sampler compares its random bits with.

Each law is one of a whole number m >= 0 and given by its cumulative distribution F(m) = P(M <= m). Everything is
computed in integers scaled by a power of two from one correctly rounded exponential (`decimal.Decimal.exp`), and with
a bound on the error: a float64 would betray, in its last digits, that the noise is not what it claims to be.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from decimal import ROUND_HALF_EVEN, Context, Decimal, localcontext
from fractions import Fraction

from app.protocol.errors import PrivacyError

_LARGEST_TABLE = 2**22


class Law(ABC):
    """A law of whole numbers m >= 0."""

    @abstractmethod
    def cumulative(self, bits: int) -> tuple[list[int], int]:
        """Return F(0), F(1), ... times 2**bits as integers, and a bound on their error.

        The table ends where 1 - F is below 2**-bits, or with the last value that can occur.
        """


class LaplaceMagnitude(Law):
    """|Z| of the discrete Laplace law P(Z = z) = (1 - q) / (1 + q) q**|z| with q = exp(-1 / scale).

    Moving Z by an integer D changes every probability by a factor of at most q**-|D| = exp(|D| / scale): added to
    integers of L1 sensitivity D it is exactly (D / scale)-differentially private (Ghosh, Roughgarden, Sundararajan
    2009). P(|Z| > m) = 2 q**(m + 1) / (1 + q).

    Parameters
    ----------
    scale : float
        t > 0, in units of the grid; taken as the exact rational number that the float is.
    """

    def __init__(self, scale: float) -> None:
        self.scale = Fraction(scale)

    def cumulative(self, bits: int) -> tuple[list[int], int]:
        """See `Law`. Each of the M products rounds down by less than 1 and has the error of q, below 2, before it."""
        work = bits + 64
        one = 1 << work
        q = exponential(-1 / self.scale, work)
        tail = (2 * q << work) // (one + q)
        table = []
        while True:
            table.append((one - tail) >> 64)
            if tail < 1 << 64:
                break
            tail = tail * q >> work
            _check_size(table)
        return table, 2  # the errors of `work` digits, at most 8 * 2**22 * 2**-64, and the shift's


class GaussianMagnitude(Law):
    """|Z| of the discrete Gaussian law P(Z = z) ~ exp(-z**2 / (2 sigma**2)) (Canonne, Kamath, Steinke 2020).

    What it gives as noise: see `app.privacy.gaussian`.

    Parameters
    ----------
    sigma : float
        > 0, in units of the grid; taken as the exact rational number that the float is.
    """

    def __init__(self, sigma: float) -> None:
        self.sigma = Fraction(sigma)

    def cumulative(self, bits: int) -> tuple[list[int], int]:
        """See `Law`. With r_k = exp(-(2k + 1) / (2 sigma**2)): w_(k+1) = w_k r_k and r_(k+1) = r_k exp(-1 / sigma**2).

        Every product loses less than 4 units of the working precision, so after k steps w_k is off by less than
        4 k**2, and sums of the at most 2**22 weights by less than 2**70: far below the 128 digits that are dropped.
        """
        work = bits + 128
        ratio, step = exponential(-1 / (2 * self.sigma**2), work), exponential(-1 / self.sigma**2, work)
        sums: list[int] = []
        weight, total = 1 << work, 0
        while weight:
            total += weight if not sums else 2 * weight
            sums.append(total)
            weight, ratio = weight * ratio >> work, ratio * step >> work
            _check_size(sums)
        table = [(part << bits) // total for part in sums]
        last = next(index for index, value in enumerate(table) if value >= (1 << bits) - 1)
        return table[: last + 1], 2


class Shift(Law):
    """By how many classes randomised response moves a label: 0 with probability e**epsilon / (e**epsilon + k - 1).

    Each of the other k - 1 shifts has probability 1 / (e**epsilon + k - 1).
    """

    def __init__(self, epsilon: float, classes: int) -> None:
        self.epsilon, self.classes = Fraction(epsilon), classes

    def cumulative(self, bits: int) -> tuple[list[int], int]:
        """See `Law`; F(s) = (1 + s x) / (1 + (k - 1) x) with x = exp(-epsilon)."""
        work = bits + 64
        one, x = 1 << work, exponential(-self.epsilon, work)
        total = one + (self.classes - 1) * x
        return [((one + shift * x) << bits) // total for shift in range(self.classes)], 2


def exponential(exponent: Fraction, bits: int) -> int:
    """Return exp(exponent) * 2**bits for an exponent <= 0, wrong by less than 1."""
    digits = int(bits * 0.30103) + 20
    with localcontext(Context(prec=digits, rounding=ROUND_HALF_EVEN, Emin=-(10**15), Emax=10**15)):
        value = (Decimal(exponent.numerator) / Decimal(exponent.denominator)).exp()
    numerator, denominator = value.as_integer_ratio() if value > Decimal(2) ** -(2 * bits) else (0, 1)
    return (numerator << bits) // denominator


def _check_size(table: list[int]) -> None:
    if len(table) > _LARGEST_TABLE:
        raise PrivacyError(f"noise on so fine a grid needs a table of more than {_LARGEST_TABLE} values")
