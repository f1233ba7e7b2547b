"""Cryptographic sortition: how many of a miner's sub-users a VRF output selects, in exact integer arithmetic.

Zhao et al. 2020 take it from Algorand (Gilad et al., SOSP 2017, algorithm 1). A miner of weight m counts as m
sub-users, each of which is to be selected with probability p = tau / W, where W is the weight of all and tau how many
should be selected on average. One uniform number decides for all m at once: with u the miner's VRF output as a fraction
of its range, it has j selected sub-users if

    sum_{k<j} C(m,k) p^k (1-p)^(m-k)  <=  u  <  sum_{k<=j} C(m,k) p^k (1-p)^(m-k)

so that j is binomial with parameters m and p. Both papers print the interval one term later (sums to j and to j + 1):
then an output below the first term lies in no interval, and every other count comes out one too low.

No float decides: with p = a/b in lowest terms everything is multiplied by b^m, which leaves integers. A sum of
binomials with one p is binomial, so to split a weight among several accounts changes nothing; and what a miner gets out
of a weight does not depend on who else has the rest, only on how much that is.
"""

from __future__ import annotations

from fractions import Fraction
from functools import lru_cache

from app.protocol.digest import sha256

OUTPUT_BITS = 512
_PREFIX = b"hearth/sub-user/1"


def chance(tau: int, total: int) -> Fraction:
    """Return p, with which a sub-user is selected: ``tau / total``, and 1 where that is less than ``tau``."""
    return Fraction(tau, max(tau, total)) if total else Fraction(0)


@lru_cache(maxsize=4096)
def selected(output: bytes, weight: int, p: Fraction) -> int:
    """Return j, how many of ``weight`` sub-users a VRF output selects.

    Parameters
    ----------
    output : bytes
        The VRF output (64 bytes), read as a big-endian number in ``0..2**512 - 1``.
    weight : int
        m, the miner's sub-users; the work grows with its size in bits times ``weight`` (65,535 take some 0.1 s).
    p : Fraction
        From `chance`.
    """
    a, b = p.numerator, p.denominator
    if a == b:
        return weight
    # term = C(m,j) a^j (b-a)^(m-j); the division is exact, as the result is again such a product
    scale, term = int.from_bytes(output, "big") * b**weight, (b - a) ** weight
    j, total = 0, term
    while scale >= total << OUTPUT_BITS:
        j += 1
        term = term * (weight - j + 1) * a // (j * (b - a))
        total += term
    return j


@lru_cache(maxsize=4096)
def priority(output: bytes, count: int) -> bytes:
    """Return the lowest SHA-256 of prefix, output and index (4 bytes) of the first ``count`` sub-users (32 bytes).

    The lower, the earlier: each sub-user draws its own number, so one of m has the lowest of W with probability m / W.
    """
    return min(sha256(_PREFIX + output + index.to_bytes(4, "big")) for index in range(count))
