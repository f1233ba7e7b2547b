"""The task-wide grid that every update and every model lies on.

Miners vote on a digest, so two machines must get the same bits. A float sum depends on its order and on the machine;
an integer sum does not. A weight is therefore an integer k that stands for ``k * 2**-bits``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from app.protocol.errors import ProtocolError

UPDATE_DTYPES: dict[str, np.dtype[np.signedinteger]] = {"int16": np.dtype("<i2"), "int32": np.dtype("<i4")}
"""The type of an update's entries by a task's precision: twice the bytes buy 65,536 times the range."""
UPDATE_DTYPE = UPDATE_DTYPES["int16"]
MODEL_DTYPE = np.dtype("<i4")


@dataclass(frozen=True, slots=True)
class Grid:
    """A power-of-two grid: the integer k stands for the real number ``k * 2**-fractional_bits``.

    Attributes
    ----------
    fractional_bits : int
        Bits after the point, 1 to 24. With 14, a step is 6.1e-5 and an int16 update spans -2 to 2.
    """

    fractional_bits: int

    def __post_init__(self) -> None:
        if not 1 <= self.fractional_bits <= 24:
            raise ProtocolError(f"fractional bits must be 1 to 24, not {self.fractional_bits}")

    def encode(self, values: npt.ArrayLike, dtype: np.dtype[np.signedinteger]) -> tuple[npt.NDArray[np.int64], int]:
        """Round real numbers to the grid, half to even, and saturate at the range of ``dtype``.

        Parameters
        ----------
        values : array_like of float
            Any shape; every entry finite.
        dtype : numpy.dtype
            The integer type whose range bounds the result (`UPDATE_DTYPES`, `MODEL_DTYPE`).

        Returns
        -------
        integers : numpy.ndarray of int64
            Same shape.
        saturated : int
            How many entries were outside the range.

        Raises
        ------
        ProtocolError
            If an entry is NaN or infinite.
        """
        scaled = np.asarray(values, dtype=np.float64) * 2.0**self.fractional_bits  # exact: a power of two
        if not np.isfinite(scaled).all():
            raise ProtocolError("NaN or infinity cannot be put on the grid")
        rounded = np.rint(scaled)
        low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
        clipped = np.clip(rounded, low, high)
        return clipped.astype(np.int64), int(np.count_nonzero(clipped != rounded))

    def decode(self, integers: npt.NDArray[np.signedinteger]) -> npt.NDArray[np.float32]:
        """Return the real numbers that grid integers stand for, as float32."""
        return (integers.astype(np.float64) * 2.0**-self.fractional_bits).astype(np.float32)


def divide_rounded(numerator: npt.NDArray[np.int64], denominator: int | npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Divide integers and round to the nearest, halves upwards: ``floor((2 a + b) / (2 b))``.

    The one division of the protocol. Python's and NumPy's ``//`` both round to minus infinity, so it is the same on
    every machine.

    Parameters
    ----------
    numerator : numpy.ndarray of int64
        Entries a with ``|2 a + b| < 2**63``.
    denominator : int or numpy.ndarray of int64
        b, positive; one for all entries, or one for each.
    """
    least, most = int(np.min(denominator, initial=2**62)), int(np.max(denominator, initial=1))
    if least <= 0:
        raise ProtocolError(f"the denominator must be positive, not {least}")
    bound = max(int(numerator.max(initial=0)), -int(numerator.min(initial=0)))  # Python integers: they do not overflow
    if 2 * bound + most >= 2**63 or 2 * most >= 2**63:
        raise ProtocolError("the sum of the weighted updates does not fit 63 bits")
    return np.asarray((2 * numerator + denominator) // (2 * denominator), dtype=np.int64)


def apply_update(model: npt.NDArray[np.int64], update: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Add an aggregated update to a model, both on the grid, saturating at the model's int32 range."""
    info = np.iinfo(MODEL_DTYPE)
    return np.asarray(np.clip(model + update, info.min, info.max), dtype=np.int64)
