from __future__ import annotations

import contextlib
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from app.protocol.errors import ProtocolError
from app.protocol.fixed_point import MODEL_DTYPE, UPDATE_DTYPES, Grid, apply_update, divide_rounded

GRIDS = st.builds(Grid, st.integers(1, 24))


@pytest.mark.parametrize("dtype", UPDATE_DTYPES.values(), ids=UPDATE_DTYPES)
@given(grid=GRIDS, data=st.data())
def test_grid_points_survive_the_round_trip(dtype: np.dtype[np.signedinteger], grid: Grid, data: st.DataObject) -> None:
    """As long as float32 holds them, which has 24 bits."""
    most = min(2**24, np.iinfo(dtype).max)
    integers = data.draw(hnp.arrays(np.int64, st.integers(0, 20), elements=st.integers(-most, most)))
    encoded, saturated = grid.encode(grid.decode(integers), dtype)
    assert encoded.tolist() == integers.tolist()
    assert saturated == 0


@pytest.mark.parametrize("dtype", UPDATE_DTYPES.values(), ids=UPDATE_DTYPES)
@given(grid=GRIDS, values=st.lists(st.floats(-(2.0**40), 2.0**40), max_size=20))
def test_encode_is_exact_rounding_and_saturation(
    dtype: np.dtype[np.signedinteger], grid: Grid, values: list[float]
) -> None:
    """Against rational arithmetic: round half to even, then clip."""
    encoded, saturated = grid.encode(values, dtype)
    exact = [round(Fraction(value) * 2**grid.fractional_bits) for value in values]
    low, high = int(np.iinfo(dtype).min), int(np.iinfo(dtype).max)
    assert encoded.tolist() == [min(max(k, low), high) for k in exact]
    assert saturated == sum(not low <= k <= high for k in exact)
    assert encoded.dtype == np.int64


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_refused(bad: float) -> None:
    with pytest.raises(ProtocolError, match="NaN or infinity"):
        Grid(14).encode([0.0, bad], MODEL_DTYPE)


@pytest.mark.parametrize("bits", [0, 25, -1])
def test_grid_has_1_to_24_bits(bits: int) -> None:
    with pytest.raises(ProtocolError, match="1 to 24"):
        Grid(bits)


@given(st.lists(st.tuples(st.integers(-(2**61), 2**61), st.integers(1, 2**61)), min_size=1, max_size=20))
def test_each_entry_may_have_a_denominator_of_its_own(pairs: list[tuple[int, int]]) -> None:
    numerators, denominators = (np.array(column, dtype=np.int64) for column in zip(*pairs, strict=True))
    try:
        result = divide_rounded(numerators, denominators)
    except ProtocolError:
        assert 2 * int(np.abs(numerators).max()) + int(denominators.max()) >= 2**63
        return
    assert result.tolist() == [math.floor(Fraction(a, b) + Fraction(1, 2)) for a, b in pairs]
    with pytest.raises(ProtocolError, match="positive"):
        divide_rounded(numerators, np.zeros_like(denominators))


@given(st.lists(st.integers(-(2**61), 2**61), min_size=1, max_size=20), st.integers(1, 2**61))
def test_division_is_that_of_the_rationals(numerators: list[int], denominator: int) -> None:
    result = divide_rounded(np.array(numerators, dtype=np.int64), denominator)
    assert result.tolist() == [math.floor(Fraction(a, denominator) + Fraction(1, 2)) for a in numerators]


@pytest.mark.parametrize(
    ("a", "b", "expected"), [(1, 2, 1), (-1, 2, 0), (3, 2, 2), (-3, 2, -1), (5, 3, 2), (-5, 3, -2)]
)
def test_halves_go_upwards(a: int, b: int, expected: int) -> None:
    assert divide_rounded(np.array([a]), b).tolist() == [expected]


@pytest.mark.parametrize("denominator", [0, -3])
def test_the_denominator_is_positive(denominator: int) -> None:
    with pytest.raises(ProtocolError, match="positive"):
        divide_rounded(np.array([1]), denominator)


@pytest.mark.parametrize("peak", [2**62, -(2**62), 2**63 - 1, -(2**63)])
def test_sums_that_are_too_large_are_refused(peak: int) -> None:
    with pytest.raises(ProtocolError, match="63 bits"):
        divide_rounded(np.array([0, peak]), 1)


@pytest.mark.parametrize("denominator", [2**62 - 1, 2**62, 2**62 + 1, 2**63, 2**80])
def test_denominators_that_are_too_large_are_refused_or_exact(denominator: int) -> None:
    with contextlib.suppress(ProtocolError):
        assert divide_rounded(np.array([0, 1]), denominator).tolist() == [0, 0]


def test_a_model_saturates_at_int32() -> None:
    model = np.array([2**31 - 5, -(2**31) + 5, 0])
    update = np.array([10, -10, 7])
    assert apply_update(model, update).tolist() == [2**31 - 1, -(2**31), 7]
