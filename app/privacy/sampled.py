"""What one Poisson-sampled Gaussian step loses when a record is *replaced* by another: exactly.

(Opacus' own accountant, like dp-accounting's, speaks of adding or removing a record.) A step sums the clipped gradients
of the records that are drawn, each with probability r, and adds N(0, z**2 I), in units of the clip. For what else was
drawn the laws to tell apart are, with A the law without the record, B and B' with the one and with the other,

    P = (1 - r) A + r B,    Q = (1 - r) A + r B',    A = N(0, z**2 I),  B = N(u, z**2 I),  B' = N(v, z**2 I),

where u and v lie in the unit ball; mixing over what else was drawn, which is the same on both sides, only helps.

**The worst pair is u = -v of length 1.** For exp(e) >= 1 the divergence of P from Q is

    delta(e) = max over sets S of  r B(S) - (1 - r) (exp(e) - 1) A(S) - r exp(e) B'(S).

Let S be the best set for some u and v, and p = A(S). By Neyman and Pearson no set of A-probability p has more of B, or
less of B', than a half-space across the line to its mean, so that with Phi the normal distribution

    B(S) <= Phi(Phi^-1(p) + |u| / z) <= Phi(Phi^-1(p) + 1 / z),    B'(S) >= Phi(Phi^-1(p) - 1 / z).

With u a unit vector and v = -u *one* half-space of A-probability p attains both. All three terms are then at least as
large, since A(S) is p in both: the divergence of that pair is no smaller. The same holds with the two records
exchanged, which settles exp(e) < 1 by symmetry. So the pair dominates all others at every e, and steps may be composed
by it, also where later ones are chosen after earlier ones were seen (Zhu, Dong, Wang 2022).

Its likelihood ratio grows with x, so the best set is x > t, with exp(t / z**2) = y the root of

    r a y**2 - (1 - r) (exp(e) - 1) y - r a exp(e) = 0,    a = exp(-1 / (2 z**2)).
"""

from __future__ import annotations

import math

_ROOT_2 = math.sqrt(2.0)
_ROUNDING = 2.0**-44  # of the probabilities that are subtracted: many times what float64 can be off


def sampled_delta(multiplier: float, rate: float, epsilon: float) -> float:
    """Return the smallest delta for which a step is (epsilon, delta)-private; rounded up.

    Parameters
    ----------
    multiplier : float
        z: deviation of the noise over the norm that a gradient is clipped to, > 0.
    rate : float
        r, in (0, 1].
    epsilon : float
        >= 0.
    """
    more = math.expm1(epsilon)
    # Divided by exp(epsilon / 2), and with the logarithm of a, so that nothing overflows.
    half = 0.5 * (1.0 - rate) * more * math.exp(-0.5 * epsilon)
    log_a = -0.5 / (multiplier * multiplier)
    root = half + math.hypot(half, rate * math.exp(log_a))
    threshold = multiplier * multiplier * (math.log(root / rate) - log_a + 0.5 * epsilon)
    none, one, other = (_beyond((threshold - mean) / multiplier) for mean in (0.0, 1.0, -1.0))
    gained, lost = rate * one, (1.0 - rate) * more * none + rate * (more + 1.0) * other
    return min(1.0, max(0.0, gained - lost) + _ROUNDING * (gained + lost))


def _beyond(x: float) -> float:
    """Return the probability that a normal variable exceeds ``x``."""
    return 0.5 * math.erfc(x / _ROOT_2)
