"""What one record can change in a batch that is normalised together: the paper's modes, at the level of a record.

The paper bounds the change of one value, 2 sqrt(N - 1). But mean and deviation are the batch's, so replacing one
record moves all N values of a column. For one standardised column let the record's value be sqrt(N - 1) sin t, and
a z + b that of the others (z standardised over the other N - 1, a = sqrt(N / (N - 1)) cos t, b = -sin t / sqrt(N - 1)).
With s = sin t, c = cos t the change obeys

    ||x - x'||_1 <= sqrt(N - 1) (|s - s'| + sqrt(N (c - c')**2 + (s - s')**2)),    largest at c' = 0:
    Delta_1 = N sqrt((sqrt N + 1) / (sqrt N - 1))  ~  N + sqrt N + 1/2,

and it is attained. Two columns have an L1 norm of at most N each (Cauchy-Schwarz), so 2 N bounds it too, which is
less for N <= 2. A channel of P positions that is normalised as a whole has the same bound P Delta_1. Adding FLOOR to
the variance shrinks a column by a factor in [0, 1); the change is convex in the two factors, so its maximum lies at
factors of 0 and 1, where it is at most Delta_1 or N.
"""

from __future__ import annotations

import math


def column_sensitivity(records: int) -> float:
    """Return Delta_1: by how much, in L1 norm, one record can move a standardised column of ``records`` values."""
    if records <= 1:
        return 2.0 * records
    root = math.sqrt(records)
    return records * min(2.0, math.sqrt((root + 1.0) / (root - 1.0)))
