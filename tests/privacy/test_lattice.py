"""The grid and the ball: exact in integers, whatever float64 does."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from app.privacy.lattice import clip_rows, grid_step, to_ball, to_ball_quickly

ROWS = arrays(np.float64, st.tuples(st.integers(0, 6), st.integers(1, 12)), elements=st.floats(-1e6, 1e6))


@given(ROWS, st.integers(0, 10**6), st.sampled_from([1, 2]))
def test_integers_lie_in_the_ball_and_next_to_the_clipped_rows(rows: np.ndarray, radius: int, order: int) -> None:
    integers = to_ball(rows, radius, order)
    assert integers.dtype == np.int64
    exact = [sum(abs(int(k)) ** order for k in row) for row in integers]
    assert all(size <= radius**order for size in exact)
    if radius:
        assert np.abs(integers - clip_rows(rows, radius, order)).max(initial=0) <= 1.0 + 1e-6
    inside = np.linalg.norm(rows, ord=order, axis=1) < radius - rows.shape[1]
    assert np.array_equal(integers[inside], np.rint(rows[inside] * (1 - 2.0**-40)))


@pytest.mark.parametrize("order", [1, 2])
def test_records_on_the_sphere_stay_close_to_it(order: int) -> None:
    """Rounding towards zero would shrink such records, and bias them; the nearest point inside does not."""
    rows = np.random.default_rng(0).normal(size=(2000, 64))
    rows *= 1024 / np.linalg.norm(rows, ord=order, axis=1, keepdims=True)
    integers = to_ball(rows, 1024, order)
    lengths = np.linalg.norm(integers, ord=order, axis=1)
    assert lengths.max() <= 1024
    assert lengths.mean() > 1023
    truncated = np.linalg.norm(np.trunc(rows), ord=order, axis=1).mean()
    assert truncated < 1024 - 2  # what would be lost
    assert abs(np.mean(np.sum(integers * rows, axis=1) / np.sum(rows * rows, axis=1)) - 1) < 0.002


@given(ROWS, st.integers(0, 10**6))
def test_the_quick_way_lies_in_the_ball_too(rows: np.ndarray, radius: int) -> None:
    integers = to_ball_quickly(rows, radius)
    assert all(sum(int(k) ** 2 for k in row) <= radius**2 for row in integers)
    inside = np.linalg.norm(rows, axis=1) < radius - rows.shape[1]
    assert np.array_equal(integers[inside], np.rint(rows[inside]))


def test_the_quick_way_keeps_long_rows_close_to_the_sphere_and_their_direction() -> None:
    rows = np.random.default_rng(1).normal(size=(50, 20_000))
    rows *= 2000 / np.linalg.norm(rows, axis=1, keepdims=True)
    integers = to_ball_quickly(rows, 1024).astype(np.float64)
    lengths = np.linalg.norm(integers, axis=1)
    assert lengths.max() <= 1024
    assert lengths.min() > 1020
    assert (np.sum(integers * rows, axis=1) / lengths / 2000).min() > 0.999


def test_the_quick_way_survives_rows_that_overflow_when_squared() -> None:
    assert not to_ball_quickly(np.full((1, 3), 1e200), 10).any()


@given(st.floats(1e-6, 1e6), st.floats(1e-6, 1e12))
def test_the_step_is_a_power_of_two_within_its_limits(clip: float, ratio: float) -> None:
    noise = clip * ratio
    step = grid_step(clip, noise)
    assert math.frexp(step)[0] == 0.5
    assert noise / step <= 2**14
    assert clip / step <= 2**22
    if 2.0**-13 <= ratio <= 16:
        assert clip / step >= 512
        assert noise / step >= 256


@given(ROWS, st.floats(1e-3, 1e3))
def test_short_rows_are_untouched_and_long_ones_scaled(rows: np.ndarray, clip: float) -> None:
    for order in (1, 2):
        norms, clipped = np.linalg.norm(rows, ord=order, axis=1), clip_rows(rows, clip, order)
        assert (np.linalg.norm(clipped, ord=order, axis=1) <= clip * (1 + 1e-12)).all()
        assert np.array_equal(clipped[norms < clip * (1 - 1e-12)], rows[norms < clip * (1 - 1e-12)])
        assert np.allclose(clipped * np.maximum(norms, clip)[:, None], rows * clip, rtol=1e-9, atol=1e-300)
