from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import strategies.exact as module
from app.protocol.errors import ProtocolError
from strategies.exact import MAX_ENTRY, check_updates, gram, squared_distances

PEAKS = [2**15, 2**31, MAX_ENTRY]


@st.composite
def vectors(draw: st.DrawFn) -> list[np.ndarray]:
    """Vectors of one width of entries, the ends of its range among them."""
    peak = draw(st.sampled_from(PEAKS))
    dtype = draw(st.sampled_from([np.int64] + [np.int16] * (peak == 2**15) + [np.int32] * (peak == 2**31)))
    entry = st.sampled_from([-peak, peak - 1, 0, 1, -1, peak // 2]) | st.integers(-peak, peak - 1)
    count, size = draw(st.integers(1, 6)), draw(st.integers(0, 7))
    rows = st.lists(entry, min_size=size, max_size=size)
    return [np.array(draw(rows), dtype=dtype) for _ in range(count)]


@given(vectors(), st.sampled_from([8, 200, 2**23]))
@settings(max_examples=200, deadline=None)
def test_products_and_distances_are_those_of_pythons_integers(rows: list[np.ndarray], block_bytes: int) -> None:
    plain = [row.tolist() for row in rows]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_BLOCK_BYTES", block_bytes)  # blocks of one column, of a few, of all
        products, distances = gram(rows), squared_distances(rows)
    assert products.tolist() == [[sum(a * b for a, b in zip(x, y, strict=True)) for y in plain] for x in plain]
    assert distances.tolist() == [[sum((a - b) ** 2 for a, b in zip(x, y, strict=True)) for y in plain] for x in plain]


@pytest.mark.parametrize(("bits", "dtype"), [(16, np.int16), (32, np.int32)])
def test_the_largest_distances_are_exact_over_many_columns(bits: int, dtype: type) -> None:
    """Beyond one block of 2**22 columns the sum exceeds 2**53, and float64 could not hold it."""
    size, low, high = 2**22 + 3, -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    rows = [np.full(size, low, dtype), np.full(size, high, dtype), np.full(size, high, dtype)]
    rows[2][0] -= 1
    span = 2**bits - 1
    far = size * span**2
    assert far > 2**53
    assert squared_distances(rows).tolist() == [
        [0, far, far - 2 * span + 1],
        [far, 0, 1],
        [far - 2 * span + 1, 1, 0],
    ]


def test_a_block_of_the_largest_products_stays_below_what_float64_holds() -> None:
    """One block, all products 2**30: the sum is 2**52, and one column more than 2**23 would be too many."""
    size = module._EXACT_COLUMNS
    assert size * 2**30 < 2**53
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_BLOCK_BYTES", 2**40)
        rows = [np.full(size, -(2**15), np.int16), np.full(size, -(2**15), np.int16)]
        rows[1][-1] += 1
        assert gram(rows).tolist() == [
            [size * 2**30, size * 2**30 - 2**15],
            [size * 2**30 - 2**15, size * 2**30 - 2**16 + 1],
        ]


@pytest.mark.parametrize(
    "bad",
    [
        np.zeros(3, np.int16),
        np.zeros((2, 1), np.int16),
        np.array([MAX_ENTRY + 1, 0]),
        np.array([0, -MAX_ENTRY - 1]),
        np.array([np.iinfo(np.int64).min, 0]),
        np.zeros(2),
        np.zeros(2, np.uint8),
        np.zeros(2, bool),
    ],
)
def test_hostile_vectors_are_refused(bad: np.ndarray) -> None:
    with pytest.raises(ProtocolError):
        check_updates([np.zeros(2, np.int16)] * 4 + [bad])


def test_no_vectors_are_refused() -> None:
    with pytest.raises(ProtocolError):
        check_updates([])
