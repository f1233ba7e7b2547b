"""Normalisations: formulas against torch's layers, bounds, edge cases, and who depends on whom."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch.nn import functional

from app.privacy.normalisation import FLOOR, FeatureSpace, constants, normalise
from app.protocol.errors import PrivacyError

SPACE = FeatureSpace((3, 2, 4))
"""Three channels of 2 x 4 positions."""


def rows(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(2.0, 3.0, size=(n, SPACE.size))


@pytest.mark.parametrize("n", [2, 5, 64])
def test_they_are_torchs_normalisations(n: int) -> None:
    x = rows(n)
    maps = torch.from_numpy(x).reshape(n, 3, 2, 4)
    expected = {
        "none": maps,
        "record": functional.instance_norm(maps, eps=FLOOR),
        "batch": functional.batch_norm(torch.from_numpy(x), None, None, training=True, eps=FLOOR),
        "map": functional.batch_norm(maps, None, None, training=True, eps=FLOOR),
    }
    for name, value in expected.items():
        assert np.allclose(normalise(name, x, SPACE), value.reshape(n, -1).numpy(), atol=1e-12), name


def test_public_uses_the_constants_it_is_given() -> None:
    public = rows(50, 1)
    mean, deviation = constants(public, SPACE)
    space = FeatureSpace(SPACE.shape, mean, deviation)
    maps = public.reshape(50, 3, 8)
    assert np.allclose(mean, maps.mean(axis=(0, 2)))
    standard = normalise("public", public, space).reshape(50, 3, 8)
    assert np.allclose(standard.mean(axis=(0, 2)), 0, atol=1e-12)
    assert np.allclose(standard.std(axis=(0, 2)), 1, atol=1e-5)
    with pytest.raises(PrivacyError, match="constants"):
        normalise("public", public, SPACE)
    flat = FeatureSpace((24,))
    assert constants(public, flat)[0].shape == (24,)


VALUES = arrays(np.float64, st.tuples(st.integers(1, 9), st.just(24)), elements=st.floats(-1e4, 1e4))


@given(VALUES)
def test_bounds_hold_at_every_batch_size(x: np.ndarray) -> None:
    n, positions = len(x), 8
    bounds = {"record": positions - 1, "batch": n - 1, "map": n * positions - 1}
    for name, square in bounds.items():
        assert np.abs(normalise(name, x, SPACE)).max() <= square**0.5 * (1 + 1e-9) + 1e-9, name


def test_the_bound_is_reached_by_a_lone_outlier() -> None:
    x = np.zeros((64, 24))
    x[0] = 1e6
    assert np.abs(normalise("batch", x, SPACE)).max() == pytest.approx(63**0.5)  # 7.937254


def test_one_record_and_no_variance() -> None:
    assert not normalise("batch", rows(1), SPACE).any()
    for name in ("record", "batch", "map"):
        assert not normalise(name, np.full((5, 24), 7.0), SPACE).any()
    tiny = np.zeros((4, 24))
    tiny[0, 0] = 1e-7  # a variance far below the floor is not blown up to 1
    assert np.abs(normalise("batch", tiny, SPACE)).max() < 1e-3


@pytest.mark.parametrize(("name", "coupled"), [("record", False), ("public", False), ("batch", True), ("map", True)])
def test_who_depends_on_whom(name: str, coupled: bool) -> None:
    space = FeatureSpace(SPACE.shape, np.zeros(3), np.ones(3))
    x, other = rows(6), rows(6)
    other[5] += 10.0
    same = np.array_equal(normalise(name, x, space)[:5], normalise(name, other, space)[:5])
    assert same is not coupled


def test_shapes() -> None:
    assert (SPACE.size, SPACE.channels, SPACE.positions) == (24, 3, 8)
    flat = FeatureSpace((24,))
    assert (flat.size, flat.channels, flat.positions) == (24, 1, 24)
    with pytest.raises(PrivacyError, match="not records of 24"):
        normalise("map", np.zeros((2, 23)), SPACE)
